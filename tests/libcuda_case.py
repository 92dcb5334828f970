"""The stand-in for libcuda: built once a session, and what it writes down."""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.aot.abi import box_of
from kernels.cuda.device.base import Descriptor
from kernels.cuda.device.compile import DESCRIPTOR, Code
from kernels.cuda.device.driver import Driver
from kernels.cuda.device.launcher import Launcher
from kernels.cuda.device.source import source_of, waits_first

#: Triton's number of an element's type by its bytes: bfloat16 and float32.
ELEMENTS = {2: 10, 4: 8}


class Seen(ctypes.Structure):
    """``seen`` of fake_libcuda.c."""

    _fields_ = [
        ("grid", ctypes.c_int32 * 3), ("block", ctypes.c_int32 * 3), ("shared", ctypes.c_int32), ("static_shared", ctypes.c_int32),
        ("parameters", ctypes.c_int32), ("sizes", ctypes.c_int32 * 64),
        ("stream", ctypes.c_uint64), ("context_sets", ctypes.c_uint64), ("loads", ctypes.c_uint64),
        ("attribute", ctypes.c_int32 * 4), ("attribute_count", ctypes.c_int32),
        ("values", (ctypes.c_ubyte * 128) * 64), ("name", ctypes.c_char * 64),
        ("map_kind", ctypes.c_int32), ("map_rank", ctypes.c_int32), ("map_interleave", ctypes.c_int32), ("map_swizzle", ctypes.c_int32),
        ("map_promotion", ctypes.c_int32), ("map_fill", ctypes.c_int32), ("map_address", ctypes.c_uint64),
        ("map_shape", ctypes.c_uint64 * 5), ("map_strides", ctypes.c_uint64 * 5), ("map_box", ctypes.c_uint32 * 5),
        ("map_steps", ctypes.c_uint32 * 5), ("refused_ranks", ctypes.c_uint32),
        ("dependent", ctypes.c_int32), ("rule", ctypes.c_int32), ("behind", ctypes.c_int32),
        ("launches", ctypes.c_uint64), ("early", ctypes.c_uint64),
    ]  # fmt: skip


@functools.cache
def libcuda() -> str:
    """Its path."""
    folder = tempfile.mkdtemp(prefix="libcuda")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / "libcuda.so")
    source = Path(__file__).with_name("fake_libcuda.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", str(source), "-o", path], check=True)
    return path


def seen_by(library: str) -> Seen:
    """``seen`` of the library."""
    return Seen.in_dll(ctypes.CDLL(library), "seen")


def cleared(library: str) -> Seen:
    """``seen`` of the library, all zero."""
    record = seen_by(library)
    ctypes.memset(ctypes.byref(record), 0, ctypes.sizeof(record))
    return record


class NoLaunches(Driver):
    """The stand-in through the engine's own `Driver`. Functions are their names; a launch keeps how it was made: ``launched``."""

    def __init__(self) -> None:
        super().__init__(libcuda())
        self.launched: list[tuple[Any, ...]] = []

    def load(self, image: bytes, name: str, shared: int) -> Any:
        return name

    def allow_shared(self, function: Any, shared: int) -> None:
        pass

    def launch(self, function, grid, block, shared, stream, parameters, dependent=False) -> None:
        self.launched.append((function, tuple(grid), tuple(block), shared, stream, [ctypes.sizeof(p) for p in parameters], dependent))


def uncompiled(launch) -> Code:
    """What stands for the code of a launch; its boxes are those that `bench.aot` finds in compiled code."""
    boxes = [box_of(kind) for kind in launch.signature.values() if DESCRIPTOR.match(kind)]
    about = tuple({"elem_type": ELEMENTS[box["elem_size"]], **box} for box in boxes)
    waits = waits_first(source_of(launch.source), launch.name) if launch.kind == "cuda" else bool(launch.constexprs.get("DEPENDENT"))
    return Code(b"waits" if waits else b"no code", launch.name, launch.warps, 0, about, waits)


class NoCompiler(Launcher):
    """The engine's own `Launcher` with code that was not compiled."""

    def load(self, launch, code=None):
        return super().load(launch, uncompiled(launch))

    def tensor_map(self, descriptor: Descriptor) -> Any:
        """The map of a descriptor alone."""
        box = box_of(descriptor.type)
        return self._tensor_map(descriptor, {"elem_type": ELEMENTS[box["elem_size"]], **box})
