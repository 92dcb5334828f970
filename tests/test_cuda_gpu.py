"""What of the GPU device needs no GPU: when a graph is captured, what a capture refuses, memory and copies."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kernels.cuda.device.base import Device, OutOfMemory
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.gpu import CuPyDevice
from kernels.cuda.device.ring import Ring


class FullMemory(MemoryError):
    """CuPy's out-of-memory error."""


class FakeStream:
    """Writes down what it is asked for; a captured graph plays what was captured."""

    def __init__(self):
        self.log = []
        self.captured = None
        self.ptr = 5

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def launch(self, item):
        (self.log if self.captured is None else self.captured).append(item)

    def begin_capture(self):
        self.captured = []

    def end_capture(self):
        items, self.captured = self.captured, None
        return SimpleNamespace(launch=lambda stream: self.log.append(("graph", *items)))

    def synchronize(self):
        self.log.append("synchronize")

    def wait_event(self, event):
        self.log.append(("wait", event.name))

    def record(self, event):
        self.log.append(("record", event.name))


class FakeEvent:
    """CuPy's event, with a name: events are made in the order of the slots."""

    def __init__(self, block, disable_timing):
        assert block and disable_timing
        self.name = None

    def synchronize(self):
        self.waited = True


class FakeMemory:
    def __init__(self, size):
        self.mem = SimpleNamespace(size=-(-size // 512) * 512)

    def copy_from_host_async(self, pointer, size, stream):
        stream.log.append(("in", size))

    def copy_to_host_async(self, pointer, size, stream):
        stream.log.append(("out", size))


def alloc(size):
    if size > 1 << 30:
        raise FullMemory
    return FakeMemory(size)


class FakeArray(SimpleNamespace):
    """As much of ``cupy.ndarray`` as copies look at."""

    def __init__(self, shape, dtype, data=None, whole=True):
        super().__init__(shape=shape, dtype=np.dtype(dtype), data=data, flags=SimpleNamespace(c_contiguous=whole))


class SlicedArray(FakeArray):
    """One that is given in parts, and says which."""

    parts = ()

    def __getitem__(self, part):
        self.parts = [*self.parts, part]
        return FakeArray((part.stop - part.start, *self.shape[1:]), self.dtype, self.data)


@pytest.fixture
def dev():
    """A `CuPyDevice` with a stand-in for CuPy."""
    device = CuPyDevice.__new__(CuPyDevice)
    Device.__init__(device, CHIPS["sm_90"])
    device.stream = FakeStream()
    device._launcher = SimpleNamespace(frozen=False)
    device._scratch, device._outgrown, device._graphs, device._allocations = {}, [], 0, 0
    memory = SimpleNamespace(OutOfMemoryError=FullMemory)
    device._cupy = SimpleNamespace(
        ndarray=FakeArray,
        cuda=SimpleNamespace(alloc=alloc, memory=memory, runtime=SimpleNamespace(memGetInfo=lambda: (1000, 2000))),
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 24),
    )
    return device


def test_first_call_runs_second_captures_later_ones_replay(dev):
    capturing = []

    def body():
        capturing.append(dev.capturing)
        dev.stream.launch("a")

    run = dev.record(body)
    for _ in range(4):
        run()
    assert dev.stream.log == ["a", ("graph", "a"), ("graph", "a"), ("graph", "a")]
    assert capturing == [False, True] and not dev.capturing and not dev._launcher.frozen


def test_launches_can_be_kept_in_turn(dev):
    dev._launcher.dependent = True
    with pytest.raises(ZeroDivisionError), dev.launches_in_turn():
        assert not dev._launcher.dependent
        raise ZeroDivisionError
    assert dev._launcher.dependent


def test_nothing_is_captured_before_everything_is_allocated(dev):
    calls = []

    def body():
        calls.append(1)
        if len(calls) < 3:
            dev.empty((4,), np.float32)
        dev.stream.launch("a")

    run = dev.record(body)
    for _ in range(3):
        run()
    dev.empty((4,), np.float32)  # outside: a sample between two steps may have taken what body will need
    for _ in range(3):
        run()
    assert dev.stream.log == ["a"] * 4 + [("graph", "a")] * 2


@pytest.mark.parametrize(
    "act, what",
    [
        (lambda dev: dev.empty((4,), np.float32), "allocates an array"),
        (lambda dev: dev.scratch("new", (4,), np.float32), "allocates an array"),
        (lambda dev: dev.scratch("old", (4000,), np.float32), "allocates an array"),
        (lambda dev: dev.upload(np.ones(4)), "allocates an array"),
        (lambda dev: dev.download(FakeArray((4,), np.float32)), "reads an array"),
        (lambda dev: dev.synchronize(), "waits"),
    ],
)
def test_a_capture_refuses(dev, act, what):
    dev.scratch("old", (4,), np.float32)
    calls = []

    def body():
        calls.append(1)
        if len(calls) == 2:
            act(dev)

    run = dev.record(body)
    run()
    with pytest.raises(RuntimeError, match=f"{what} while a graph is captured"):
        run()
    assert dev.stream.captured is None and not dev._launcher.frozen


def test_scratch_that_a_graph_may_use_is_not_freed(dev):
    first = dev.scratch("a", (100,), np.float32).data
    assert dev.scratch("a", (128,), np.float32).data is first  # 512 bytes were placed
    second = dev.scratch("a", (1000,), np.float32).data
    assert second is not first and dev._outgrown == []
    run = dev.record(lambda: dev.scratch("a", (1000,), np.float32))
    run()
    run()
    dev.scratch("a", (5000,), np.float32)
    assert dev._outgrown == [second]


def test_copies_wait(dev):
    x = dev.upload(np.ones((3, 4), np.float32))
    dev.download(x)
    assert dev.stream.log == [("in", 48), "synchronize", ("out", 48), "synchronize"]
    with pytest.raises(ValueError, match="put: got float64"):
        dev.put(x, np.ones((3, 4)))
    view = FakeArray((3, 4), np.float32, x.data, whole=False)
    with pytest.raises(ValueError, match=r"put: got a view of shape \(3, 4\) that is not C-contiguous"):
        dev.put(view, np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"download: got a view of shape \(3, 4\) that is not C-contiguous"):
        dev.download(view)
    assert len(dev.stream.log) == 4, "nothing was copied"


def test_out_of_memory(dev):
    with pytest.raises(OutOfMemory, match="4,294,967,296 bytes more were needed, 1,024 are free") as caught:
        dev.empty((1 << 30,), np.float32)
    assert (caught.value.needed, caught.value.free) == (1 << 32, 1024)


def test_a_ring_of_two_slots(dev):
    """Which stream is given what: page-locked memory is copied on a stream of its own, and events cross from one to the other."""
    entered, runtime = [], SimpleNamespace(setDevice=lambda number: entered.append(number), CUDARuntimeError=FullMemory)
    side, dev._cupy.cuda.runtime, dev._number = FakeStream(), runtime, 3
    dev._cupy.cuda.Stream, dev._cupy.cuda.Event = lambda non_blocking: side, FakeEvent
    dev._cupy.cuda.alloc_pinned_memory = lambda size: bytearray(size + 100)  # CuPy rounds up
    dev._cupy.ndarray = lambda shape, dtype, data: SlicedArray(shape, dtype, data)
    ring = Ring(dev, 2, (3, 4, 4, 1))
    for slot in range(2):
        ring._copied[slot].name, ring._read[slot].name = f"copied {slot}", f"read {slot}"
    ring.enter()
    for slot in (0, 1, 0):
        ring.host(slot)[...] = slot + 1
        ring.copy(slot)
        ring.wait(slot)
        ring.release(slot)
    ring.close()
    assert entered == [3] and ring.images.shape == (6, 4, 4, 1) and ring._copied[1].waited
    assert side.log == [item for s in (0, 1, 0) for item in (("wait", f"read {s}"), ("in", 48), ("record", f"copied {s}"))] + [
        "synchronize"
    ]
    assert dev.stream.log == [item for s in (0, 1, 0) for item in (("wait", f"copied {s}"), ("record", f"read {s}"))]
    assert ring.images.parts == [slice(0, 3), slice(3, 6), slice(0, 3)] and ring.host(1).tolist() == np.full((3, 4, 4, 1), 2).tolist()


def test_no_memory_to_keep_in_place(dev):
    def refuse(size):
        raise FullMemory("cudaErrorMemoryAllocation: out of memory")

    dev._cupy.cuda.runtime.CUDARuntimeError, dev._cupy.cuda.alloc_pinned_memory = FullMemory, refuse
    with pytest.raises(MemoryError, match="the driver keeps no 24 bytes of the host's in place: cudaErrorMemoryAllocation: out of memory"):
        dev.pinned((2, 12))
