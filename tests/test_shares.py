"""What a process does with its share of a batch: the same numbers as the whole batch has there, and results put together from parts."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, draw, poisoned, put, statistics, tolerance

from kernels import Running
from kernels.augmentation import AUTHORS

SHARES = (3, 1, 4)  # images of three processes
FIRST = (0, 3, 4)


@pytest.mark.parametrize("shape", [(1,), (3, 7), (5, 333)])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 7, 4096, (1 << 34) - 3000])
def test_a_draw_from_an_element_on(engine, shape, start):
    """The bits that a draw from a block of four before has there."""
    n, before = int(np.prod(shape)), start // 4 * 4
    key = {"seed": 3, "step": 5, "stream": 1}
    whole, part = poisoned(engine, start - before + n, dtype=engine.wide), poisoned(engine, *shape, dtype=engine.wide)
    engine.normal(whole, start=before, **key)
    engine.normal(part, start=start, **key)
    assert np.array_equal(engine.to_numpy(part).reshape(-1), engine.to_numpy(whole)[start - before :])


def test_where_a_draw_starts(engine):
    """`kernels.philox` says which element is which; one too many is refused."""
    whole, part = poisoned(engine, 40, dtype=engine.wide), poisoned(engine, 13, dtype=engine.wide)
    engine.normal(whole, seed=3, step=5, stream=1)
    engine.normal(part, seed=3, step=5, stream=1, start=22)
    assert np.array_equal(engine.to_numpy(part), engine.to_numpy(whole)[22:35])
    for start in (-1, 1 << 34):
        with pytest.raises(ValueError, match="start: got"):
            engine.normal(part, seed=3, step=5, stream=1, start=start)


@pytest.mark.parametrize("augmented", [False, True])
def test_images_of_a_share(engine, rng, augmented):
    """Mirrored and changed as in the whole batch, to the bit."""
    n, per_epoch = sum(SHARES), 2
    images, order = put(engine, rng.integers(0, 256, (20, 8, 8, 3)), np.uint8), rng.permutation(20)[: n * per_epoch]
    options = {"per_epoch": per_epoch, "seed": 11, "flip": True, **({"strengths": AUTHORS} if augmented else {})}
    gather = engine.augment_batch if augmented else engine.gather_batch
    counter, whole = put(engine, [3], np.int64), poisoned(engine, n, 8, 8, 3)
    gather(whole, images, put(engine, order, np.int32), counter, **options)
    for first, count in zip(FIRST, SHARES, strict=True):
        own = order.reshape(per_epoch, n)[:, first : first + count].reshape(-1)
        part = poisoned(engine, count, 8, 8, 3)
        gather(part, images, put(engine, own, np.int32), counter, first=first, **options)
        assert np.array_equal(engine.to_numpy(part), engine.to_numpy(whole)[first : first + count])


KINDS = {  # shape of x, of pre, of w, options
    "conv2d": ((6, 6, 4, 3), (6, 3, 2, 8), (5, 5, 3, 8), {"stride": 2}),
    "upconv": ((6, 3, 2, 4), (6, 6, 4, 5), (5, 5, 5, 4), {"stride": 2}),
    "linear": ((6, 24), (6, 5), (24, 5), {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_alone(engine, rng, kind):
    """Without y: the bits of the product and its statistics, and nothing moves."""
    x_shape, shape, w_shape, options = KINDS[kind]
    c, groups = shape[-1], (2, 4)
    x, w = put(engine, draw(engine, rng, *x_shape)), put(engine, draw(engine, rng, *w_shape))
    gamma, beta = put(engine, draw(engine, rng, c), engine.wide), put(engine, draw(engine, rng, c), engine.wide)
    kept = [draw(engine, rng, c) for _ in range(2)]
    found = []
    for y in (poisoned(engine, *shape), None):
        pre, mean, var = poisoned(engine, *shape), poisoned(engine, 2, c, dtype=engine.wide), poisoned(engine, 2, c, dtype=engine.wide)
        running = Running(*(put(engine, a, engine.wide) for a in kept), 0.9)
        getattr(engine, f"{kind}_bn_relu_forward")(y, pre, mean, var, x, w, gamma, beta, groups, eps=1e-5, running=running, **options)
        found.append([engine.to_numpy(a) for a in (pre, mean, var, running.mean, running.var)])
    for one, two in zip(found[0][:3], found[1][:3], strict=True):
        assert np.array_equal(one, two) and not np.isnan(two).any()
    for before, moved, left in zip(kept, found[0][3:], found[1][3:], strict=True):
        assert np.array_equal(left, before.astype(engine.wide)) and not np.array_equal(moved, left)


def test_statistics_of_parts_are_those_of_all(engine, rng):
    """Of unequal shares in two groups, far from 0."""
    values = 30.0 + rng.standard_normal((2, 8 * sum(SHARES), 5))  # groups, rows, channels
    rows = [slice(8 * a, 8 * (a + n)) for a, n in zip(FIRST, SHARES, strict=True)]
    parts = np.stack([np.stack(statistics(values[:, r].reshape(-1, 5), (8 * n,) * 2)) for r, n in zip(rows, SHARES, strict=True)])
    mean, var = poisoned(engine, 2, 5, dtype=engine.wide), poisoned(engine, 2, 5, dtype=engine.wide)
    shares = np.array(SHARES) / sum(SHARES)
    given = put(engine, parts, engine.wide)
    engine.combine_statistics(mean, var, given, put(engine, shares, np.float64))
    limit = 10 * tolerance(engine.wide)
    assert_close(engine.to_numpy(mean), values.mean(axis=1), limit, "mean")
    assert_close(engine.to_numpy(var), values.var(axis=1), 100 * limit, "var")
    for bad in (put(engine, parts[:, :1], engine.wide), put(engine, parts, np.int64)):
        with pytest.raises(ValueError, match="parts: got"):
            engine.combine_statistics(mean, var, bad, put(engine, shares, np.float64))
    with pytest.raises(ValueError, match="shares: got"):
        engine.combine_statistics(mean, var, given, put(engine, shares[:2], np.float64))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 300), (0,)])
def test_sum_of_parts(engine, rng, shape, double):
    """In the order of the parts, in double: of -1e8, 1e8 and 1 the 1 is left."""
    dtype = np.float64 if double else engine.wide
    parts = rng.standard_normal((3, *shape))
    parts[0], parts[1] = -1e8, 1e8
    out, plain = poisoned(engine, *shape, dtype=dtype), poisoned(engine, *shape, dtype=dtype)
    given = put(engine, parts, dtype)
    engine.sum_parts(out, given, factor=0.25)
    engine.sum_parts(plain, given)
    last = parts[2].astype(dtype)
    assert np.allclose(engine.to_numpy(plain), last, rtol=0, atol=2e-8) and np.allclose(
        engine.to_numpy(out), 0.25 * last, rtol=0, atol=1e-8
    )
    for bad in (put(engine, parts[:, :1], dtype), put(engine, parts, np.int64)):
        if bad.shape != given.shape or bad.dtype != given.dtype:
            with pytest.raises(ValueError, match="parts: got"):
                engine.sum_parts(out, bad)
