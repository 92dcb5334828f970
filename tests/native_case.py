"""The native engine for tests, at each level of vectors."""

from __future__ import annotations

import pytest

from kernels.cpu.native import build
from kernels.cpu.native.compiler import Unavailable
from kernels.cpu.native.engine import NativeEngine

#: Each a width of vectors: the widest that this machine has, 8 and 4.
LEVELS = ("native", "avx2", "baseline")


def native_engine(level: str = "native", threads: int | None = None) -> NativeEngine:
    """The native engine at a level; skips, and says so, where it cannot be had."""
    try:
        library, vectors, compiler = build.open_library(level)
    except Unavailable as error:
        pytest.skip(f"the native engine at level {level}: {error}")
    return NativeEngine(library, threads, vectors=vectors, compiler=compiler)
