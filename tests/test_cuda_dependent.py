"""Launches that begin before the one ahead has ended: which do, by chip, driver, switch and kernel. The stand-in of libcuda holds every
launch to it, here and in every test that has `StandInGPU`."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("triton", reason="Triton, whose functions are launched, is not installed (Linux only)")
pytest.importorskip("cupy", reason="CuPy, whose arrays the stand-in for a GPU has, is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda", allow_module_level=True)

from libcuda_case import cleared, libcuda, uncompiled
from stand_in_gpu import StandInGPU
from test_cuda_missing import stand_in

from bench.gpu.common import spec_of
from bench.gpu.stepper import Stepper
from kernels.cuda.device import driver, gpu, launcher
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.launcher import Launcher
from kernels.cuda.engine import CUDAEngine
from models.objective import Objective


@pytest.fixture
def step(monkeypatch):
    """A step on a stand-in for a GPU: the device, and what the driver's stand-in has seen."""
    monkeypatch.setattr(launcher, "compile_launch", lambda launch, chip, *, cached=False: uncompiled(launch))

    def run(chip, dependent=True):
        seen = cleared(libcuda())
        device = StandInGPU(libcuda(), CHIPS[chip], dependent)
        Stepper(CUDAEngine(device, "bf16"), spec_of("tiny"), 4, Objective()).body()
        return device, seen

    return run


@pytest.mark.parametrize(("chip", "dependent", "all_early"), [("sm_90", True, True), ("sm_90", False, False), ("sm_80", True, False)])
def test_a_step_s_launches(chip, dependent, all_early, step):
    """All, since every kernel waits first; none on a chip that cannot, and with the switch off."""
    device, seen = step(chip, dependent)
    assert seen.launches > 100 and seen.early == (seen.launches if all_early else 0)
    with device.launches_in_turn():
        CUDAEngine(device, "bf16").fill(device.empty((4,), "f4"), 0)
    assert not seen.dependent and seen.rule == (1 if all_early else 2)


@pytest.mark.parametrize("wrong", [lambda dependent: True, lambda dependent: False])
@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_stand_in_refuses_the_wrong_ones(wrong, chip, step, monkeypatch):
    launch = driver.Driver.launch
    monkeypatch.setattr(driver.Driver, "launch", lambda self, *given: launch(self, *given[:-1], wrong(given[-1])))
    if wrong(None) == CHIPS[chip].dependent:
        step(chip)
    else:
        with pytest.raises(RuntimeError, match=r"cuLaunchKernel(Ex)?: CUDA_ERROR_OTHER \(801\)"):
            step(chip)


@pytest.mark.parametrize(
    ("word", "version", "expected"),
    [
        (None, 12030, True), (None, 12020, False), (None, None, False), ("", 13000, True), ("1", 12030, True), ("ON", 13000, True),
        ("yes", 12020, False), ("0", 13000, False), ("off", 13000, False), ("False", 13000, False), ("no", 13000, False),
    ],
)  # fmt: skip
def test_the_switch_and_the_driver(word, version, expected, monkeypatch):
    """What `CuPyDevice` gives its launcher."""
    monkeypatch.delenv("VAEGAN_DEPENDENT_LAUNCHES", raising=False)
    if word is not None:
        monkeypatch.setenv("VAEGAN_DEPENDENT_LAUNCHES", word)
    stand_in(monkeypatch, capability=(9, 0))
    cuda = sys.modules["cupy"].cuda
    cuda.runtime.free, cuda.Stream = lambda address: None, lambda non_blocking: SimpleNamespace()
    monkeypatch.setattr(gpu, "Driver", SimpleNamespace)
    monkeypatch.setattr(driver, "driver_version", lambda: version)
    made = gpu.CuPyDevice()
    assert isinstance(made._launcher, Launcher) and made._launcher.dependent is expected


@pytest.mark.parametrize("version", [12020, 13000])
def test_a_switch_that_says_neither(version, monkeypatch):
    monkeypatch.setenv("VAEGAN_DEPENDENT_LAUNCHES", "of")
    monkeypatch.setattr(driver, "driver_version", lambda: version)
    with pytest.raises(RuntimeError) as caught:
        driver.dependent_launches()
    assert str(caught.value) == (
        "device cuda: VAEGAN_DEPENDENT_LAUNCHES: got 'of', expected 1 (on, true, yes) or 0 (off, false, no); set one, or unset it"
    )
