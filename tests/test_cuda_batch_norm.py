"""Batch norm in CUDA C on the emulated device against the NumPy engine in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, ROUNDED, Operations, draw, float64, same_bits
from gradcheck import assert_close

from kernels.cpu import batch_norm as cpu

EPS = 1e-5
CASES = [
    ((1, 1), (1,)),  # one row, one channel
    ((5, 1), (2, 3)),
    ((4, 3, 3, 3), (1, 2, 1)),  # single channels a thread, lanes that are no divisor of the row
    ((3, 7, 5, 24), (1, 2)),  # vectors, three lanes of four used
    ((2, 33, 33, 8), (2,)),  # more rows than a tile
    ((6, 300), (4, 2)),  # single channels, two column blocks
    ((5, 2056), (5,)),  # vectors, two column blocks, the second with one lane
]


def layer(rng, precision, shape, groups, shift=0.0):
    """(x, y, dy, mean, var, gamma, beta) of a batch norm + ReLU in float64, as the device's types hold them; y from NumPy."""
    c = shape[-1]
    x = draw(rng, precision, *shape, scale=2.0, shift=shift)
    gamma, beta = (draw(rng, "float32", c, shift=s) for s in (1.0, 0.3))
    mean, var = np.empty((len(groups), c)), np.empty((len(groups), c))
    cpu.batch_norm_statistics(mean, var, x, groups)
    mean, var = (a.astype(np.float32).astype(np.float64) for a in (mean, var))
    y = np.empty(shape)
    cpu.batch_norm_forward(y, x, mean, var, gamma, beta, groups, eps=EPS, relu=True)
    return x, y, draw(rng, precision, *shape), mean, var, gamma, beta


def wide(ops, *arrays, shift=0):
    return [ops.put(a, FLOAT32, shift) for a in arrays]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(("shape", "groups"), CASES)
def test_statistics(rng, precision, shape, groups, shift):
    ops, c = Operations(precision), shape[-1]
    for offset in (0.0, 1e3):  # a mean far above the deviation must cost no digits
        x = draw(rng, precision, *shape, scale=2.0, shift=offset)
        mean, var = (ops.out((len(groups), c), FLOAT32, shift) for _ in range(2))
        ops.batch_norm_statistics(mean, var, ops.put(x, shift=shift), groups)
        expected = np.empty((2, len(groups), c))
        cpu.batch_norm_statistics(expected[0], expected[1], x, groups)
        assert_close(float64(mean), expected[0], 1e-6, "mean")
        if expected[1].any():
            assert_close(float64(var), expected[1], 2e-6 if offset == 0.0 else 1e-4, "var")  # naive squares would lose 2e-2
        else:
            assert (var == 0).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(("shape", "groups"), CASES)
def test_forward(rng, precision, shape, groups, shift):
    ops = Operations(precision)
    x, _, _, mean, var, gamma, beta = layer(rng, precision, shape, groups)
    for relu in (False, True):
        expected = np.empty(shape)
        cpu.batch_norm_forward(expected, x, mean, var, gamma, beta, groups, eps=EPS, relu=relu)
        device_x = ops.put(x, shift=shift)
        for y in (ops.out(shape, shift=shift), device_x):  # apart, then in place
            ops.batch_norm_forward(y, device_x, *wide(ops, mean, var, gamma, beta, shift=shift), groups, eps=EPS, relu=relu)
            assert_close(float64(y) + 1e-9, expected + 1e-9, ROUNDED[precision])  # a single clipped value has norm 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", ["plain", "relu", "relu, constant statistics", "sums given", "in place, unaligned"])
@pytest.mark.parametrize(("shape", "groups"), CASES[1:])
def test_backward(rng, precision, shape, groups, variant):
    ops, c = Operations(precision), shape[-1]
    x, y, dy, mean, var, gamma, _ = layer(rng, precision, shape, groups)
    options = {"eps": EPS, "relu": variant != "plain", "batch_statistics": "constant" not in variant}
    dx, dgamma, dbeta = np.empty(shape), np.empty(c), np.empty(c)
    cpu.batch_norm_backward(dx, dy, x, y, mean, var, gamma, groups, dgamma=dgamma, dbeta=dbeta, **options)
    shift = 1 if "unaligned" in variant else 0
    error = ops.put(dy * (y > 0) if variant == "sums given" else dy, shift=shift)
    output = ops.put(y, shift=shift)
    if variant == "sums given":
        options["sums"] = ops.put(sums_of(dy * (y > 0), x, mean, var, groups), FLOAT32)
        output = ops.out(shape)  # must not be looked at
    got = error if "in place" in variant else ops.out(shape)
    got_gamma, got_beta = ops.out((c,), FLOAT32, shift), ops.out((c,), FLOAT32, shift)
    arguments = (ops.put(x, shift=shift), output, *wide(ops, mean, var, gamma, shift=shift), groups)
    ops.batch_norm_backward(got, error, *arguments, dgamma=got_gamma, dbeta=got_beta, **options)
    size = np.linalg.norm(np.sqrt(1 / (var + EPS)).max() * gamma.max() * dy)  # small groups leave differences of nearly equal terms
    assert_near(got, dx, ROUNDED[precision], 4e-6 * size)
    assert_near(got_gamma, dgamma, 1e-6, 2e-6 * np.linalg.norm(dy))
    assert_near(got_beta, dbeta, 1e-6, 1e-6 * np.linalg.norm(dy))


