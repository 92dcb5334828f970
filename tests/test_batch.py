"""Batches gathered from uint8 images, and the sums and scalings that join and split errors."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, draw, poisoned, put, tolerance


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
    images = put(engine, rng.integers(0, 256, (4, 3, 3, 3)), np.uint8)
    x, indices = poisoned(engine, 2, 3, 3, 3), np.array([0, 3])
    engine.gather_images(x, images, indices)
    for args in (
        (poisoned(engine, 2, 3, 4, 3), images, indices),
        (x, put(engine, np.zeros((4, 3, 3, 3))), indices),
        (x, images, np.array([0, 4])),
        (x, images, np.array([-1, 0])),
        (x, images, np.array([0, 1, 2])),
        (x, images, indices, np.array([True])),
        (x, images, indices, np.array([1, 0])),
        (put(engine, np.zeros((2, 3, 3, 6)))[..., ::2], images, indices),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            engine.gather_images(*args)


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


def test_add_and_scale_refuse(engine):
    good, bad = put(engine, np.ones((2, 3))), put(engine, np.ones((2, 4)))
    for arguments in ((bad, good, good), (good, bad, good), (good, good, bad)):
        with pytest.raises(ValueError, match="got .*expected"):
            engine.add(*arguments)
    for arguments in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match="got .*expected"):
            engine.scale(*arguments, 2.0)
