"""Batches gathered from a data set, and the joins, sums and scalings of the layer graph."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, draw, poisoned, put, tolerance

from kernels import philox


def expected_batch(images, indices, flips):
    x = images[indices].astype(np.float64) / 127.5 - 1.0
    if flips is not None:
        x[flips] = x[flips][:, :, ::-1]
    return x


@pytest.mark.parametrize(("n", "size", "channels"), [(1, 1, 1), (5, 7, 3), (9, 32, 1), (33, 64, 3)])
@pytest.mark.parametrize("flipped", [False, True])
def test_gather_images(engine, rng, n, size, channels, flipped):
    images = rng.integers(0, 256, (12, size, size, channels), dtype=np.uint8)
    images[0], images[1] = 0, 255
    indices = rng.integers(0, 12, n)  # repeats and any order
    flips = rng.random(n) < 0.5 if flipped else None
    x = poisoned(engine, n, size, size, channels)
    engine.gather_images(x, put(engine, images, np.uint8), indices, flips)
    got = engine.to_numpy(x)
    assert_close(got, expected_batch(images, indices, flips), 10 * tolerance(engine.dtype))
    assert got.min() >= -1.0
    assert got.max() <= 1.0


def test_black_and_white_are_the_ends_of_the_range(engine):
    images = np.zeros((2, 2, 2, 1), np.uint8)
    images[1] = 255
    x = poisoned(engine, 2, 2, 2, 1)
    engine.gather_images(x, put(engine, images, np.uint8), np.array([1, 0]))
    assert (engine.to_numpy(x)[0] == 1.0).all()
    assert (engine.to_numpy(x)[1] == -1.0).all()


def test_gather_images_refuses(engine, rng):
    images, x = put(engine, rng.integers(0, 256, (4, 3, 3, 3)), np.uint8), poisoned(engine, 2, 3, 3, 3)
    for indices, *flips in (([0, 4],), ([-1, 0],), ([0, 1, 2],), ([0, 3], np.array([True])), ([0, 3], np.array([1, 0]))):
        with pytest.raises(ValueError, match="got .*expected"):
            engine.gather_images(x, images, np.array(indices), *flips)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (4, 16, 16, 33)])
@pytest.mark.parametrize("inplace", [False, True], ids=["out apart", "out is b"])
def test_add(engine, rng, shape, inplace):
    a, b = draw(engine, rng, *shape), draw(engine, rng, *shape)
    for alpha, beta in ((1.0, 1.0), (0.25, 1.0), (1.0, -3.0), (1e-5, -0.5)):
        device_b = put(engine, b)
        out = device_b if inplace else poisoned(engine, *shape)
        engine.add(out, put(engine, a), device_b, alpha=alpha, beta=beta)
        assert_close(engine.to_numpy(out), alpha * a + beta * b, 10 * tolerance(engine.dtype), f"{alpha} a + {beta} b")


@pytest.mark.parametrize("shape", [(1,), (5, 3), (4, 16, 16, 33)])
@pytest.mark.parametrize("inplace", [False, True], ids=["out apart", "out is x"])
def test_scale(engine, rng, shape, inplace):
    x = draw(engine, rng, *shape)
    device_x = put(engine, x)
    out = device_x if inplace else poisoned(engine, *shape)
    engine.scale(out, device_x, -1.0 / 0.17)
    assert_close(engine.to_numpy(out), x * (-1.0 / 0.17), tolerance(engine.dtype))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("step", [0, 2, 3, 7 << 33])
def test_gather_batch(engine, rng, step, flip):
    """The batch of a step: its place in the epoch's order, its mirrors from the counter-based generator."""
    images, order, n, per_epoch, seed = rng.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8), rng.permutation(14), 4, 3, 11
    x, expected = poisoned(engine, n, 6, 5, 3), poisoned(engine, n, 6, 5, 3)
    device_images = put(engine, images, np.uint8)
    counter = put(engine, [step], np.int64)
    engine.gather_batch(x, device_images, put(engine, order, np.int32), counter, per_epoch=per_epoch, seed=seed, flip=flip)
    place = step % per_epoch
    flips = (philox.uint32((n,), seed=seed, step=step, stream=philox.STREAM_FLIP) & 1).astype(bool)
    indices = order[place * n : (place + 1) * n]
    engine.gather_images(expected, device_images, indices, flips if flip else None)
    assert np.array_equal(engine.to_numpy(x), engine.to_numpy(expected))
    assert_close(engine.to_numpy(x), expected_batch(images, indices, flips if flip else None), 10 * tolerance(engine.dtype))
    assert int(engine.to_numpy(counter)[0]) == step


def test_mirrors_change_with_the_step(engine64):
    """About half of the images, others in another step."""
    flips = [philox.uint32((64,), seed=0, step=k, stream=philox.STREAM_FLIP) & 1 for k in range(2)]
    assert 16 < flips[0].sum() < 48 and (flips[0] != flips[1]).any()


