"""Compiles the native library's sources, for the tests, as a library or together with a program."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from kernels.cpu.native import library

WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compile_native(out: Path, *flags: str, compiler: str = "g++", sources: Sequence[Path | str] = (), timeout: int = 600) -> Path:
    """``out``, compiled from the native sources and ``sources`` with these flags.

    Raises:
        RuntimeError: with the compiler's own words.
    """
    command = [
        compiler,
        "-std=c++17",
        "-pthread",
        *WARNINGS,
        f"-I{library.HERE}",
        *flags,
        *map(str, (*library.SOURCES, *sources)),
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return out


def shared_library(out: Path, *flags: str) -> Path:
    """A library that `kernels.cpu.native.library.load` takes, for this processor."""
    return compile_native(out, "-O3", "-march=native", "-shared", "-fPIC", "-fvisibility=hidden", *flags)
