"""The text of CUDA C files as compilers get it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
CUDA = HERE.parent  # the folder that names of CUDA C files are relative to
KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\('
)
INCLUDE = re.compile(r'^#include "(\w+(?:/\w+)*\.cuh)"$', re.MULTILINE)


def source_of(file: str) -> str:
    """What is compiled for ``file`` (relative to kernels/cuda, or absolute): ``common.cuh``, then the file with its own line numbers, and
    in place of each ``#include`` the file that it names, relative to kernels/cuda."""
    path = CUDA / file
    text = path.read_text(encoding="utf-8")

    def included(found: re.Match[str]) -> str:
        line = text.count("\n", 0, found.end()) + 2
        return f'#line 1 "{found[1]}"\n{(CUDA / found[1]).read_text(encoding="utf-8")}#line {line} "{path.name}"'

    return (HERE / "common.cuh").read_text(encoding="utf-8") + f'#line 1 "{path.name}"\n' + INCLUDE.sub(included, text)


def kernels_of(text: str) -> list[str]:
    """The names of the ``extern "C" __global__`` functions in CUDA C text."""
    return KERNEL.findall(text)


def waits_first(text: str, name: str) -> bool:
    """Whether the first statement of kernel ``name`` waits for the launch before it."""
    found = next(match for match in KERNEL.finditer(text) if match[1] == name)
    return text[text.index("{", found.end()) + 1 :].lstrip().startswith("after_previous_launch();")
