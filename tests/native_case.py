"""The native engine for tests: its library built by the compiler at hand, once in a session for each width of vectors."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kernels.cpu.native import library
from kernels.cpu.native.engine import NativeEngine

#: Of each level, the compiler's options and the macro that says that this machine has it; "native" is the widest.
LEVELS = {
    "native": (("-march=native", "-mprefer-vector-width=512"), None),
    "avx2": (("-mavx2", "-mfma"), "__AVX2__"),
    "baseline": ((), None),
}
FLAGS = (
    "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread",
    "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
)  # fmt: skip


def _compiler(*arguments: str) -> str:
    done = subprocess.run(["g++", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def _built(level: str) -> tuple[Any, Any]:
    """The library, and the folder that goes with the session."""
    options, macro = LEVELS[level]
    if macro and macro not in _compiler("-march=native", "-dM", "-E", "-x", "c++", "-"):
        pytest.skip(f"this machine's processor has no {level}")
    folder = tempfile.TemporaryDirectory(prefix="native-")
    path = Path(folder.name) / "kernels.so"
    _compiler(*FLAGS, *options, *map(str, library.SOURCES), "-o", str(path))
    return library.load(path), folder


def native_engine(level: str = "native", threads: int | None = None) -> NativeEngine:
    """The native engine at a level; skips, and says so, where there is no compiler."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the native engine's library")
    return NativeEngine(_built(level)[0], threads)
