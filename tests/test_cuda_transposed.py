"""Products that are computed transposed on sm_90, so that both operands stay in shared memory: where, and that they are right."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

import kernel_cases_layers as layers
from kernel_check import check, launch
from kernel_counts import counted
from kernel_shapes import Conv, Dense

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import dry_engine, emulated_engine

#: Two groups of images; 128 columns ahead and 64 back, so tiles of two parts and of one; phases of a fractional stride. The smallest
#: pictures that have the tiles of larger ones, and more than one of them in a group.
LAYERS = {
    "one stride": Conv("", 4, 8, 16, 64, 128, 1, (1, 3), (3, 3)),
    "stride 2": Conv("", 4, 16, 16, 64, 128, 2, (1, 3)),
    "linear": Dense("", 16, 128, 256, 0, (8, 8)),
}


def parts_of(launches):
    return [one.constexprs["PARTS"] for one in launches if one.kind == "triton" and one.name == "convolve"]


@pytest.mark.parametrize("chip, precision, expected", [
    ("sm_90", "bf16", {1, 2}), ("sm_90", "tf32", {1}), ("sm_90", "float32", {0}), ("sm_80", "bf16", {0}), ("sm_100", "bf16", {0}),
])  # fmt: skip
def test_where(chip, precision, expected):
    engine = dry_engine(CHIPS[chip]._replace(multiprocessors=1), precision)
    for layer in LAYERS.values():
        for case in layers.block("linear" if isinstance(layer, Dense) else "conv2d", layer, False):
            launch(engine, case)
    assert set(parts_of(engine.device.launches)) == expected


def test_not_below_64_columns():
    engine = dry_engine(CHIPS["sm_90"], "bf16")
    for case in layers.one_forward(Conv("", 2, 8, 8, 64, 32, 1)):
        launch(engine, case)
    assert parts_of(engine.device.launches) == [0]


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("chip", ["sm_90", "sm_100"])
@pytest.mark.parametrize("layer", LAYERS)
def test_right_in_both_forms(cheap_launches, engine64, layer, chip, precision):
    """With statistics, with the previous layer's mask and sums, in parts and not; each launch costs what it says."""
    engine, shape = emulated_engine(precision, chip=CHIPS[chip]._replace(multiprocessors=1)), LAYERS[layer]
    seen = set()
    for case in layers.block("linear" if isinstance(shape, Dense) else "conv2d", shape, False):
        engine.device.launches = []
        with counted(engine.device) as counts:
            assert all(outcome.ok for outcome in check(engine, engine64, case))
        assert all((one.flops, one.reads, one.writes) == tuple(one.declared) for one in counts)
        seen |= set(parts_of(engine.device.launches))
    assert (0 not in seen) is (chip == "sm_90") and seen
