"""What of the GPU device needs no GPU: when a graph is captured, what a capture refuses, and what is said where there is no GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kernels.cuda.device import gpu
from kernels.cuda.device.base import Device, OutOfMemory
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.gpu import CuPyDevice, chip_of


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


# ---- what is missing ----


def stand_in(monkeypatch, *, count=1, capability=(9, 0), nvrtc=None, driver=13000):
    """CuPy with GPUs of ``capability`` and a driver, or with errors in place of ``count`` or ``nvrtc``."""

    def counted():
        if isinstance(count, Exception):
            raise count
        return count

    def version():
        if nvrtc is not None:
            raise nvrtc
        return 13, 0

    about = {"MaxSharedMemoryPerBlockOptin": 101376, "MultiProcessorCount": 68}
    about |= {"ComputeCapabilityMajor": capability[0], "ComputeCapabilityMinor": capability[1]}
    runtime = SimpleNamespace(getDeviceCount=counted, getDeviceProperties=lambda number: {"name": b"Some GPU"})
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0, attributes=about))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    for name in ("cupy_backends", "cupy_backends.cuda"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    libs = SimpleNamespace(nvrtc=SimpleNamespace(getVersion=version, getSupportedArchs=lambda: (75, 80, 90, 120)))
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", libs)
    monkeypatch.setattr(gpu, "driver_version", lambda: driver)


def cuda_error(status, text):
    error = RuntimeError(text)
    error.status = status
    return error


def says(monkeypatch, *words, precision=None):
    with pytest.raises(RuntimeError) as caught:
        gpu.open_device(precision)
    text = str(caught.value)
    assert text.startswith("device cuda: ") and "\n" not in text and all(word in text for word in words), text


@pytest.fixture
def plain(monkeypatch):
    """No interpreter asked for, Linux, and stand-ins for the packages, so that the messages do not depend on the machine."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("triton", "ml_dtypes"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    return monkeypatch


def test_interpreting(plain):
    plain.setenv("TRITON_INTERPRET", "1")
    says(plain, "TRITON_INTERPRET is set", "unset it")


def test_other_systems(plain):
    plain.setattr(sys, "platform", "darwin")
    says(plain, "no version for darwin", "use Linux or Windows", "--device cpu")


@pytest.mark.parametrize("package", ["triton", "ml_dtypes", "cupy"])
def test_missing_packages(plain, package):
    if package != "cupy":
        stand_in(plain)
    plain.setitem(sys.modules, package, None)
    says(plain, "not installed", "pip install 'vaegan-kernels[cuda12]'")


@pytest.mark.parametrize(
    "count, driver, words",
    [
        (cuda_error(35, "insufficient driver"), None, ("no NVIDIA driver is installed", "install one")),
        (cuda_error(35, "insufficient driver"), 11040, ("supports CUDA 11.4, too old", "update it")),
        (cuda_error(100, "no device"), 13000, ("finds no GPU", "--device cpu")),
        (cuda_error(999, "unknown\nerror"), 13000, ("cannot be used: unknown error", "nvidia-smi")),
        (0, 13000, ("finds no GPU",)),
    ],
)
def test_no_gpu(plain, count, driver, words):
    stand_in(plain, count=count, driver=driver)
    says(plain, *words)


def test_no_nvrtc(plain):
    stand_in(plain, nvrtc=RuntimeError("libnvrtc.so.13 not found"))
    says(plain, "NVRTC cannot be loaded (libnvrtc.so.13 not found)", "pip install")


def test_old_gpus(plain):
    stand_in(plain, capability=(6, 1))
    says(plain, "Some GPU has compute capability 6.1, the least is 7.0")
    stand_in(plain, capability=(7, 5))
    for precision in ("bf16", "tf32"):
        says(plain, f"{precision} needs compute capability 8.0, Some GPU has 7.5", precision=precision)


def test_compilers_that_do_not_fit_the_driver_or_the_chip(plain):
    """Before anything is loaded: `CuPyDevice` is not even made."""
    plain.setattr(gpu, "CuPyDevice", None)
    stand_in(plain, driver=12080)
    says(plain, "NVRTC 13.0 makes code that a driver of CUDA 12.8 does not load", "[cuda12]")
    stand_in(plain, capability=(7, 0))
    says(plain, "NVRTC 13.0 cannot compile for Some GPU (sm_70)", "pip install 'vaegan-kernels[cuda12]'")
    stand_in(plain, capability=(12, 1))
    plain.setattr(gpu, "choose_ptxas", lambda chip, driver: says_what(f"device cuda: {chip.sm} {driver}"))
    says(plain, "121 13000")


def says_what(text):
    raise RuntimeError(text)


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_systems(system, plain):
    plain.setattr(sys, "platform", system)
    plain.setattr(gpu, "CuPyDevice", lambda: "opened")
    plain.setattr(gpu, "choose_ptxas", lambda chip, driver: None)
    stand_in(plain)
    assert gpu.open_device() == "opened"


def test_chips(plain):
    stand_in(plain, capability=(8, 9))
    chip = chip_of(sys.modules["cupy"].cuda.Device())
    assert chip == ("Some GPU", (8, 9), 101376, 68)
    assert (chip.sm, chip.tma, chip.bf16, chip.family) == (89, False, True, "consumer")
    facts = {name: (chip.sm, chip.tma, chip.bf16, chip.family) for name, chip in CHIPS.items()}
    assert facts == {
        "sm_70": (70, False, False, "consumer"), "sm_75": (75, False, False, "consumer"), "sm_80": (80, False, True, "data-centre"),
        "sm_86": (86, False, True, "consumer"), "sm_87": (87, False, True, "consumer"), "sm_89": (89, False, True, "consumer"),
        "sm_90": (90, True, True, "data-centre"), "sm_100": (100, True, True, "data-centre"), "sm_103": (103, True, True, "data-centre"),
        "sm_120": (120, True, True, "consumer"), "sm_121": (121, True, True, "consumer"),
    }  # fmt: skip
