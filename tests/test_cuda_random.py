"""Random draws, gathered batches and the step's counters in CUDA C on the emulated device, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, Operations, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import philox
from kernels.cuda.device.base import BFLOAT16
from kernels.ledger import cost


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 333)])
def test_normal(shape, shift):
    ops = Operations("bf16")
    for seed, step, stream in ((0, 0, 1), (2**64 - 1, 2**40 + 3, 2**32 - 1)):
        expected = philox.normal(shape, seed=seed, step=step, stream=stream)
        for at in (step, ops.put([step], np.int64)):
            out, narrow = ops.out(shape, FLOAT32, shift), ops.out(shape, shift=shift)
            ops.normal(out, seed=seed, step=at, stream=stream)
            ops.normal(narrow, seed=seed, step=at, stream=stream)
            assert np.abs(out - expected).max() <= 1e-6
            assert (out == expected.astype(np.float32)).mean() >= 0.99, "more than the odd last bit differs"
            assert narrow.tobytes() == out.astype(BFLOAT16).tobytes()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**64 - 1), n=st.integers(1, 9), bound=st.floats(1e-6, 1e3))
def test_uniform_init_has_every_engines_bits(seed, index, n, bound):
    ops = Operations()
    draws = philox.uniform(n, seed=seed, step=index, stream=philox.STREAM_INIT)
    out = ops.out((n,))
    ops.uniform_init(out, bound, seed=seed, index=index)
    assert out.tobytes() == (bound * (2.0 * draws - 1.0)).astype(np.float32).tobytes()


@pytest.mark.parametrize("shift", [0, 1])
def test_uniform_init_of_a_filter(shift):
    ops = Operations("bf16")
    out = ops.out((5, 5, 3, 17), FLOAT32, shift)
    ops.uniform_init(out, 0.3, seed=9, index=4)
    draws = philox.uniform((5, 5, 3, 17), seed=9, step=4, stream=philox.STREAM_INIT)
    assert out.tobytes() == (0.3 * (2.0 * draws - 1.0)).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    "bad",
    [{"seed": -1}, {"seed": 2**64}, {"step": -1}, {"stream": 2**32}, {"step": np.zeros(2, np.int64)}, {"step": np.zeros(1, np.int32)}],
)
def test_normal_refuses(bad):
    ops = Operations()
    with pytest.raises(ValueError, match="got .*expected"):
        ops.normal(ops.out((4,)), **{"seed": 0, "step": 0, "stream": 0, **bad})


def expected_batch(images, chosen, flips):
    x = images[chosen].astype(np.float32) / np.float32(127.5) - np.float32(1)
    x[flips] = x[flips][:, :, ::-1]
    return x


IMAGES = [(1, 1, 1), (7, 5, 3), (8, 8, 1), (33, 20, 3), (2, 3, 11)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("size", IMAGES)
def test_gather_images(rng, precision, shift, size):
    ops, n = Operations(precision), 5
    images = rng.integers(0, 256, (12, *size), dtype=np.uint8)
    images[0], images[1] = 0, 255
    chosen, flips = np.array([1, 0, 11, 3, 3]), rng.random(n) < 0.5
    data = ops.put(images, np.uint8, shift)
    for indices in (chosen, chosen.astype(np.int32), ops.put(chosen, np.int64), ops.put(chosen, np.int32)):
        for mirrored in (None, flips, ops.put(flips, np.uint8)):
            x = ops.out((n, *size), shift=shift)
            ops.gather_images(x, data, indices, mirrored)
            expected = expected_batch(images, chosen, flips if mirrored is not None else np.zeros(n, bool))
            assert x.tobytes() == expected.astype(ops.dtype).tobytes()


def test_every_byte_becomes_numpys_float32():
    ops = Operations()
    images, x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), ops.out((1, 16, 16, 1))
    ops.gather_images(x, ops.put(images, np.uint8), np.array([0]))
    assert x.tobytes() == (images.astype(np.float32) / np.float32(127.5) - np.float32(1)).tobytes()
    assert (x.min(), x.max()) == (-1.0, 1.0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("step", [0, 2, 3, 7, 2**33 + 1])
def test_gather_batch(rng, flip, step):
    ops, n, per_epoch, seed = Operations(), 6, 3, 2**63 + 5
    images, order = rng.integers(0, 256, (20, 4, 6, 3), dtype=np.uint8), rng.permutation(20).astype(np.int32)
    x = ops.out((n, 4, 6, 3))
    arrays = ops.put(images, np.uint8), ops.put(order, np.int32), ops.put([step], np.int64)
    ops.gather_batch(x, *arrays, per_epoch=per_epoch, seed=seed, flip=flip)
    first = step % per_epoch * n
    odd = philox.uint32(n, seed=seed, step=step, stream=philox.STREAM_FLIP) % 2 == 1
    expected = expected_batch(images, order[first : first + n], odd & flip)
    assert x.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (6, 3), (5, 40), (7, 73)])
def test_gather_rows(rng, n, columns):
    """Bits as they are, whatever the engine's precision; NaN for an index outside the table."""
    ops, step, per_epoch = Operations("bf16"), 2**33 + 4, 3
    table, order = rng.standard_normal((11, columns)).astype(np.float32), rng.integers(0, 11, per_epoch * n).astype(np.int32)
    first = step % per_epoch * n
    expected = table[order[first : first + n]]
    order[first], expected[0] = 11, np.nan
    out = ops.out((n, columns), FLOAT32)
    ops.gather_rows(out, ops.put(table, FLOAT32), ops.put(order, np.int32), ops.put([step], np.int64), per_epoch=per_epoch)
    assert np.array_equal(out, expected, equal_nan=True)


