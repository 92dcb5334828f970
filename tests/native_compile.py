"""Compiles the native library's sources, for the tests, as a library or together with a program."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from kernels.cpu.native import compiler, library

FLAGS = (*compiler.FLAGS, "-Wall", "-Wextra", "-Werror", f"-I{library.HERE}")


def compile_native(out: Path, sources: Iterable[Path], *flags: str, command: str = "g++") -> Path:
    """``out``, a program or a library of ``sources`` with these flags.

    Raises:
        RuntimeError: with the compiler's own words.
    """
    line = [command, *FLAGS, *flags, *map(str, sources), "-o", str(out)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}\n{done.stderr}")
    return out


def shared_library(out: Path) -> Path:
    """A library that `kernels.cpu.native.library.load` takes, for this processor."""
    return compile_native(out, library.SOURCES, "-march=native", "-shared")
