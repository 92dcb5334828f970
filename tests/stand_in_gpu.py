"""A GPU that is not there: CuPy's own arrays over addresses that nobody touches, launches to the stand-in for libcuda."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from types import SimpleNamespace

import cupy
import numpy as np
from libcuda_case import seen_by

from kernels.cuda.device.base import Device
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.driver import Driver
from kernels.cuda.device.gpu import CuPyDevice
from kernels.cuda.device.launcher import Launcher


class Stream:
    """Counts the graphs that were captured and launched."""

    ptr = 77

    def __init__(self):
        self.captured = self.replayed = self.waits = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        pass

    def wait_event(self, event):
        self.waits += 1

    def record(self, event):
        pass

    def begin_capture(self):
        self.captured += 1

    def end_capture(self):
        return SimpleNamespace(launch=self.replay)

    def replay(self, stream):
        self.replayed += 1


class Event:
    """A clock's events: each is a second after the one before."""

    count = itertools.count(1000, 1000)

    def record(self, stream=None):
        self.time = float(next(self.count))

    def synchronize(self):
        pass


WHERE_IT_WAITS, NEVER = 1, 2  # `rule` of fake_libcuda.c


class StandInGPU(CuPyDevice):
    """`CuPyDevice` as it is, but for what memory holds: what is read are zeros. The stand-in of libcuda refuses a launch that begins early
    and must not, or does not and can."""

    runtime = SimpleNamespace(
        driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 36, 1 << 37)
    )  # fmt: skip

    def __init__(self, library, chip=CHIPS["sm_90"], dependent=True):
        Device.__init__(self, chip)
        self._cupy, self.stream, self.seen = cupy, Stream(), seen_by(library)
        self.seen.rule, self.seen.behind = WHERE_IT_WAITS if dependent and chip.dependent else NEVER, 0
        self._launcher = Launcher(Driver(library), chip, lambda array: array.data.ptr, dependent)
        self._scratch, self._outgrown, self._graphs, self._allocations = {}, [], 0, 0
        self._addresses = itertools.count(0x7F0000000000, 1 << 33)  # each with room for 8 GB

    def _allocate(self, size):
        self._refuse_in_capture("allocates an array")
        self._allocations += 1
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(next(self._addresses), -(-max(size, 1) // 512) * 512, None, 0), 0)

    @contextmanager
    def launches_in_turn(self):
        before, self.seen.rule = self.seen.rule, NEVER
        with super().launches_in_turn():
            yield
        self.seen.rule = before

    def enter(self):
        pass

    def pinned(self, shape):
        return np.empty(shape, np.uint8)

    def new_stream(self):
        return Stream()

    def new_event(self):
        return Event()

    def copy(self, array, values, stream):
        assert array.shape == values.shape and array.dtype == values.dtype and stream is not self.stream

    def _put(self, array, values):
        self._refuse_in_capture("writes an array")

    def _download(self, array):
        self._refuse_in_capture("reads an array")
        return np.zeros(array.shape, array.dtype)