def assert_near(got, expected, relative, absolute):
    error = np.linalg.norm(float64(got) - expected)
    assert error <= relative * np.linalg.norm(expected) + absolute, (error, np.linalg.norm(expected), absolute)


def sums_of(g, x, mean, var, groups):
    """[2, G, C]: Σ g and Σ g x̂ of each group, in float64."""
    sums, start = np.empty((2, *mean.shape)), 0
    for i, images in enumerate(groups):
        rows = slice(start, start + images)
        xhat = (x[rows] - mean[i]) / np.sqrt(var[i] + EPS)
        sums[0, i] = g[rows].reshape(-1, g.shape[-1]).sum(axis=0)
        sums[1, i] = (g[rows] * xhat).reshape(-1, g.shape[-1]).sum(axis=0)
        start += images
    return sums


def test_backward_writes_only_what_is_wanted(rng):
    shape, groups = (4, 3, 3, 16), (3, 1)
    x, y, dy, mean, var, gamma, _ = layer(rng, "float32", shape, groups)
    ops = Operations()
    arguments = [ops.put(dy), ops.put(x), ops.put(y), *wide(ops, mean, var, gamma), groups]
    both, one, none = ops.out(shape), ops.out(shape), ops.out(shape)
    dgamma, dbeta, alone = (ops.out((16,)) for _ in range(3))
    ops.batch_norm_backward(both, *arguments, eps=EPS, relu=True, dgamma=dgamma, dbeta=dbeta)
    ops.batch_norm_backward(one, *arguments, eps=EPS, relu=True, dgamma=alone)
    ops.batch_norm_backward(none, *arguments, eps=EPS, relu=True)
    assert both.tobytes() == one.tobytes() == none.tobytes()
    assert alone.tobytes() == dgamma.tobytes()
    ops.device.launches = launches = []
    ops.batch_norm_backward(none, *arguments, eps=EPS, relu=True, batch_statistics=False)
    assert [launch.name for launch in launches] == ["bn_backward"], "sums that nobody asked for"
    assert_close(float64(none), dy * (y > 0) * np.repeat(gamma / np.sqrt(var + EPS), groups, axis=0)[:, None, None], 1e-6)


def test_sums_given_make_one_launch_that_reads_dy_and_x_once(rng):
    shape, groups = (2, 4, 4, 8), (2,)
    x, _, dy, mean, var, gamma, _ = layer(rng, "float32", shape, groups)
    ops = Operations()
    sums = ops.put(sums_of(dy, x, mean, var, groups))
    ops.device.launches = launches = []
    ops.batch_norm_backward(
        ops.out(shape), ops.put(dy), ops.put(x), None, *wide(ops, mean, var, gamma), groups, eps=EPS, relu=True, sums=sums
    )
    assert [launch.name for launch in launches] == ["bn_backward"]
    small = 4 * (3 * 8 + 2 * 8)
    assert (launches[0].cost.reads, launches[0].cost.writes, launches[0].cost.flops) == (2 * x.size * 4 + small, x.size * 4, 0)


@pytest.mark.parametrize("groups", [(4,), (1, 3)])
def test_update_running(rng, groups):
    ops, c = Operations(), 300
    running = [draw(rng, "float32", c), 1.0 + draw(rng, "float32", c) ** 2]
    given = [draw(rng, "float32", len(groups), c), draw(rng, "float32", len(groups), c) ** 2]
    got = wide(ops, *running)
    ops.batch_norm_update_running(*got, *wide(ops, *given), groups, momentum=0.9)
    expected = [a.astype(np.float32) for a in running]
    cpu.batch_norm_update_running(*expected, *(a.astype(np.float32) for a in given), groups, momentum=0.9)
    for a, b, name in zip(got, expected, ("mean", "var"), strict=True):
        assert_close(a, b, 2e-7, name)


