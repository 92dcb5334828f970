"""The CUDA convolutions and weight gradients of images with few channels, interpreted on the host, against the NumPy engine in float64."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from interpreter_counts import counted

from kernels.contract.previous import Previous
from kernels.cpu.conv2d import conv2d_dgrad, conv2d_forward, conv2d_wgrad
from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.products import images
from kernels.cuda.products.epilogue import Epilogue, Statistics

FEW = CHIPS["sm_90"]._replace(multiprocessors=2)  # few multiprocessors, few splits, few programs to interpret
#: Largest error over the largest value; bf16 results are rounded once, to 8 bits.
TOLERANCE = {"float32": 1e-5, "bf16": 4e-3}


def draw(rng, precision, *shape):
    return rng.standard_normal(shape).astype(BFLOAT16 if precision == "bf16" else np.float32)


def error(got, expected):
    """Relative to the largest value; NaN where an element was not written."""
    return np.abs(got.astype(np.float64) - expected).max() / np.abs(expected).max()


def forward(rng, n, h, w, ci, co, kh, kw, stride, precision="float32", activation=None, bias=False, dev=None, **epilogue):
    """(device result, float64 result before the activation) of one forward convolution."""
    dev = dev or HostDevice(FEW)
    x, weights = draw(rng, precision, n, h, w, ci), draw(rng, precision, kh, kw, ci, co)
    b = rng.standard_normal(co).astype(np.float32) if bias else None
    y = dev.empty((n, -(-h // stride), -(-w // stride), co), x.dtype)
    rest = Epilogue(dev.upload(b) if bias else None, activation, **epilogue)
    with counted(dev) as counts:
        images.image_convolve(dev, precision, y, dev.upload(x), dev.upload(weights), kind="forward", stride=stride, epilogue=rest)
    assert [tuple(c.declared) for c in counts] == [(c.flops, c.reads, c.writes) for c in counts] and len(counts) == 1
    expected = np.empty(y.shape)
    conv2d_forward(expected, x.astype(np.float64), weights.astype(np.float64), b.astype(np.float64) if bias else None, stride=stride)
    return y, expected


@pytest.mark.parametrize(
    "n, h, w, ci, co, kh, kw, stride, precision",
    [
        pytest.param(2, 8, 8, 3, 40, 5, 5, 1, "float32", id="stride 1"),
        pytest.param(2, 8, 6, 3, 20, 5, 5, 2, "float32", id="stride 2"),
        pytest.param(1, 7, 5, 1, 7, 3, 5, 2, "float32", id="odd sizes, one channel, one image"),
        pytest.param(3, 5, 6, 8, 16, 5, 1, 1, "float32", id="eight channels"),
        pytest.param(1, 6, 6, 3, 130, 3, 3, 1, "float32", id="two blocks of columns"),
        pytest.param(2, 8, 8, 3, 32, 5, 5, 2, "bf16", id="bf16"),
    ],
)
def test_forward(rng, n, h, w, ci, co, kh, kw, stride, precision):
    y, expected = forward(rng, n, h, w, ci, co, kh, kw, stride, precision)
    assert error(y, expected) < TOLERANCE[precision]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bias_and_activation(rng, activation):
    y, expected = forward(rng, 1, 6, 6, 3, 12, 5, 5, 1, activation=activation, bias=True)
    assert error(y, np.tanh(expected) if activation == "tanh" else np.maximum(expected, 0)) < 1e-5


def test_statistics(rng):
    """Groups whose rows end inside a tile."""
    dev, groups = HostDevice(FEW), (1, 2)
    mean, var = dev.empty((2, 20), np.float32), dev.empty((2, 20), np.float32)
    y, expected = forward(rng, 3, 12, 10, 3, 20, 5, 5, 1, dev=dev, statistics=Statistics(mean, var, groups))
    assert error(y, expected) < 1e-5
    for group, part in enumerate(np.split(expected, np.cumsum(groups)[:-1])):
        assert error(mean[group], part.mean((0, 1, 2))) < 1e-5
        assert error(var[group], part.var((0, 1, 2))) < 1e-5


@pytest.mark.parametrize("kh, kw, co", [(5, 5, 3), (3, 5, 1)])
def test_dgrad(rng, kh, kw, co):
    """Stride 1, few channels above; with the mask and the sums of the batch norm and ReLU below, for two groups."""
    dev, groups, ci = HostDevice(FEW), (1, 2), 24
    dy, w = draw(rng, "float32", 3, 7, 6, co), draw(rng, "float32", kh, kw, ci, co)
    pre = draw(rng, "float32", 3, 7, 6, ci)
    mean, var = (rng.standard_normal((2, ci)).astype(np.float32), 0.5 + rng.random((2, ci)).astype(np.float32))
    gamma, beta = rng.standard_normal(ci).astype(np.float32), rng.standard_normal(ci).astype(np.float32)
    sums, dx = dev.empty((2, 2, ci), np.float32), dev.empty(pre.shape, np.float32)
    below = Previous(dev.upload(pre), *map(dev.upload, (pre, mean, var, gamma, beta)), 1e-5, groups, sums)
    images.image_convolve(dev, "float32", dx, dev.upload(dy), dev.upload(w), kind="dgrad", stride=1, epilogue=Epilogue(previous=below))
    expected = np.empty(dx.shape)
    conv2d_dgrad(expected, dy.astype(np.float64), w.astype(np.float64), stride=1)
    of = np.repeat([0, 1], groups)
    centred = (pre - mean[of][:, None, None]).astype(np.float64) / np.sqrt(var[of] + 1e-5)[:, None, None]
    expected *= gamma * centred + beta > 0
    assert error(dx, expected) < 1e-5
    for group in (0, 1):
        assert error(sums[0, group], expected[of == group].sum((0, 1, 2))) < 1e-5
        assert error(sums[1, group], (expected * centred)[of == group].sum((0, 1, 2))) < 1e-5


def test_refused(rng):
    dev = HostDevice(FEW)
    src, out, w = dev.empty((1, 4, 4, 3), np.float32), dev.empty((1, 8, 8, 16), np.float32), dev.empty((5, 5, 16, 3), np.float32)
    with pytest.raises(ValueError, match="dgrad, stride 2, expected at most 8 channels, and stride 1 for a dgrad"):
        images.image_convolve(dev, "float32", out, src, w, kind="dgrad", stride=2, epilogue=Epilogue())


def wgrad(rng, chip, precision, n, h, w, ci, co, kh, kw, stride):
    dev = HostDevice(chip)
    x, dy = draw(rng, precision, n, h, w, ci), draw(rng, precision, n, -(-h // stride), -(-w // stride), co)
    dw = dev.empty((kh, kw, ci, co), np.float32)
    dev.launches = []
    assert images.takes_image_wgrad(ci, co, stride)
    with counted(dev) as counts:
        images.image_wgrad(dev, precision, dw, dev.upload(x), dev.upload(dy), stride=stride)
    expected = np.empty(dw.shape)
    conv2d_wgrad(expected, x.astype(np.float64), dy.astype(np.float64), stride=stride)
    assert error(dw, expected) < 1e-5
    (launch,) = [launch for launch in dev.launches if launch.kind == "triton"]
    assert [(c.flops, c.reads, c.writes) for c in counts] == [tuple(launch.cost)]
    return launch


@pytest.mark.parametrize(
    "n, h, w, ci, co, kh, kw, stride, precision",
    [
        pytest.param(2, 8, 8, 3, 40, 5, 5, 1, "float32", id="stride 1"),
        pytest.param(2, 8, 6, 3, 70, 5, 5, 2, "float32", id="stride 2, two blocks of columns"),
        pytest.param(1, 7, 5, 1, 7, 3, 5, 2, "float32", id="odd sizes, one channel, one image"),
        pytest.param(2, 6, 5, 24, 3, 5, 5, 1, "float32", id="few outputs"),
        pytest.param(1, 5, 6, 20, 1, 3, 5, 1, "float32", id="one output"),
        pytest.param(2, 8, 8, 3, 32, 5, 5, 2, "bf16", id="bf16"),
        pytest.param(2, 8, 8, 32, 3, 5, 5, 1, "bf16", id="bf16, few outputs"),
    ],
)
def test_wgrad(rng, n, h, w, ci, co, kh, kw, stride, precision):
    launch = wgrad(rng, FEW, precision, n, h, w, ci, co, kh, kw, stride)
    assert launch.constexprs["SWAPPED"] == (ci > 8)


def test_wgrad_in_splits(rng):
    launch = wgrad(rng, FEW._replace(multiprocessors=16), "float32", 2, 17, 17, 3, 8, 3, 3, 1)
    assert launch.grid[2] > 1


def test_offsets_of_64_bits(rng, monkeypatch):
    monkeypatch.setattr(images, "LONG", 0)
    assert wgrad(rng, FEW, "float32", 2, 5, 4, 3, 8, 3, 3, 2).constexprs["LONG"]
    y, expected = forward(rng, 2, 5, 4, 3, 8, 3, 3, 2)
    assert error(y, expected) < 1e-5