@pytest.mark.parametrize("change", [{"per_epoch": 0}, {"per_epoch": 5}])
def test_an_epoch_fits_the_order(engine, rng, change):
    order, counter = put(engine, np.arange(9), np.int32), put(engine, [0], np.int64)
    images, table = put(engine, rng.integers(0, 256, (9, 3, 3, 3)), np.uint8), put(engine, draw(engine, rng, 9, 3), engine.wide)
    with pytest.raises(ValueError, match="got .*expected"):
        engine.gather_batch(poisoned(engine, 2, 3, 3, 3), images, order, counter, seed=0, flip=True, **change)
    with pytest.raises(ValueError, match="got .*expected"):
        engine.gather_rows(poisoned(engine, 2, 3, dtype=engine.wide), table, order, counter, **change)
    with pytest.raises(ValueError, match="seed: got .*expected"):
        engine.gather_batch(poisoned(engine, 2, 3, 3, 3), images, order, counter, per_epoch=4, seed=-1, flip=True)


@pytest.mark.parametrize("step", [0, 2, 3, 7 << 33])
@pytest.mark.parametrize(("n", "attributes"), [(1, 1), (4, 3), (5, 40), (7, 73)])
def test_gather_rows(engine, rng, step, n, attributes):
    """The rows of the same indices as the step's images."""
    table, order, per_epoch = draw(engine, rng, 23, attributes), rng.permutation(23), 3
    out, counter = poisoned(engine, n, attributes), put(engine, [step], np.int64)
    device_order = put(engine, order, np.int32)
    engine.gather_rows(out, put(engine, table, engine.wide), device_order, counter, per_epoch=per_epoch)
    indices = order[step % per_epoch * n :][:n]
    assert np.array_equal(engine.to_numpy(out), table[indices])
    assert int(engine.to_numpy(counter)[0]) == step
    images, x = put(engine, np.arange(23).reshape(23, 1, 1, 1), np.uint8), poisoned(engine, n, 1, 1, 1)
    engine.gather_batch(x, images, device_order, counter, per_epoch=per_epoch, seed=0, flip=False)
    assert np.array_equal(np.round((engine.to_numpy(x).reshape(n) + 1) * 127.5), indices)


@pytest.mark.parametrize("step", [1, 7 << 33])
def test_gather_rows_of_labels(engine, rng, step):
    """Whole numbers come as they are: all 31 bits, and -1."""
    table, order, counter = rng.integers(-1, 2**31 - 1, (23, 1)), rng.permutation(23), put(engine, [step], np.int64)
    table[::3] = -1
    out = put(engine, np.full((5, 1), 7), np.int32)
    engine.gather_rows(out, put(engine, table, np.int32), put(engine, order, np.int32), counter, per_epoch=4)
    assert np.array_equal(engine.to_numpy(out), table[order[step % 4 * 5 :][:5]])


def test_an_index_outside_the_table_is_no_stray_access(engine):
    """An error where the host sees the index; NaN on a device."""
    out, order = poisoned(engine, 2, 3), put(engine, [1, 9], np.int32)
    arguments = out, put(engine, np.ones((9, 3))), order, put(engine, [0], np.int64)
    if engine.name == "cpu":
        with pytest.raises(ValueError, match="got .*expected"):
            engine.gather_rows(*arguments, per_epoch=1)
    else:
        engine.gather_rows(*arguments, per_epoch=1)
        assert np.array_equal(np.isnan(engine.to_numpy(out)), [[False] * 3, [True] * 3])


@pytest.mark.parametrize(
    ("n", "columns", "attributes"), [(1, 1, 1), (3, 8, 8), (5, 24, 3), (6, 37, 40), (2, 2100, 73), (3, 16, 0), (4, 4096, 40)]
)
def test_concatenate(engine, rng, n, columns, attributes):
    x, a = draw(engine, rng, n, columns), draw(engine, rng, n, attributes)
    y = poisoned(engine, n, columns + attributes)
    engine.concatenate(y, put(engine, x), put(engine, a, engine.wide))
    assert np.array_equal(engine.to_numpy(y), np.concatenate([x, a], axis=1))


def test_counters_of_a_step(engine):
    """The rate of a step, the last one beyond the end; the counter; the gate's counts."""
    rates, lr, counter = put(engine, [0.5, 0.25, 0.125], engine.wide), poisoned(engine, 1), put(engine, [0], np.int64)
    seen = []
    for _ in range(5):
        engine.look_up_rate(lr, rates, counter)
        seen.append(float(engine.to_numpy(lr)[0]))
        engine.advance(counter)
    assert seen == [0.5, 0.25, 0.125, 0.125, 0.125]
    assert int(engine.to_numpy(counter)[0]) == 5
    counts = put(engine, np.zeros(3), np.float64)
    for flags in ((1, 0), (1, 1), (0, 0)):
        engine.count_gate(counts, put(engine, flags, np.uint8))
    assert engine.to_numpy(counts).tolist() == [3.0, 2.0, 1.0]


def test_fill_and_copy(engine, rng):
    for dtype, value in ((engine.dtype, -1.5), (np.uint8, 7), (np.int64, 1 << 40), (np.float64, 0.1)):
        out = put(engine, np.ones((3, 5)), dtype)
        engine.fill(out, value)
        assert (engine.to_numpy(out) == value).all()
    x = put(engine, draw(engine, rng, 4, 3))
    whole = poisoned(engine, 8, 3)
    engine.copy(whole[2:6], x)
    assert np.array_equal(engine.to_numpy(whole)[2:6], engine.to_numpy(x))
    assert np.isnan(engine.to_numpy(whole)[[0, 1, 6, 7]]).all()
    with pytest.raises(ValueError, match="got .*expected"):
        engine.copy(whole, x)
