"""Opening the native engine. Nothing of it is imported, and nothing compiled, before it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from kernels.cpu.native.build import open_library
from kernels.cpu.native.engine import NativeEngine


def open_engine(threads: int | None = None, *, level: str | None = None, progress: Callable[[str], None] | None = None) -> NativeEngine:
    """The float32 engine on ``threads`` threads (None: every core). ``level``, ``progress`` and errors: as `build.open_library`."""
    built = open_library(level, progress)
    return NativeEngine(built.library, threads, vectors=built.vectors, compiler=built.compiler)
