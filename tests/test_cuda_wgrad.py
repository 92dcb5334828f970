"""The CUDA weight gradients, interpreted on the host, against the NumPy engine in float64."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from interpreter_counts import counted

from kernels.cpu.conv2d import conv2d_wgrad
from kernels.cpu.linear import linear_wgrad
from kernels.cpu.optimizer import rmsprop_update
from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.products import wgrad, wgrad_rmsprop
from kernels.cuda.products.splits import splits

FEW = CHIPS["sm_90"]._replace(multiprocessors=2)  # few multiprocessors, few splits, few programs to interpret
NO_TMA = CHIPS["sm_80"]._replace(multiprocessors=2)
#: Largest error over the largest value. bf16: operands are exact in both engines, products are summed in float32.
TOLERANCE = 1e-5


def dtype_of(precision):
    return BFLOAT16 if precision == "bf16" else np.float32


def draw(rng, precision, *shape):
    return rng.standard_normal(shape).astype(dtype_of(precision))


def error(got, expected):
    """Relative to the largest value; NaN where an element was not written."""
    return np.abs(got.astype(np.float64) - expected).max() / np.abs(expected).max()


def check(rng, chip, precision, kernel, n, h, w, ci, co, kh, kw, stride):
    """One weight gradient with bias, by one Triton launch, of ``kernel``, which must cost what it says. Returns it."""
    dev = HostDevice(chip)
    x, dy = draw(rng, precision, n, h, w, ci), draw(rng, precision, n, -(-h // stride), -(-w // stride), co)
    dw, dbias = dev.empty((kh, kw, ci, co), np.float32), dev.empty((co,), np.float32)
    dev.launches = []
    with counted(dev) as counts:
        wgrad.wgrad(dev, precision, dw, dev.upload(x), dev.upload(dy), stride=stride, dbias=dbias)
    expected, sums = np.empty(dw.shape), np.empty(co)
    conv2d_wgrad(expected, x.astype(np.float64), dy.astype(np.float64), stride=stride, dbias=sums)
    assert error(dw, expected) < TOLERANCE
    assert error(dbias, sums) < TOLERANCE
    (launch,) = [launch for launch in dev.launches if launch.kind == "triton"]
    assert launch.name == kernel
    assert [(c.flops, c.reads, c.writes) for c in counts] == [tuple(launch.cost)]
    return launch


def test_boxes_stride_2(rng):
    """One tap a unit, in float32 and, three units a program, in bf16; a last program with fewer units."""
    launch = check(rng, FEW, "float32", "wgrad_boxes", 16, 4, 6, 64, 24, 3, 3, 2)
    assert not launch.constexprs["PAIR"] and launch.constexprs["UNITS"] == 1
    launch = check(rng, FEW, "bf16", "wgrad_boxes", 32, 4, 8, 64, 32, 5, 5, 2)
    assert not launch.constexprs["PAIR"] and launch.constexprs["UNITS"] == 3


@pytest.mark.parametrize("kw", [3, 5, 7])
def test_boxes_of_two_taps(rng, kw):
    """32 channels: two neighbouring taps are one unit, and the pairs reach beyond the kernel on one side."""
    launch = check(rng, FEW, "bf16", "wgrad_boxes", 32, 6, 8, 32, 16, 3, kw, 2)
    assert launch.constexprs["PAIR"] and launch.constexprs["UNITS"] == 3


def test_boxes_stride_1(rng):
    launch = check(rng, FEW, "bf16", "wgrad_boxes", 32, 3, 5, 128, 40, 3, 3, 1)
    assert launch.constexprs["BM"] == 128


def test_boxes_larger_than_the_batch(rng):
    """31 images in boxes of 32: what lies outside counts as zero."""
    launch = check(rng, FEW, "float32", "wgrad_boxes", 31, 4, 4, 64, 8, 3, 3, 2)
    assert launch.constexprs["BK"] == 32


@pytest.mark.parametrize(
    "n, h, w, ci, co, kh, kw, stride",
    [
        pytest.param(2, 8, 8, 64, 48, 3, 3, 2, id="one tap a tile"),
        pytest.param(1, 7, 5, 20, 9, 3, 5, 2, id="odd sizes, padded channels, one image"),
        pytest.param(3, 5, 6, 24, 16, 5, 3, 1, id="several taps a tile"),
        pytest.param(2, 6, 7, 16, 16, 1, 1, 2, id="one tap"),
        pytest.param(2, 4, 4, 40, 3, 3, 3, 2, id="few outputs, stride 2"),
    ],
)
def test_pointers(rng, n, h, w, ci, co, kh, kw, stride):
    check(rng, NO_TMA, "float32", "wgrad_pointers", n, h, w, ci, co, kh, kw, stride)


def test_pointers_where_boxes_do_not_fit(rng):
    """A chip that has tensor descriptors, but a batch, a size or channels for which they will not do."""
    for n, h, ci in ((10, 4, 64), (32, 5, 64), (32, 4, 48)):
        check(rng, FEW, "bf16", "wgrad_pointers", n, h, 4, ci, 16, 3, 3, 2)


@pytest.mark.parametrize("chip", [FEW, NO_TMA], ids=["boxes", "pointers"])
def test_splits(rng, chip):
    """A last split that is shorter than the others."""
    chip = chip._replace(multiprocessors=60)
    launch = check(rng, chip, "float32", "wgrad_boxes" if chip.tma else "wgrad_pointers", 32, 14, 2, 64, 8, 3, 3, 2)
    steps = 7 * 32 // launch.constexprs["BK"]
    assert launch.grid[2] > 1 and steps % launch.grid[2]


def test_offsets_of_64_bits(rng, monkeypatch):
    monkeypatch.setattr(wgrad, "LONG", 0)
    assert check(rng, NO_TMA, "float32", "wgrad_pointers", 2, 5, 4, 16, 16, 3, 3, 1).constexprs["LONG"]


@pytest.mark.parametrize("tiles, steps", [(1, 1), (1, 12288), (25, 64), (50, 768), (7, 3072), (2048, 1)])
def test_no_split_is_empty(tiles, steps):
    for chip in CHIPS.values():
        count, each = splits(tiles, steps, (128, 128, 64, 3, 8), 2, 819200, chip, "bf16")
        assert (count - 1) * each < steps <= count * each


def test_more_multiprocessors_more_splits():
    """Neither half of the chip idle, nor more copies of the result than fill it."""
    count, _ = splits(25, 512, (128, 256, 64, 4, 8), 2, 819200, CHIPS["sm_90"], "bf16")
    assert 0.75 * 132 <= 25 * count <= 132


@pytest.mark.parametrize(
    "n, inputs, outputs", [(16, 128, 72), (5, 19, 1), (33, 64, 10)], ids=["boxes", "odd, one output", "odd outputs"]
)  # fmt: skip
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_linear(rng, precision, n, inputs, outputs):
    dev = HostDevice(FEW)
    x, dy = draw(rng, precision, n, inputs), draw(rng, precision, n, outputs)
    dw, dbias = dev.empty((inputs, outputs), np.float32), dev.empty((outputs,), np.float32)
    wgrad.linear_wgrad(dev, precision, dw, dev.upload(x), dev.upload(dy), dbias=dbias)
    expected, sums = np.empty(dw.shape), np.empty(outputs)
    linear_wgrad(expected, x.astype(np.float64), dy.astype(np.float64), dbias=sums)
    assert error(dw, expected) < TOLERANCE
    assert error(dbias, sums) < TOLERANCE


def update(rng, precision, n, inputs, outputs, enabled, rate_array, copied, weight_decay):
    """Old and new (w, ms, copy) of one fused update, and what the CPU makes of them."""
    dev = HostDevice(FEW)
    x, dy = draw(rng, precision, n, inputs), draw(rng, precision, n, outputs)
    w, ms = rng.standard_normal((inputs, outputs)).astype(np.float32), rng.random((inputs, outputs)).astype(np.float32)
    on_device = [dev.upload(w), dev.upload(ms)]
    copy = dev.upload(np.zeros(w.shape, dtype_of(precision))) if copied else None
    rate = np.float32(0.01)
    wgrad_rmsprop.wgrad_rmsprop(
        dev, precision, *on_device, copy, dev.upload(x), dev.upload(dy),
        lr=dev.upload(np.array([rate])) if rate_array else float(rate), decay=0.9, eps=1e-8, weight_decay=weight_decay,
        enabled=None if enabled is None else dev.upload(np.array([enabled], np.uint8)),
    )  # fmt: skip
    expected = [w.astype(np.float64), ms.astype(np.float64)]
    if enabled != 0:
        dw = x.astype(np.float64).T @ dy.astype(np.float64)
        rmsprop_update(*expected, dw, lr=float(rate), decay=0.9, eps=1e-8, weight_decay=weight_decay)
    return (w, ms), on_device, copy, expected


@pytest.mark.parametrize(
    "precision, n, inputs, outputs, enabled, rate_array, copied, weight_decay",
    [
        ("float32", 5, 70, 66, None, False, False, 0.1),
        ("float32", 40, 64, 40, 1, True, True, 0.0),
        ("bf16", 70, 72, 64, 1, True, True, 0.01),
    ],
)
def test_linear_rmsprop(rng, precision, n, inputs, outputs, enabled, rate_array, copied, weight_decay):
    _, (w, ms), copy, expected = update(rng, precision, n, inputs, outputs, enabled, rate_array, copied, weight_decay)
    assert error(w, expected[0]) < TOLERANCE
    assert error(ms, expected[1]) < TOLERANCE
    if copied:
        np.testing.assert_array_equal(copy, np.asarray(w).astype(copy.dtype))


def test_linear_rmsprop_switched_off(rng):
    """The flag of a gated network: not one bit changes."""
    old, new, copy, _ = update(rng, "bf16", 16, 64, 64, 0, True, True, 0.1)
    for before, after in zip(old, new, strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.asarray(copy).astype(np.float32).any()
