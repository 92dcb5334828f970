"""The emulated and the recording device: their memory, Triton interpreted, and that both record the same launches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which(os.environ.get("CXX") or "g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

import device_demo

from kernels.cuda.device.base import BFLOAT16, Descriptor, Device
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.dry import DryDevice
from kernels.cuda.device.host.device import HostDevice
from kernels.ledger import Cost, cost

FILE = str(Path(__file__).with_name("device_demo.cu"))
NONE = Cost(0, 0, 0)


@pytest.fixture
def dev():
    return HostDevice()


def demo(dev: Device, function, grid, block, *args, **rest):
    dev.cuda(FILE, function, grid, block, *args, cost=NONE, **rest)


# ---- memory ----


def test_memory_is_poisoned_and_aligned(dev):
    x = dev.empty((3, 5), np.float32)
    assert np.isnan(x).all() and x.ctypes.data % 256 == 0
    s = dev.scratch("a", (4,), np.float32)
    s[...] = 1
    again = dev.scratch("a", (4,), np.float32)
    assert np.isnan(again).all() and (s == 1).all()


def test_put_and_download(dev, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    placed = dev.upload(x)
    dev.put(placed, 2 * x)
    got = dev.download(placed)
    assert np.array_equal(got, 2 * x) and not np.shares_memory(got, placed)
    with pytest.raises(ValueError, match=r"put: got float64 \(2, 3\), expected float32 \(2, 3\)"):
        dev.put(placed, x.astype(np.float64))


@pytest.mark.parametrize("device", [HostDevice, DryDevice])
def test_views_with_gaps_are_not_copied(device):
    """A GPU would copy as many bytes from the view's first one on. Parts that are one piece are fine."""
    dev = device()
    x = dev.upload(np.ones((4, 6), np.float32))
    dev.put(x[1:3], np.ones((2, 6), np.float32))
    assert dev.download(x[1:3]).shape == (2, 6)
    for view in (x[:, 1:3], x[::2], x.T):
        with pytest.raises(ValueError, match="put: got a view of shape .* that is not C-contiguous"):
            dev.put(view, np.ones(view.shape, np.float32))
        with pytest.raises(ValueError, match="download: got a view of shape .* that is not C-contiguous"):
            dev.download(view)


# ---- Triton ----


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (BFLOAT16, 2**-7)])
def test_triton_interpreted(dev, rng, dtype, tolerance):
    x, bias = rng.standard_normal((5, 16)).astype(dtype), rng.standard_normal(16).astype(np.float32)
    for given in (None, bias):
        y = dev.empty((5, 16), dtype)
        placed = None if given is None else dev.upload(given)
        dev.triton(device_demo.scale_rows, (5,), y, dev.upload(x), placed, 5, 1.7, warps=4, stages=1, cost=NONE, COLUMNS=16)
        expected = np.float32(1.7) * x.astype(np.float32) + (0 if given is None else given)
        np.testing.assert_allclose(dev.download(y).astype(np.float32), expected, rtol=tolerance, atol=1e-6)