def test_flips_are_of_both_kinds():
    ops, n = Operations(), 64
    images = np.zeros((1, 1, 2, 1), np.uint8)
    images[0, 0, 1, 0] = 255
    x = ops.out((n, 1, 2, 1))
    order, counter = ops.put(np.zeros(n), np.int32), ops.put([0], np.int64)
    ops.gather_batch(x, ops.put(images, np.uint8), order, counter, per_epoch=1, seed=1, flip=True)
    assert 16 < (x[:, 0, 0, 0] == 1.0).sum() < 48


def test_an_index_outside_the_data_set_gives_nan_and_no_stray_access(rng):
    ops = Operations()
    images = ops.put(rng.integers(0, 256, (4, 3, 3, 1)), np.uint8)
    x = ops.out((3, 3, 3, 1))
    order, counter = ops.put([2, 1 << 30, -7], np.int32), ops.put([0], np.int64)
    ops.gather_batch(x, images, order, counter, per_epoch=1, seed=1, flip=False)
    assert np.isfinite(x[0]).all() and np.isnan(x[1:]).all()


def test_more_images_than_rows_of_the_grid(rng):
    """The kernel by itself on a grid of two rows: the images behind them are taken in further rounds."""
    ops, n = Operations(), 5
    images, x = rng.integers(0, 256, (n, 2, 2, 1), dtype=np.uint8), ops.out((n, 2, 2, 1))
    arrays = x, ops.put(images, np.uint8), ops.put(np.arange(n), np.int64), None
    scalars = np.int32(1), np.int64(n), np.int32(n), np.int32(2), np.int32(1), np.int64(4)
    ops.device.cuda("random.cu", "gather_images", (1, 2), 256, *arrays, *scalars, cost=cost(0))
    assert x.tobytes() == expected_batch(images, np.arange(n), np.zeros(n, bool)).tobytes()


def test_counters():
    ops = Operations()
    counter, rates, lr = ops.put([2**40], np.int64), ops.put([0.5, 0.25, 0.125]), ops.out((1,))
    ops.look_up_rate(lr, rates, counter)
    assert lr[0] == 0.125
    ops.advance(counter)
    assert counter[0] == 2**40 + 1
    for step, rate in enumerate((0.5, 0.25, 0.125, 0.125)):
        ops.look_up_rate(lr, rates, ops.put([step], np.int64))
        assert lr[0] == rate


def test_the_order_of_threads_changes_no_bit(rng):
    images = rng.integers(0, 256, (20, 9, 9, 3), dtype=np.uint8)

    def run(seed):
        ops = Operations(seed=seed)
        x, noise, rows = ops.out((6, 9, 9, 3)), ops.out((2500,)), ops.out((6, 81))
        arrays = ops.put(images, np.uint8), ops.put(np.arange(18), np.int32), ops.put([7], np.int64)
        ops.gather_batch(x, *arrays, per_epoch=3, seed=4, flip=True)
        ops.normal(noise, seed=1, step=2, stream=3)
        ops.gather_rows(rows, ops.put(images[..., 0].reshape(20, 81)), *arrays[1:], per_epoch=3)
        return x, noise, rows

    same_bits(run)


def test_batches_refuse(rng):
    ops = Operations()
    images, x = ops.put(rng.integers(0, 256, (4, 3, 3, 3)), np.uint8), ops.out((2, 3, 3, 3))
    good, order, counter = np.array([0, 3]), ops.put([0, 1, 2, 3], np.int32), ops.put([0], np.int64)
    batch = {"per_epoch": 2, "seed": 0, "flip": False}
    for call in (
        lambda: ops.gather_images(ops.out((2, 3, 4, 3)), images, good),
        lambda: ops.gather_images(x, ops.out((4, 3, 3, 3)), good),
        lambda: ops.gather_images(ops.out((2, 3, 3, 3), np.float64), images, good),
        lambda: ops.gather_images(x, images, np.array([0, 4])),
        lambda: ops.gather_images(x, images, np.array([-1, 0])),
        lambda: ops.gather_images(x, images, np.array([0, 1, 2])),
        lambda: ops.gather_images(x, images, good, np.array([True])),
        lambda: ops.gather_images(x, images, good, np.array([1, 0])),
        lambda: ops.gather_batch(x, images, ops.put([0, 1], np.int64), counter, **batch),
        lambda: ops.gather_batch(x, images, order, counter, **{**batch, "per_epoch": 3}),
        lambda: ops.gather_batch(x, images, order, counter, **{**batch, "seed": -1}),
        lambda: ops.gather_batch(x, images, order, ops.put([0], np.int32), **batch),
        lambda: ops.look_up_rate(ops.out((2,)), ops.out((3,)), counter),
        lambda: ops.advance(ops.put([0], np.int32)),
        lambda: ops.uniform_init(ops.out((3,), np.float64), 0.1, seed=0, index=0),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()
