"""What `open_device` says where the GPU, its driver or a package is missing, old or does not fit: one line that says what to do."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from kernels.cuda.device import gpu
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.gpu import chip_of


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
    assert "--device" not in text, "a command that has it says so"
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
    says(plain, "no version for darwin", "use Linux or Windows")


@pytest.mark.parametrize("package", ["triton", "ml_dtypes", "cupy"])
def test_missing_packages(plain, package):
    if package != "cupy":
        stand_in(plain)
    plain.setitem(sys.modules, package, None)
    says(plain, "not installed", "pip install '.[cuda12]'")


@pytest.mark.parametrize(
    "count, driver, words",
    [
        (cuda_error(35, "insufficient driver"), None, ("no NVIDIA driver is installed", "install one")),
        (cuda_error(35, "insufficient driver"), 11040, ("supports CUDA 11.4, too old", "update it")),
        (cuda_error(100, "no device"), 13000, ("finds no GPU", "nvidia-smi")),
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


class Broken:
    """An importer of one package, which fails."""

    def __init__(self, package, error):
        self.package, self.error = package, error

    def find_spec(self, name, path=None, target=None):
        if name == self.package:
            raise self.error


@pytest.mark.parametrize("package, title", [("cupy", "CuPy"), ("triton", "Triton")])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/x/.cupy"), ImportError("no libcuda"), AttributeError("a\nb")])
def test_packages_that_fail_to_be_imported(plain, package, title, error):
    """``--device auto`` takes a RuntimeError for "no GPU"."""
    plain.delitem(sys.modules, package, raising=False)
    plain.setattr(sys, "meta_path", [Broken(package, error), *sys.meta_path])
    if package == "cupy":
        plain.setitem(sys.modules, "ml_dtypes", SimpleNamespace())
    says(plain, f"{title} cannot be imported", type(error).__name__)


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
    says(plain, "NVRTC 13.0 cannot compile for Some GPU (sm_70)", "pip install '.[cuda12]'")
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