def product(dev, out, a, b, **rest):
    """out = a·b with boxes that reach beyond a's rows and depth."""
    left = Descriptor(a, a.shape, [a.shape[1], 1], [16, 32])
    right = Descriptor(b, b.shape, [b.shape[1], 1], [32, 16])
    args = {"warps": 4, "stages": 1, "cost": NONE, "M": 16, "N": 16, "K": 32, "INTERPRETED": dev.interpreted} | rest
    dev.triton(device_demo.product, (out.shape[0] // 16,), out, left, right, a.shape[1], **args)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (BFLOAT16, 2**-6)])
def test_descriptors_read_zero_outside(dev, rng, dtype, tolerance):
    a, b = rng.standard_normal((24, 48)).astype(dtype), rng.standard_normal((48, 16)).astype(dtype)
    out = dev.empty((32, 16), dtype)
    product(dev, out, dev.upload(a), dev.upload(b))
    got = dev.download(out).astype(np.float32)
    np.testing.assert_allclose(got[:24], a.astype(np.float32) @ b.astype(np.float32), rtol=tolerance, atol=0.1 * tolerance)
    assert (got[24:] == 0).all()


def test_triton_out_of_bounds(dev):
    x, y = dev.empty((4, 16), np.float32), dev.empty((4, 16), np.float32)
    with pytest.raises(RuntimeError, match="scale_rows: wrote out of bounds: after argument y"):
        dev.triton(device_demo.scale_rows, (5,), y, x, None, 5, 1.7, warps=4, stages=1, cost=NONE, COLUMNS=16)


def test_triton_arguments(dev):
    x = dev.empty((4, 16), np.float32)
    rest = {"warps": 4, "stages": 1, "cost": NONE}
    for args, constants, message in [
        ((x, x, None, 4), {"COLUMNS": 16}, "got 4 arguments, expected 5: y, x, bias, rows, factor"),
        ((x, x, None, 4, 1.0), {}, "missing or unknown: COLUMNS"),
        ((x, x, None, 4, 1.0), {"COLUMNS": 16, "ROWS": 1}, "missing or unknown: ROWS"),
        ((x, x, None, True, 1.0), {"COLUMNS": 16}, "argument rows: got bool"),
        ((x, x, None, np.int32(4), 1.0), {"COLUMNS": 16}, "argument rows: got int32"),
    ]:
        with pytest.raises(TypeError, match=message):
            dev.triton(device_demo.scale_rows, (4,), *args, **rest, **constants)


@pytest.mark.parametrize(
    "shape, strides, block, message",
    [
        ((8, 16), (16,), (8, 16), "expected one rank"),
        ((8, 16), (16, 2), (8, 16), "expected the last 1"),
        ((8, 16), (18, 1), (8, 16), "multiples of 16 bytes"),
        ((8, 16), (16, 1), (8, 12), "powers of two"),
        ((8, 16), (16, 1), (8, 2), "16 bytes or more"),
        ((9, 16), (16, 1), (8, 16), "spans 144 elements, the array has 128"),
        ((0, 16), (16, 1), (8, 16), "expected positive"),
    ],
)
def test_descriptors_that_tma_cannot_do(dev, shape, strides, block, message):
    with pytest.raises(ValueError, match=message):
        Descriptor(dev.empty((8, 16), np.float32), shape, strides, block)


def test_no_descriptor_without_tma():
    dev = HostDevice(CHIPS["sm_80"])
    with pytest.raises(RuntimeError, match="product: argument a: got a descriptor, A100 has no TMA"):
        product(dev, *(dev.empty((32, 32), np.float32) for _ in range(3)))


# ---- recording ----


def launches_on(dev: Device, dtype=np.float32):
    dev.launches = []
    x, y = (dev.upload(np.ones((4, 16), dtype)) for _ in range(2))
    defines = ("ACT_BF16",) if dtype == BFLOAT16 else ()
    dev.triton(device_demo.scale_rows, (4,), y, x, None, 4, 1.5, warps=4, stages=2, cost=cost(12, [x, 5], [y]), COLUMNS=16)
    demo(dev, "scale", 1, 64, y, x, np.float32(2), np.int64(64), defines=defines)
    out = dev.empty((16, 16), dtype)
    product(dev, out, dev.empty((16, 32), dtype), dev.empty((32, 16), dtype), INTERPRETED=False)
    return dev.launches


def test_dry_records_what_the_host_runs():
    host, dry = HostDevice(), DryDevice()
    assert launches_on(dry) == launches_on(host)
    first = dry.launches[0]
    assert first.signature == {
        "y": "*fp32",
        "x": "*fp32",
        "bias": "constexpr",
        "rows": "i32",
        "factor": "fp32",
        "COLUMNS": "constexpr",
        "INTERPRETED": "constexpr",
    }
    assert first.constexprs == {"COLUMNS": 16, "INTERPRETED": False, "bias": None}
    assert (first.aligned, first.grid, first.warps, first.stages) == (("y", "x"), (4, 1, 1), 4, 2)
    assert first.cost == Cost(12, 256 + 5, 256)


def test_dry_counts_memory_and_touches_none():
    dry = DryDevice()
    x = dry.empty((1 << 36,), BFLOAT16)
    assert dry.allocated == x.nbytes == 1 << 37
    for count in (100, 1000, 10):
        dry.scratch("a", (count,), np.float32)
    dry.scratch("b", (1,), np.uint8)
    assert dry.allocated - x.nbytes == 4096 + 512
    assert not dry.executes and (dry.download(dry.empty((3,), np.float32)) == 0).all()


def test_record_runs_the_body_each_time(dev):
    calls = []
    run = dev.record(lambda: calls.append(1))
    assert [run(), run()] == [None, None] and len(calls) == 2
