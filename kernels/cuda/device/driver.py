"""The few functions of the CUDA driver API that launches need, through ctypes: names, numbers and parameters of ``cuda.h``.

The API reference is NVIDIA's "CUDA Driver API". Every return code is checked.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from kernels.cuda.device.arguments import Refused

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# CUfunction_attribute
SHARED_SIZE_BYTES = 1
MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
PREFERRED_SHARED_MEMORY_CARVEOUT = 9

# CUtensorMapL2promotion; interleave and fill have the value 0 here (none, zeros).
L2_PROMOTION_128B = 2

# CUlaunchAttributeID
PROGRAMMATIC_STREAM_SERIALIZATION = 6
#: The first driver that captures programmatic dependent launches as edges of a graph.
DEPENDENT_LAUNCHES = 12030

#: What switches in the environment may say, in any case.
ON, OFF = ("1", "true", "on", "y", "yes"), ("0", "false", "off", "n", "no")

UNLIMITED_STATIC = 48 << 10  # more dynamic shared memory than this must be asked for

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxSetCurrent": (c_void_p,),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuFuncGetAttribute": (POINTER(c_int), c_int, c_void_p),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, POINTER(c_void_p), c_void_p),
    "cuLaunchKernelEx": (c_void_p, c_void_p, POINTER(c_void_p), c_void_p),
    "cuTensorMapEncodeTiled": (
        c_void_p, c_int, c_uint32, c_void_p, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint32), POINTER(c_uint32),
        c_int, c_int, c_int, c_int,
    ),
}  # fmt: skip


class LaunchAttribute(ctypes.Structure):
    """``CUlaunchAttribute``: 64 bytes of value behind its number and 4 bytes of padding."""

    _fields_ = [("id", c_int), ("padding", c_int), ("value", c_int), ("rest", ctypes.c_char * 60)]


class LaunchConfig(ctypes.Structure):
    """``CUlaunchConfig``."""

    _fields_ = [
        ("grid", c_uint * 3), ("block", c_uint * 3), ("shared", c_uint), ("stream", c_void_p),
        ("attributes", POINTER(LaunchAttribute)), ("count", c_uint),
    ]  # fmt: skip


class Driver:
    """libcuda. A context must be current in the thread that creates it; other threads get the same one.

    Raises:
        RuntimeError: no library, or a function that it does not have.
    """

    def __init__(self, library: str = LIBRARY):
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise RuntimeError(f"device cuda: the NVIDIA driver's {library} cannot be loaded ({error}); install the driver") from error
        self._context = c_void_p()
        self._call("cuCtxGetCurrent", byref(self._context))
        self._threads = threading.local()

    def _function(self, name: str) -> Any:
        try:
            function = getattr(self._library, name)  # ctypes keeps it
        except AttributeError:
            raise RuntimeError(f"device cuda: the NVIDIA driver has no {name}: it is too old; update it") from None
        if function.argtypes is None:
            function.restype, function.argtypes = c_int, ARGUMENTS[name]
        return function

    def _call(self, name: str, *arguments: Any) -> None:
        if code := self._function(name)(*arguments):
            raise RuntimeError(f"device cuda: {name}: {self._describe(code)}")

    def _describe(self, code: int) -> str:
        texts = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            self._function(name)(code, byref(text))
            texts.append((text.value or b"?").decode())
        return f"{texts[0]} ({code}): {texts[1]}"

    def use_context(self) -> None:
        """Make the context current in this thread."""
        if not getattr(self._threads, "ready", False):
            self._call("cuCtxSetCurrent", self._context)
            self._threads.ready = True

    def load(self, image: bytes, name: str, shared: int) -> c_void_p:
        """The function ``name`` of a cubin or PTX text, allowed ``shared`` bytes of dynamic shared memory. It stays loaded."""
        self.use_context()
        module, function = c_void_p(), c_void_p()
        try:
            self._call("cuModuleLoadData", byref(module), image)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; while loading {name} (an older driver than the compiler's? update the driver)") from error
        self._call("cuModuleGetFunction", byref(function), module, name.encode())
        self.allow_shared(function, shared)
        return function

    def allow_shared(self, function: c_void_p, shared: int) -> None:
        """Let a function ask for ``shared`` bytes of dynamic shared memory."""
        static = c_int()
        self._call("cuFuncGetAttribute", byref(static), SHARED_SIZE_BYTES, function)
        if shared + static.value > UNLIMITED_STATIC:
            self._call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
            self._call("cuFuncSetAttribute", function, PREFERRED_SHARED_MEMORY_CARVEOUT, 100)

    def launch(
        self, function: c_void_p, grid: Sequence[int], block: Sequence[int], shared: int, stream: int, parameters: Sequence[Any],
        dependent: bool = False,
    ) -> None:  # fmt: skip
        """Launch; ``parameters`` are ctypes objects that the driver copies before this returns.

        ``dependent``: the kernel may begin while the one before it on the stream ends; it waits for that itself.
        """
        self.use_context()
        pointers = (c_void_p * max(1, len(parameters)))(*(ctypes.addressof(parameter) for parameter in parameters))
        if not dependent:
            return self._call("cuLaunchKernel", function, *grid, *block, shared, stream, pointers, None)
        attribute = LaunchAttribute(PROGRAMMATIC_STREAM_SERIALIZATION, 0, 1)
        config = LaunchConfig((c_uint * 3)(*grid), (c_uint * 3)(*block), shared, stream, ctypes.pointer(attribute), 1)
        self._call("cuLaunchKernelEx", byref(config), function, pointers, None)

    def tensor_map(
        self, address: int, element: int, kind: int, swizzle: int, shape: Sequence[int], strides: Sequence[int], box: Sequence[int]
    ) -> Any:
        """A tensor map (TMA descriptor): a ctypes object of 128 bytes at a multiple of 64, zeros outside the view.

        Args:
            element: bytes of an element. kind: CUtensorMapDataType. swizzle: CUtensorMapSwizzle.
            shape, strides (in elements), box: outermost first, as NumPy has them.

        Raises:
            Refused: the driver makes none, or has no function for it.
        """
        rank = len(shape)
        room = (ctypes.c_char * (128 + 64))()
        result = (ctypes.c_char * 128).from_buffer(room, -ctypes.addressof(room) % 64)
        extents = (c_uint64 * rank)(*reversed(shape))
        steps = (c_uint64 * rank)(*(stride * element for stride in reversed(strides[:-1])))  # of all axes but the innermost
        boxes, ones = (c_uint32 * rank)(*reversed(box)), (c_uint32 * rank)(*[1] * rank)
        arguments = (ctypes.addressof(result), kind, rank, address, extents, steps, boxes, ones, 0, swizzle, L2_PROMOTION_128B, 0)
        try:
            self._call("cuTensorMapEncodeTiled", *arguments)
        except RuntimeError as error:
            raise Refused(f"{error}; tensor map of shape {list(shape)}, strides {list(strides)}, box {list(box)}") from error
        return result


def driver_version(library: str = LIBRARY) -> int | None:
    """CUDA's version that the installed driver supports (12080: 12.8), or None where there is no driver."""
    try:
        function = ctypes.CDLL(library).cuDriverGetVersion
    except (OSError, AttributeError):
        return None
    version = c_int()
    return version.value if function(byref(version)) == 0 else None


def dependent_launches() -> bool:
    """Whether a kernel may begin before the one ahead of it has ended (sm_90 and later): $VAEGAN_DEPENDENT_LAUNCHES does not forbid it,
    and the driver captures that in graphs. Bits are the same with and without."""
    word = os.environ.get("VAEGAN_DEPENDENT_LAUNCHES") or "1"
    if word.lower() not in ON + OFF:
        raise RuntimeError(
            f"device cuda: VAEGAN_DEPENDENT_LAUNCHES: got {word!r}, expected 1 (on, true, yes) or 0 (off, false, no); set one, or unset it"
        )
    return word.lower() in ON and (driver_version() or 0) >= DEPENDENT_LAUNCHES