def test_non_finite_values_stay_non_finite_where_numpy_has_them(rng):
    shape, groups = (4, 3, 3, 8), (2, 2)
    x, y, dy, mean, var, gamma, beta = (a.astype(np.float32) for a in layer(rng, "float32", shape, groups))
    x[0, 0, 0, 0], x[3, 1, 1, 1], x[2, 0, 2, 2] = np.nan, np.inf, -np.inf
    dy[1, 1, 1, 3], y[1, 1, 1, 3] = np.inf, 0.0  # an infinite error behind a closed ReLU: NaN, not 0
    ops = Operations()
    device = [ops.put(a) for a in (x, y, dy)]
    got = [ops.out((2, 8)), ops.out((2, 8)), ops.out(shape), ops.out(shape), ops.out((8,)), ops.out((8,))]
    expected = [np.empty_like(a) for a in got]
    with np.errstate(all="ignore"):
        cpu.batch_norm_statistics(*expected[:2], x, groups)
        cpu.batch_norm_forward(expected[2], x, *expected[:2], gamma, beta, groups, eps=EPS, relu=True)
        cpu.batch_norm_backward(expected[3], dy, x, y, mean, var, gamma, groups, eps=EPS, relu=True, dgamma=expected[4], dbeta=expected[5])
    ops.batch_norm_statistics(*got[:2], device[0], groups)
    ops.batch_norm_forward(got[2], device[0], *got[:2], *wide(ops, gamma, beta), groups, eps=EPS, relu=True)
    parameters = wide(ops, mean, var, gamma)
    ops.batch_norm_backward(got[3], device[2], *device[:2], *parameters, groups, eps=EPS, relu=True, dgamma=got[4], dbeta=got[5])
    for name, a, b in zip(("mean", "var", "y", "dx", "dgamma", "dbeta"), got, expected, strict=True):
        assert not np.isfinite(b).all(), f"{name}: the test has nothing to find"
        assert np.array_equal(np.isfinite(a), np.isfinite(b)), name


def test_the_order_of_threads_changes_no_bit(rng):
    for shape, groups in (CASES[2], CASES[3]):
        x, y, dy, mean, var, gamma, beta = layer(rng, "float32", shape, groups)

        def run(seed, shape=shape, groups=groups, x=x, y=y, dy=dy, mean=mean, var=var, gamma=gamma, beta=beta):
            ops, c = Operations(seed=seed), shape[-1]
            out = [ops.out((len(groups), c)), ops.out((len(groups), c)), ops.out(shape), ops.out(shape), ops.out((c,)), ops.out((c,))]
            ops.batch_norm_statistics(*out[:2], ops.put(x), groups)
            ops.batch_norm_forward(out[2], ops.put(x), *out[:2], ops.put(gamma), ops.put(beta), groups, eps=EPS, relu=True)
            constants = (ops.put(mean), ops.put(var), ops.put(gamma), groups)
            ops.batch_norm_backward(
                out[3], ops.put(dy), ops.put(x), ops.put(y), *constants, eps=EPS, relu=True, dgamma=out[4], dbeta=out[5]
            )
            return out

        same_bits(run)


def test_batch_norm_refuses():
    ops = Operations()
    good = {"x": ops.out((4, 3)), "row": ops.out((1, 3)), "c": ops.out((3,))}
    other = ops.out((4, 4))
    for call in (
        lambda: ops.batch_norm_statistics(good["c"], good["row"], good["x"], (4,)),
        lambda: ops.batch_norm_statistics(good["row"], good["row"], good["x"], (3,)),
        lambda: ops.batch_norm_statistics(good["row"], good["row"], good["c"], (3,)),
        lambda: ops.batch_norm_statistics(ops.out((1, 3), np.float64), good["row"], good["x"], (4,)),
        lambda: ops.batch_norm_forward(other, good["x"], *[good["row"]] * 2, *[good["c"]] * 2, (4,), eps=EPS),
        lambda: ops.batch_norm_forward(good["x"], good["x"], *[good["row"]] * 2, good["row"], good["c"], (4,), eps=EPS),
        lambda: ops.batch_norm_backward(good["x"], other, good["x"], good["x"], *[good["row"]] * 2, good["c"], (4,), eps=EPS),
        lambda: ops.batch_norm_backward(good["x"], good["x"], good["x"], other, *[good["row"]] * 2, good["c"], (4,), eps=EPS, relu=True),
        lambda: ops.batch_norm_backward(
            good["x"], good["x"], good["x"], good["x"], *[good["row"]] * 2, good["c"], (4,), eps=EPS, sums=good["row"]
        ),
        lambda: ops.batch_norm_update_running(good["c"], good["c"], good["row"], ops.out((2, 3)), (4,), momentum=0.9),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()
