"""Element-wise operations in CUDA C on the emulated device against the NumPy engine in float64, and proof that the emulation shows what
it is there for: real kernels, broken on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, ROUNDED, Operations, draw, float64
from gradcheck import assert_close

from kernels.cpu import activations, elementwise
from kernels.cuda import batch_norm
from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.source import CUDA
from kernels.cuda.products import partials
from kernels.ledger import cost

SIZES = [(1,), (3, 5), (16 * 256,), (2, 3, 1031)]  # one element, one incomplete block, exactly one, one and a part


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 3], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_activations(rng, precision, shift, shape, name):
    ops = Operations(precision)
    x, dy = draw(rng, precision, *shape, scale=3.0), draw(rng, precision, *shape)
    y = np.empty(shape)
    getattr(activations, f"{name}_forward")(y, x)
    device_x = ops.put(x, shift=shift)
    for got in (ops.out(shape, shift=shift), device_x):
        getattr(ops, f"{name}_forward")(got, device_x)
        assert_close(float64(got) + 1e-9, y + 1e-9, ROUNDED[precision])
    y = y.astype(ops.dtype).astype(np.float64)
    dx = np.empty(shape)
    getattr(activations, f"{name}_backward")(dx, dy, y)
    error, output = ops.put(dy, shift=shift), ops.put(y, shift=shift)
    for got in (ops.out(shape), error):
        getattr(ops, f"{name}_backward")(got, error, output)
        assert_close(float64(got) + 1e-9, dx + 1e-9, ROUNDED[precision])


def test_sigmoid_of_float32_logits_in_a_bfloat16_engine(rng):
    ops = Operations("bf16")
    x = np.concatenate([draw(rng, "float32", 37, scale=4.0), [-200.0, 200.0]])
    y, got = np.empty(39), ops.out((39,), FLOAT32)
    activations.sigmoid_forward(y, x)
    ops.sigmoid_forward(got, ops.put(x, FLOAT32))
    assert_close(float64(got), y, 1e-6)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_activations_let_non_finite_values_through(name):
    ops = Operations()
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0], np.float32)
    dy = np.array([1.0, 2.0, np.inf, np.nan, np.inf], np.float32)
    y, got = np.empty_like(x), ops.out((5,))
    getattr(activations, f"{name}_forward")(y, x)
    getattr(ops, f"{name}_forward")(got, ops.put(x))
    assert np.array_equal(np.isnan(got), np.isnan(y)) and np.array_equal(np.isfinite(got), np.isfinite(y))
    dx, got = np.empty_like(x), ops.out((5,))
    with np.errstate(invalid="ignore"):
        getattr(activations, f"{name}_backward")(dx, dy, y)
    getattr(ops, f"{name}_backward")(got, ops.put(dy), ops.put(y))
    assert np.array_equal(np.isfinite(got), np.isfinite(dx))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", SIZES)
def test_add_and_scale(rng, precision, shift, shape):
    ops = Operations(precision)
    a, b = draw(rng, precision, *shape), draw(rng, precision, *shape)
    for alpha, beta in ((1.0, 1.0), (0.25, -3.0)):
        device_b, expected = ops.put(b, shift=shift), np.empty(shape)
        elementwise.add(expected, a, b, alpha=alpha, beta=beta)
        for out in (ops.out(shape), device_b):
            ops.add(out, ops.put(a), device_b, alpha=alpha, beta=beta)
            assert_close(float64(out), expected, ROUNDED[precision])
    device_a = ops.put(a, shift=shift)
    for out in (ops.out(shape), device_a):
        ops.scale(out, device_a, -1.7)
        assert_close(float64(out), -1.7 * a, ROUNDED[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(("n", "columns", "attributes"), [(1, 1, 1), (5, 24, 3), (4, 2056, 40), (3, 33, 73)])
def test_concatenate(rng, precision, shift, n, columns, attributes):
    """The same bits in any order of threads; attributes rounded as NumPy rounds; a NaN stays one."""
    x, a = draw(rng, precision, n, columns), rng.standard_normal((n, attributes)).astype(np.float32)
    x[0, -1] = a[0, 0] = np.nan
    for seed in range(2):
        ops = Operations(precision, seed)
        y = ops.out((n, columns + attributes), shift=shift)
        ops.concatenate(y, ops.put(x, shift=shift), ops.put(a, FLOAT32, shift))
        expected = np.concatenate([x.astype(ops.dtype), a.astype(ops.dtype)], axis=1).astype(np.float64)
        assert np.array_equal(y.astype(np.float64), expected, equal_nan=True)


def test_more_rows_than_the_grid_has(rng):
    """The kernel by itself on a grid of two rows: the rows behind them are taken in further rounds."""
    ops = Operations()
    x, a, y = draw(rng, "float32", 7, 9), draw(rng, "float32", 7, 2), ops.out((7, 11))
    scalars = np.int64(7), np.int64(9), np.int64(2)
    ops.device.cuda("elementwise.cu", "concatenate", (1, 2), 256, y, ops.put(x), ops.put(a), *scalars, cost=cost(0))
    assert np.array_equal(y, np.concatenate([x, a], axis=1))


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float64, np.uint8, np.int64])
@pytest.mark.parametrize("size", [1, 5, 16, 4099])
@pytest.mark.parametrize("shift", [0, 1])
def test_fill_and_copy_of_every_type(dtype, size, shift):
    ops = Operations()
    whole = ops.out((size + shift + 3,), dtype)
    before = whole.tobytes()
    ops.fill(whole[shift : shift + size], 3.0)
    assert (whole[shift : shift + size] == 3).all()
    for part in (slice(0, shift), slice(shift + size, None)):  # neighbours are not touched
        length = len(whole[part].tobytes())
        assert whole[part].tobytes() == before[:length]
    given, got = ops.put(np.arange(size) % 200, dtype, shift), ops.out((size,), dtype)
    ops.copy(got, given)
    assert got.tobytes() == given.tobytes()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("shift", [0, 1])
def test_copy_converts_as_numpy_does(rng, shape, shift):
    """float32 → bfloat16: to nearest, ties to even; NaN and infinity stay what they are."""
    ops = Operations("bf16")
    values = rng.standard_normal(shape).astype(np.float32)
    values.reshape(-1)[:1] = np.float32(1.00390625)  # halfway between two bfloat16 values: down to the even one
    x = ops.put(values, FLOAT32, shift)
    narrow, wide = ops.out(shape), ops.out(shape, FLOAT32, shift)
    ops.copy(narrow, x)
    assert narrow.tobytes() == values.astype(BFLOAT16).tobytes()
    ops.copy(wide, narrow)
    assert wide.tobytes() == values.astype(BFLOAT16).astype(np.float32).tobytes()
    special = ops.out((4,))
    ops.copy(special, ops.put([np.nan, np.inf, -np.inf, 3.4e38], FLOAT32))
    assert np.isnan(special[0]) and list(special[1:].astype(float)) == [np.inf, -np.inf, np.inf]
    with pytest.raises(ValueError, match="got .*expected"):
        ops.copy(ops.out(shape, np.float64), x)
    with pytest.raises(ValueError, match="got .*expected"):
        ops.copy(ops.out((7, 7)), x)


def test_element_wise_operations_refuse():
    ops = Operations()
    good, bad, other = ops.out((2, 3)), ops.out((3, 2)), ops.out((2, 3), np.float64)
    for call in (
        lambda: ops.relu_forward(good, bad),
        lambda: ops.relu_forward(other, other),
        lambda: ops.tanh_backward(good, good, other),
        lambda: ops.add(good, good, bad),
        lambda: ops.scale(bad, good, 2.0),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()


# ---- what the emulation is there for ----

HERE = CUDA
BARRIER = "    __syncthreads();\n"


def broken(tmp_path, file, old, new, index=0):
    """``file`` with the index-th ``old`` replaced: the path of the broken copy."""
    parts = (HERE / file).read_text(encoding="utf-8").split(old)
    assert len(parts) > index + 1, f"{file} has no {index + 1} of {old!r}"
    path = tmp_path / Path(file).name
    path.write_text(old.join(parts[: index + 1]) + new + old.join(parts[index + 1 :]), encoding="utf-8")
    return str(path)


def column_sums(rng, seed, rows):
    ops = Operations(seed=seed)
    matrix, out = rng.standard_normal((rows, 16)).astype(np.float32), ops.out((16,))
    partials.column_sums(ops.device, out, ops.put(matrix))
    return np.abs(out - matrix.sum(axis=0)).max()


def test_a_missing_barrier_shows(rng, tmp_path, monkeypatch):
    assert all(column_sums(rng, seed, 130) < 1e-4 for seed in range(3))
    monkeypatch.setattr(
        partials, "FILE", broken(tmp_path, "products/partials.cu", BARRIER, "", index=-2 + count("products/partials.cu", BARRIER))
    )
    assert not all(column_sums(rng, seed, 130) < 1e-4 for seed in range(3))


def count(file, text):
    return (HERE / file).read_text(encoding="utf-8").count(text)


def test_a_missing_barrier_in_the_statistics_shows(rng, tmp_path, monkeypatch):
    x = rng.standard_normal((300, 8)).astype(np.float32)

    def error(seed):
        ops = Operations(seed=seed)
        mean, var = ops.out((1, 8)), ops.out((1, 8))
        ops.batch_norm_statistics(mean, var, ops.put(x), (300,))
        return np.abs(var - x.var(axis=0)).max()

    assert all(error(seed) < 1e-5 for seed in range(3))
    monkeypatch.setattr(batch_norm, "FILE", broken(tmp_path, "batch_norm.cu", BARRIER, ""))
    assert not all(error(seed) < 1e-5 for seed in range(3))


def test_a_barrier_that_some_threads_miss_shows(rng, tmp_path, monkeypatch):
    path = broken(
        tmp_path,
        "products/partials.cu",
        "    float *own = shared + threadIdx.x;\n",
        "    if (threadIdx.x == 7) return;\n    float *own = shared + threadIdx.x;\n",
    )
    monkeypatch.setattr(partials, "FILE", path)
    with pytest.raises(RuntimeError, match="divergent __syncthreads"):
        column_sums(rng, 0, 130)


def test_a_read_outside_an_array_shows(rng, tmp_path, monkeypatch):
    """Behind every array lie NaN bytes."""
    assert column_sums(rng, 0, 130) < 1e-4
    monkeypatch.setattr(partials, "FILE", broken(tmp_path, "products/partials.cu", "min(start + chunk_rows, rows)", "start + chunk_rows"))
    assert np.isnan(column_sums(rng, 0, 130))


def test_a_write_outside_an_array_shows(tmp_path, monkeypatch):
    from kernels.cuda import elementwise

    ops = Operations()
    monkeypatch.setattr(elementwise, "FILE", broken(tmp_path, "elementwise.cu", "min(first + PER_BLOCK, n)", "first + PER_BLOCK - 4000"))
    with pytest.raises(RuntimeError, match="wrote out of bounds: after argument 0"):
        ops.relu_forward(ops.out((90,)), ops.put(np.ones(90)))


def test_a_misaligned_vector_shows(tmp_path, monkeypatch):
    from kernels.cuda import elementwise

    ops = Operations()
    x = ops.put(np.ones(4096), shift=1)
    ops.relu_forward(ops.out((4096,)), x)
    monkeypatch.setattr(elementwise, "FILE", broken(tmp_path, "elementwise.cu", "return ((u64)p & 15) == 0;", "return true;"))
    with pytest.raises(RuntimeError, match="misaligned"):
        ops.relu_forward(ops.out((4096,)), x)
