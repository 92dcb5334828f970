"""The library of this folder's C++ files, compiled for this machine at first use and kept in the user's cache.

A file's name there has two parts: a hash of all that it depends on (sources, flags, compiler, processor), so that one copied to another
machine is never loaded there, and a hash of its bytes, so that a damaged one is not either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels.cache import cache_folder
from kernels.cpu.native import library
from kernels.cpu.native.commands import Commands, Failed, Unavailable, one_line
from kernels.cpu.native.compiler import FLAGS, LEVELS, Compiler, find_compiler, flags_of, processor, vectors, words

TIMEOUT, ZIG_TIMEOUT = 60.0, 300.0  # seconds; zig compiles its C++ library first, once in a user's life
ROOT = library.HERE.parents[2]  # the folder of the package kernels
TRY = """
import sys
sys.path.insert(0, sys.argv[1])
from kernels.cpu.native import build, library
loaded = library.load(sys.argv[2])
loaded.set_threads(2)
build.self_check(loaded)
"""


class Built(NamedTuple):
    """A library that can be called, the vectors that it works on ("AVX-512", …) and the compiler that made it."""

    library: Any
    vectors: str
    compiler: str


_opened: dict[Any, Built | str] = {}


def open_library(level: str | None = None, progress: Callable[[str], None] | None = None) -> Built:
    """The library for this machine: from the cache, or compiled now. What came of it is kept as long as the process lives.

    Args:
        level: "native" (all that this processor has), "avx512", "avx2" or "baseline"; None: what $VAEGAN_NATIVE_LEVEL says, else "native".
            Flags in $VAEGAN_NATIVE_FLAGS are put behind the others.
        progress: called with one line where the library must be compiled.

    Raises:
        Unavailable: it cannot be had.
        ValueError: an unknown level.
    """
    level = level or os.environ.get("VAEGAN_NATIVE_LEVEL") or "native"
    if level not in LEVELS:
        raise ValueError(f"VAEGAN_NATIVE_LEVEL: got {level!r}, expected one of {', '.join(LEVELS)}")
    extra = os.environ.get("VAEGAN_NATIVE_FLAGS", "")
    key = level, extra, *(os.environ.get(name) for name in ("CXX", "PATH", "XDG_CACHE_HOME"))
    if key not in _opened:
        try:
            _opened[key] = _open(level, words(extra), progress)
        except Unavailable as error:
            _opened[key] = str(error)
        except (OSError, RuntimeError, AttributeError) as error:  # a full disk, a cache that cannot be written, another's library
            _opened[key] = one_line(f"the CPU kernels cannot be compiled: {error}")
    found = _opened[key]
    if isinstance(found, str):
        raise Unavailable(found)
    return found


def _open(level: str, extra: tuple[str, ...], progress: Callable[[str], None] | None) -> Built:
    if sys.platform == "win32":
        raise Unavailable("there is no native engine for Windows")
    compiler = find_compiler()
    choices = flags_of(compiler, level)
    texts = [path.read_bytes() for path in (*library.SOURCES, *library.HEADERS)]
    key = _digest(repr((texts, FLAGS, choices, extra, compiler, processor()[0], platform.system())).encode())
    folder = cache_folder("native")
    for path in folder.glob(f"{key}-*.so"):
        with contextlib.suppress(OSError, AttributeError, Unavailable):  # made for another C library, say, or just removed
            if path.stem.split("-")[1] == _digest(path.read_bytes()):
                return _checked(path, compiler)
        path.unlink(missing_ok=True)
    if progress is not None:
        takes = "up to a minute: zig compiles its C++ library, too" if compiler.zig else "about 5 s"
        progress(f"compiling the CPU kernels for this machine (once, {takes})")
    return _checked(_build(compiler, choices, extra, folder, key), compiler)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _checked(path: Path, compiler: Compiler) -> Built:
    loaded = library.load(path)
    self_check(loaded)
    return Built(loaded, vectors(loaded.vector_width()), compiler.title)


def self_check(loaded: Any) -> None:
    """One operation of a loaded library against NumPy. Raises `Unavailable`."""
    x = np.sin(np.arange(40_001, dtype=np.float32))
    x[7] = np.nan
    y = np.empty_like(x)
    loaded.relu_forward(y, x, x.size)
    if not np.array_equal(y, np.maximum(x, 0), equal_nan=True):
        raise Unavailable("the compiled CPU kernels compute wrong values")


def _build(compiler: Compiler, choices: Sequence[tuple[str, ...]], extra: tuple[str, ...], folder: Path, key: str) -> Path:
    """Compile and link in a folder of its own, try the result in a process of its own, then move it to its name in ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        place = Path(name)
        commands = Commands(compiler.name, place, ZIG_TIMEOUT if compiler.zig else TIMEOUT)
        compile_ = (*compiler.command, *FLAGS, *accepted(compiler, choices, commands), *extra)
        units = [(str(source), str(place / f"{source.stem}.o")) for source in library.SOURCES]
        built = place / "library.so"
        commands.run([[*compile_, "-c", source, "-o", unit] for source, unit in units])
        commands.run([[*compile_, "-shared", *(unit for _, unit in units), "-o", str(built)]])
        if not built.is_file():
            raise Unavailable(f"{compiler.name} failed: it wrote no library")
        try:  # in a process of its own: an illegal instruction would end this one
            commands.run([[sys.executable, "-c", TRY, str(ROOT), str(built)]])
        except Failed as error:
            raise Unavailable(f"what {compiler.name} built does not run here: {error.line}") from None
        path = folder / f"{key}-{_digest(built.read_bytes())}.so"
        os.replace(built, path)
    return path


def accepted(compiler: Compiler, choices: Sequence[tuple[str, ...]], commands: Commands) -> tuple[str, ...]:
    """The first of ``choices`` that the compiler takes, else the last: its error is told where the sources are compiled."""
    empty = commands.folder / "empty.cpp"
    empty.write_bytes(b"")
    for flags in choices[:-1]:
        with contextlib.suppress(Failed):
            commands.run([[*compiler.command, *FLAGS, *flags, "-c", str(empty), "-o", str(empty.with_suffix(".o"))]])
            return flags
    return choices[-1]
