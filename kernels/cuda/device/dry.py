"""A device that executes nothing: launches are recorded and memory is only counted. The ledger, the memory estimate and the list of
kernels to compile ahead of time come from running the engine's own code on it."""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, Launch
from kernels.cuda.device.chips import CHIPS, Chip
from kernels.cuda.device.host.streams import HostEvent, LaunchStream

LARGE = 1 << 20
MAP_NORESERVE = 0x4000 if sys.platform.startswith("linux") else 0  # from <sys/mman.h>; Python has no name for it before 3.13


class DryDevice(Device):
    """Launches go to ``launches`` and collectives to ``collectives`` (always lists); arrays are virtual memory that nobody touches, with
    undefined values.

    Attributes:
        allocated: bytes of all arrays and scratch so far, each rounded up to 512 as CuPy's pool does. Freed arrays still count:
            an engine allocates its buffers once.
    """

    name = "dry"
    executes = False

    def __init__(self, chip: Chip = CHIPS["sm_90"]):
        super().__init__(chip)
        self.launches, self.collectives = [], []
        self.allocated = 0
        self._scratch: dict[str, int] = {}
        self.stream = LaunchStream()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = _untouched(shape, np.dtype(dtype))
        self.allocated += _rounded(array.nbytes)
        return array

    def scratch(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = _untouched(shape, np.dtype(dtype))
        grown = max(0, _rounded(array.nbytes) - self._scratch.get(key, 0))
        self._scratch[key] = self._scratch.get(key, 0) + grown
        self.allocated += grown
        return array

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        return _untouched(shape, np.dtype(np.uint8))

    def new_stream(self) -> LaunchStream:
        return LaunchStream()

    def new_event(self) -> HostEvent:
        return HostEvent()

    def copy(self, array: Array, values: np.ndarray, stream: Any) -> None:
        pass

    def _put(self, array: np.ndarray, values: np.ndarray) -> None:
        pass

    def _download(self, array: Array) -> np.ndarray:
        """Zeros: nothing was computed."""
        return np.zeros(array.shape, array.dtype)

    def _address(self, value: Any) -> int | None:
        """As on a GPU: arrays start at a multiple of 256; a view keeps its distance from there."""
        if isinstance(value, Descriptor):
            value = value.array
        return value.ctypes.data if isinstance(value, np.ndarray) else value if isinstance(value, int) else None

    def _run_triton(self, launch: Launch, values: dict[str, Any]) -> None:
        pass

    def _run_cuda(self, launch: Launch, args: tuple[Any, ...]) -> None:
        pass


def _rounded(size: int) -> int:
    return -(-size // 512) * 512


def _untouched(shape: tuple[int, ...], kind: np.dtype[Any]) -> np.ndarray:
    """Address space without memory, so that an estimate may exceed what the host has."""
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if size > LARGE and hasattr(mmap, "MAP_ANONYMOUS"):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        raw = np.frombuffer(mmap.mmap(-1, size + 256, flags), np.uint8)
    else:
        raw = np.empty(size + 256, np.uint8)
    start = -raw.ctypes.data % 256
    return raw[start : start + size].view(kind).reshape(shape)
