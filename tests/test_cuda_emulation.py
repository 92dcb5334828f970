"""CUDA C on the host: kernels of device_demo.cu that are right give the right values, wrong ones an error that says what and where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from kernels.cuda.device.base import BFLOAT16, Device
from kernels.cuda.device.host.device import HostDevice
from kernels.ledger import Cost

if shutil.which(os.environ.get("CXX") or "g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

FILE = str(Path(__file__).with_name("device_demo.cu"))
NONE = Cost(0, 0, 0)


@pytest.fixture
def dev():
    return HostDevice()


def demo(dev: Device, function, grid, block, *args, **rest):
    dev.cuda(FILE, function, grid, block, *args, cost=NONE, **rest)


@pytest.mark.parametrize("dtype, defines", [(np.float32, ()), (BFLOAT16, ("ACT_BF16",))])
def test_activation_type_and_scalars(dev, rng, dtype, defines):
    x = rng.standard_normal(1000).astype(dtype)
    y = dev.empty((1000,), dtype)
    demo(dev, "scale", 4, 256, y, dev.upload(x), np.float32(1.7), np.int64(1000), defines=defines)
    assert np.array_equal(dev.download(y), (np.float32(1.7) * x.astype(np.float32)).astype(dtype))


def test_rounding_to_bfloat16(dev):
    """Every bfloat16, its neighbours, the ties between two, infinities and NaN, against ml_dtypes."""
    upper = np.arange(65536, dtype=np.uint32)[:, None] << 16
    bits = (upper | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)).reshape(-1)
    x = bits.view(np.float32)
    y = dev.empty(x.shape, BFLOAT16)
    demo(dev, "round_all", 16, 64, y, dev.upload(x), np.int32(x.size))
    got, nan = dev.download(y), np.isnan(x)
    assert np.array_equal(got[~nan].view(np.uint16), x[~nan].astype(BFLOAT16).view(np.uint16))
    assert np.isnan(got[nan].astype(np.float32)).all()


def test_block_sum(dev, rng):
    x = rng.standard_normal((3, 500)).astype(np.float32)
    sums = dev.empty((3,), np.float32)
    demo(dev, "total", 3, 128, sums, dev.upload(x), np.int32(500))
    np.testing.assert_allclose(dev.download(sums), x.sum(axis=1, dtype=np.float64), rtol=1e-5)


def test_three_dimensions(dev):
    out = dev.empty((4, 6, 8), np.int32)
    demo(dev, "place", (4, 3, 2), (2, 2, 2), out)
    z, y, x = np.mgrid[:4, :6, :8]
    assert np.array_equal(dev.download(out), x + 100 * y + 10000 * z)


@pytest.mark.parametrize(
    "name, dtype, shared", [("turn_float", np.float32, 0), ("turn_bf16", BFLOAT16, 0), ("turn_dynamic", np.float32, 256)]
)
def test_shared_memory(dev, rng, name, dtype, shared):
    x = rng.standard_normal(64).astype(dtype)
    out = dev.empty((64,), dtype)
    demo(dev, name, 1, 64, out, dev.upload(x), shared=shared)
    assert np.array_equal(dev.download(out), x[::-1])


def test_warp_operations(dev):
    out = dev.empty((64,), np.int32)
    demo(dev, "lanes", 1, 64, out)
    thread = np.arange(64)
    value = np.where(thread % 32 < 16, thread ^ 3, thread)
    assert np.array_equal(dev.download(out), value + 1000 * np.where(thread % 32 == 31, thread, thread + 1))


def test_a_name_that_the_process_knows(dev):
    out = dev.empty((8,), np.int32)
    demo(dev, "PyErr_Clear", 1, 8, out)
    assert np.array_equal(dev.download(out), np.arange(8))


@pytest.mark.parametrize("dtype, defines, skip", [(np.float32, (), 2), (BFLOAT16, ("ACT_BF16",), 4)])
def test_vectors(dev, rng, dtype, defines, skip):
    x = rng.standard_normal(256).astype(dtype)
    out, source = dev.empty((256,), dtype), dev.upload(x)
    demo(dev, "copy8", 1, 32, out, source, np.int32(0), defines=defines)
    assert np.array_equal(dev.download(out), x)
    with pytest.raises(RuntimeError, match="copy8.*misaligned address"):
        demo(dev, "copy8", 1, 31, out, source, np.int32(skip), defines=defines)


@pytest.mark.parametrize("name", ["no_barrier", "no_barrier_in_template"])
def test_a_missing_barrier_reads_nan(dev, name):
    """Also in the second block, of what the first left in shared memory."""
    out = dev.empty((64,), np.float32)
    for grid in (1, 2):
        demo(dev, name, grid, 64, out, dev.upload(np.ones(64, np.float32)))
        assert np.isnan(dev.download(out)).any()


@pytest.mark.parametrize(
    "name, args, message",
    [
        ("half_returns", (), r"divergent __syncthreads\(\).* 54 wait at line \d+, 10 have returned"),
        ("two_barriers", (), r"divergent __syncthreads\(\).* 32 wait at line \d+, 32 at line \d+"),
        ("lane_left", (), "divergent warp operation"),
        ("outside_tile", (np.int32(1),), "index 64 outside a fixed array at line"),
        ("outside_tile", (np.int32(-1),), "index -1 outside a fixed array at line"),
        ("outside_array", (np.int32(1),), "wrote out of bounds: after argument 0"),
        ("outside_array", (np.int32(-1),), "wrote out of bounds: before argument 0"),
        ("outside_array", (np.int32(1 << 29),), "touched address"),
        ("not_there", (), "not_there"),
    ],
)
def test_wrong_kernels(dev, name, args, message):
    out = dev.empty((64,), np.float32)
    with pytest.raises(RuntimeError, match=message):
        demo(dev, name, 1, 64, out, *args)
    demo(dev, "outside_array", 1, 64, out, np.int32(0))  # the device still works
    assert (dev.download(out) == 1).all()


def test_out_of_bounds_beside_an_array_that_is_no_argument(dev):
    first = dev.empty((64,), np.float32)
    other = dev.empty((16,), np.float32)
    distance = (other.ctypes.data - first.ctypes.data) // 4
    with pytest.raises(RuntimeError, match="outside_array: wrote out of bounds: after an array of 64 bytes that is no argument"):
        demo(dev, "outside_array", 1, 1, first, np.int32(distance + 16))


def test_dynamic_shared_memory_has_its_size(dev):
    out = dev.empty((64,), np.float32)
    with pytest.raises(RuntimeError, match="wrote past its 252 bytes"):
        demo(dev, "turn_dynamic", 1, 64, out, dev.upload(np.ones(64, np.float32)), shared=252)
    with pytest.raises(RuntimeError, match="needs 300000 bytes of shared memory, a block of H100 has 232448"):
        demo(dev, "turn_dynamic", 1, 64, out, out, shared=300000)


@pytest.mark.parametrize("value", [np.int64(1), 1, 1.0, np.float32(1), True, None, np.ones(1, np.int32)])
def test_arguments_have_the_types_of_the_kernel(dev, value):
    out = dev.empty((64,), np.float32)
    with pytest.raises((TypeError, ValueError), match="outside_array: argument 1: got"):
        demo(dev, "outside_array", 1, 64, out, value)


def test_arrays_have_the_types_of_the_kernel(dev):
    with pytest.raises(TypeError, match=r"got \*V2, expected \*f4"):
        demo(dev, "outside_array", 1, 64, dev.empty((64,), BFLOAT16), np.int32(0))
    with pytest.raises(ValueError, match="not C-contiguous"):
        demo(dev, "outside_array", 1, 64, dev.empty((64, 2), np.float32)[:, 0], np.int32(0))
    with pytest.raises(ValueError, match="not on the device"):
        demo(dev, "outside_array", 1, 64, np.ones(64, np.float32), np.int32(0))


@pytest.mark.parametrize("grid, block", [(0, 64), ((1, 65536), 64), (1, 2048), (1, (32, 32, 2)), ((1, 1, 1, 1), 32)])
def test_extents(dev, grid, block):
    with pytest.raises(ValueError, match="outside_array: got a "):
        demo(dev, "outside_array", grid, block, dev.empty((64,), np.float32), np.int32(0))


def test_compile_errors_name_file_and_line(dev, tmp_path):
    file = tmp_path / "broken.cu"
    file.write_text('extern "C" __global__ void broken(float* x) {\n    x[0] = y;\n}\n')
    with pytest.raises(RuntimeError, match=r"broken.cu:2:.*y.*not declared"):
        dev.cuda(str(file), "broken", 1, 32, dev.empty((1,), np.float32), cost=NONE)
