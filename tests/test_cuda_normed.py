"""Batch norm's backward where dgrad and wgrad load the error: where, and that it is right."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

import kernel_cases_layers as layers
from gradcheck import assert_close, poisoned, put
from kernel_check import check, launch
from kernel_counts import counted
from kernel_shapes import Conv
from test_cuda_joined import launched
from test_previous import layer

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import dry_engine, emulated_engine

#: No tile divides the rows; borders on all sides; channels of several steps and of one; odd sizes; one image.
SHAPES = {
    "several": Conv("", 3, 6, 10, 32, 48, 2),
    "odd sizes": Conv("", 2, 7, 9, 16, 16, 2),
    "one image": Conv("", 1, 6, 8, 64, 128, 2, (), (3, 3)),
}
KINDS = "conv2d", "upconv"


def cases(kind, shape):
    """A block's backward passes."""
    return [case for case in layers.block(kind, shape, True) if "backward" in case.operation]


def is_summed(case):
    """Whether the next layer has masked and summed the error already."""
    return case.label.endswith("sums given")


@pytest.mark.parametrize("chip, precision, pays", [
    ("sm_75", "float32", True), ("sm_86", "bf16", True), ("sm_89", "bf16", True),
    ("sm_89", "float32", False), ("sm_89", "tf32", False), ("sm_80", "bf16", False), ("sm_90", "bf16", False), ("sm_120", "bf16", False),
])  # fmt: skip
def test_where_the_model_says_that_it_pays(chip, precision, pays):
    engine = dry_engine(CHIPS[chip], precision)
    for kind in KINDS:
        for case in cases(kind, SHAPES["several"]):
            names = launched(engine, functools.partial(launch, engine, case))
            at_load = pays and is_summed(case)
            assert ("bn_coefficients" in names) is at_load, case.name
            assert any(name in names for name in ("bn_backward", "bn_sums_backward")) is not at_load, case.name


@pytest.mark.parametrize("shape", [
    Conv("", 4, 8, 8, 32, 48, 2, (1, 3)),  # two groups of statistics
    Conv("", 3, 8, 8, 3, 48, 2),  # the weight gradient of an image; its dgrad alone is served
    Conv("", 3, 8, 8, 32, 24, 2),  # channels that 16 does not divide
])  # fmt: skip
def test_where_not(shape):
    for case in cases("conv2d", shape):
        served = shape.ci == 3 and case.label.endswith("dx alone, sums given")
        engine = dry_engine(CHIPS["sm_89"], "bf16")
        assert ("bn_coefficients" in launched(engine, functools.partial(launch, engine, case))) is served


@pytest.mark.parametrize("chip, precision", [("sm_75", "float32"), ("sm_89", "bf16")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_right_and_costs_what_it_says(cheap_launches, engine64, shape, kind, chip, precision):
    engine = emulated_engine(precision, chip=CHIPS[chip]._replace(multiprocessors=1))
    for case in filter(is_summed, cases(kind, SHAPES[shape])):
        engine.device.launches = []
        with counted(engine.device) as counts:
            outcomes = list(check(engine, engine64, case))
        assert outcomes and all(outcome.ok for outcome in outcomes), (case.name, outcomes)
        assert all((one.flops, one.reads, one.writes) == tuple(one.declared) for one in counts), counts
        assert "bn_coefficients" in [one.name for one in engine.device.launches]


def test_an_error_that_no_product_made(engine64):
    """Its sums are held back with the pass that makes them: `finish_previous`, then the block's backward."""
    shape, found = SHAPES["several"], []
    for engine in (engine64, emulated_engine("float32", chip=CHIPS["sm_75"]._replace(multiprocessors=1))):
        rng = np.random.default_rng(0)
        x, w, error = (put(engine, rng.standard_normal(s).astype(np.float32)) for s in (shape.large, shape.weights, shape.small))
        block = layer(engine, rng, shape.small, (shape.n,))
        outputs = [poisoned(engine, *s) for s in (shape.large, shape.weights, (shape.co,), (shape.co,))]
        engine.finish_previous(error, block.previous)

        def backward(engine=engine, x=x, w=w, error=error, block=block, outputs=outputs):
            engine.conv2d_bn_relu_backward(
                *outputs, error, block.y, block.pre, block.mean, block.var, x, w, block.gamma, (shape.n,),
                stride=shape.s, eps=block.previous.eps, sums=block.previous.sums,
            )  # fmt: skip

        if engine is engine64:
            backward()
        else:
            assert launched(engine, backward)[:2] == ["bn_backward_sums", "bn_coefficients"]
        found.append([engine.to_numpy(array) for array in outputs])
    for name, got, expected in zip(("dx", "dw", "dgamma", "dbeta"), *reversed(found), strict=True):
        assert_close(got, expected, 1e-5, name)
