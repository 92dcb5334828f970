"""Tensor maps that the driver refuses: the products load by pointers instead, which is said once, and training goes on, right as before."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None or shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda and the CUDA C kernels", allow_module_level=True)

import kernel_cases_layers as layers
from kernel_check import check
from kernel_shapes import Conv, Dense
from libcuda_case import NoCompiler, NoLaunches, cleared, libcuda, seen_by

from bench.gpu.common import reference_engine, spec_of
from bench.gpu.step import compare_step, judge
from bench.gpu.stepper import Stepper, mid_training
from kernels.cuda.device.base import Descriptor, Refused
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.engine import CUDAEngine
from models.objective import Objective

CHIP = CHIPS["sm_90"]._replace(multiprocessors=1)
EVERY = sum(1 << rank for rank in range(1, 6))


class WithMaps(HostDevice):
    """The emulation, which has a tensor map made of each descriptor before it runs a kernel, as a GPU must."""

    def __init__(self):
        super().__init__(chip=CHIP)
        self.launches, self.first_refused = [], None
        self.maps = NoCompiler(NoLaunches(), CHIP, lambda array: array.ctypes.data)

    def _run_triton(self, launch, values):
        if self.first_refused is not None and len(self.launches) >= self.first_refused:
            self.first_refused = self.refuse()
        for value in values.values():
            if isinstance(value, Descriptor):
                self.maps.tensor_map(value)
        super()._run_triton(launch, values)

    def refuse(self, ranks=EVERY):
        """From here on."""
        seen_by(libcuda()).refused_ranks = ranks
        self.maps._maps.clear()


def descriptors(launch):
    return [kind for kind in launch.signature.values() if "tensordesc" in kind]


def by_boxes(dev):
    """(name, whether by boxes) of each Triton launch."""
    return [(launch.name, bool(descriptors(launch))) for launch in dev.launches if launch.kind == "triton"]


@pytest.fixture(autouse=True)
def every_map_is_taken():
    """Before a test, and behind it: other files have the same stand-in."""
    cleared(libcuda())
    yield
    cleared(libcuda())


FEATURES = Conv("", 16, 4, 6, 64, 24, 2, (), (3, 3))
#: By launcher: a case, and its kernel by boxes and by pointers.
LAYERS = {
    "wgrad": (next(layers.one_wgrad(FEATURES)), "wgrad_boxes", "wgrad_pointers"),
    "linear_wgrad": (
        next(case for case in layers.linear(Dense("", 32, 64, 24)) if case.operation == "linear_wgrad"), "wgrad_boxes", "wgrad_pointers",
    ),
    "convolve": (next(layers.one_forward(Conv("", 16, 4, 4, 64, 24, 2))), "convolve", "convolve"),
    "few_outputs": (next(layers.one_forward(Conv("", 2, 8, 8, 32, 3, 1))), "few_outputs", "few_outputs"),
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAYERS)
def test_pointers_where_a_map_is_refused(engine64, caplog, launcher):
    case, boxes, pointers = LAYERS[launcher]
    engine = CUDAEngine(WithMaps(), "float32")
    dev = engine.device
    assert all(outcome.ok for outcome in check(engine, engine64, case)), "as long as it takes the maps"
    assert by_boxes(dev) == [(boxes, True)] and not dev.pointers and not caplog.records
    dev.refuse()
    for seed in (1, 2):
        dev.launches.clear()
        assert all(outcome.ok for outcome in check(engine, engine64, case, seed))
        assert by_boxes(dev) == [(pointers, False)]
        (record,) = caplog.records
    assert (record.name, record.levelno) == ("kernels", logging.WARNING) and "\n" not in record.getMessage()
    assert f"; {launcher} loads by pointers from now on" in record.getMessage()
    assert dev.pointers == {launcher} and dev.chip is CHIP


def test_only_what_was_refused_changes(engine64):
    """A driver that takes no images still gets matrices."""
    engine = CUDAEngine(WithMaps(), "float32")
    engine.device.refuse(1 << 4 | 1 << 5)
    for launcher in ("convolve", "wgrad"):
        assert all(outcome.ok for outcome in check(engine, engine64, LAYERS[launcher][0]))
    assert engine.device.pointers == {"convolve"} and by_boxes(engine.device) == [("convolve", False), ("wgrad_boxes", True)]


def test_training_goes_on(caplog):
    """In the middle of a step the driver takes no more maps: the step is right."""
    engine = CUDAEngine(WithMaps(), "float32")
    mine, theirs = (Stepper(each, spec_of("tiny"), 4, Objective(gate=False), seed=3) for each in (engine, reference_engine()))
    state = mid_training(theirs.state(), 3)
    for stepper in (mine, theirs):
        stepper.model.load_state(state)
    theirs.body()
    engine.device.launches.clear()
    engine.device.first_refused = 60
    mine.body()
    boxes = [bool(names) for names in map(descriptors, engine.device.launches)]
    assert any(boxes[:60]) and not any(boxes[60:]) and len(boxes) > 120
    assert engine.device.pointers and len(caplog.records) == len(engine.device.pointers)
    assert judge([compare_step(mine, theirs)[0]], "float32") == []


def test_descriptors_have_their_axes_in_order():
    """The emulation refuses what the driver need not take."""
    dev = WithMaps()
    array = dev.empty((4, 6, 8, 64), np.float32)
    for shape, strides in (([6, 4, 8, 64], [512, 3072, 64, 1]), ([4, 6, 8, 64], [3072, 448, 64, 1]), ([4, 6, 8, 32], [3072, 516, 64, 1])):
        with pytest.raises(ValueError, match="expected each stride to be a multiple of the next one that its axis does not exceed"):
            Descriptor(array, shape, strides, [1, 1, 8, 32])
    dev.refuse(1 << 4)
    with pytest.raises(Refused, match="cuTensorMapEncodeTiled"):
        dev.maps.tensor_map(Descriptor(array, [4, 6, 8, 64], [3072, 512, 64, 1], [1, 1, 8, 32]))
