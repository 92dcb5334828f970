"""Compiles the native library's sources, for the tests, as a library or together with a program."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from kernels.cpu.native import library

FLAGS = (
    "-std=c++17", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror",
    f"-I{library.HERE}",
)  # fmt: skip


def compile_native(out: Path, sources: Iterable[Path], *flags: str, compiler: str = "g++") -> Path:
    """``out``, a program or a library of ``sources`` with these flags.

    Raises:
        RuntimeError: with the compiler's own words.
    """
    command = [compiler, *FLAGS, *flags, *map(str, sources), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return out


def shared_library(out: Path) -> Path:
    """A library that `kernels.cpu.native.library.load` takes, for this processor."""
    return compile_native(out, library.SOURCES, "-O3", "-march=native", "-shared", "-fPIC", "-fvisibility=hidden")
