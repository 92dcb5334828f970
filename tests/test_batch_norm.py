"""Batch norm, with and without ReLU, batch and running statistics, several groups, against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import (
    assert_close,
    draw,
    gradients,
    leaf,
    poisoned,
    put,
    statistics,
    tolerance,
    torch_batch_norm,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import Running

# (shape of x, groups)
CASES = [
    pytest.param((6, 4, 4, 3), (6,), id="images, one group"),
    pytest.param((6, 3, 5, 3), (2, 4), id="two unequal groups, odd sizes"),
    pytest.param((7, 2, 3, 1), (1, 4, 2), id="three unequal groups, one channel, a group of one image"),
    pytest.param((1, 5, 5, 4), (1,), id="one image"),
    pytest.param((6, 1, 1, 3), (3, 3), id="one pixel"),
    pytest.param((8, 5), (8,), id="units of a fully connected layer"),
    pytest.param((9, 6), (4, 5), id="units, two groups"),
    pytest.param((12, 16, 16, 40), (4, 4, 4), id="more than one piece"),
]


def check_batch_norm(engine, rng, shape, groups, relu, inplace, eps=1e-5, want=(True, True)):
    c, count = shape[-1], shape[0] * int(np.prod(shape[1:-1]))
    limit = 10 * tolerance(engine.dtype, count)
    x = draw(engine, rng, *shape, scale=1.5, shift=0.7)  # a mean that is not 0, or a wrong variance would pass
    gamma, beta = draw(engine, rng, c, scale=0.5, shift=1.0), draw(engine, rng, c, scale=0.5)
    dy = draw(engine, rng, *shape)

    tx, tg, tb = leaf(x), leaf(gamma), leaf(beta)
    ty = torch_batch_norm(tx, tg, tb, groups, eps)
    ty = torch.relu(ty) if relu else ty
    ex, eg, eb = gradients(ty, dy, tx, tg, tb)

    device_x, device_gamma = put(engine, x), put(engine, gamma)
    mean, var = poisoned(engine, len(groups), c), poisoned(engine, len(groups), c)
    engine.batch_norm_statistics(mean, var, device_x, groups)
    expected_mean, expected_var = statistics(x, groups)
    assert_close(engine.to_numpy(mean), expected_mean, limit, "mean")
    if expected_var.any():
        assert_close(engine.to_numpy(var), expected_var, limit, "var")

    y = poisoned(engine, *shape)
    engine.batch_norm_forward(y, device_x, mean, var, device_gamma, put(engine, beta), groups, eps=eps, relu=relu)
    assert_close(engine.to_numpy(y), ty, limit, "y")

    device_dy = put(engine, dy)
    dx = device_dy if inplace else poisoned(engine, *shape)
    dgamma = poisoned(engine, c) if want[0] else None
    dbeta = poisoned(engine, c) if want[1] else None
    engine.batch_norm_backward(dx, device_dy, device_x, y, mean, var, device_gamma, groups, eps=eps, relu=relu, dgamma=dgamma, dbeta=dbeta)
    if np.linalg.norm(ex) > 1e-12 * np.linalg.norm(dy):
        assert_close(engine.to_numpy(dx), ex, limit, "dx")
    if want[0]:
        assert_close(engine.to_numpy(dgamma), eg, limit, "dgamma")
    if want[1]:
        assert_close(engine.to_numpy(dbeta), eb, limit, "dbeta")


@pytest.mark.parametrize(("shape", "groups"), CASES)
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("inplace", [False, True], ids=["dx apart", "dx is dy"])
def test_batch_norm_matches_autograd(engine, rng, shape, groups, relu, inplace):
    check_batch_norm(engine, rng, shape, groups, relu, inplace)


@pytest.mark.parametrize("want", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("inplace", [False, True], ids=["dx apart", "dx is dy"])
def test_batch_norm_gradients_that_are_not_wanted(engine, rng, want, inplace):
    """dgamma and dbeta enter dx under batch statistics, wanted or not."""
    check_batch_norm(engine, rng, (5, 3, 2, 3), (2, 3), True, inplace, want=want)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    groups=st.lists(st.integers(1, 4), min_size=1, max_size=4), size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    c=st.integers(1, 5), units=st.booleans(), relu=st.booleans(), inplace=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_batch_norm_any_shape(engine64, groups, size, c, units, relu, inplace, seed):
    # A group with a single value per channel has variance 0 and amplifies rounding by 1/sqrt(eps): 3 images at least.
    groups = tuple(g + 2 for g in groups)
    shape = (sum(groups), c) if units else (sum(groups), *size, c)
    rng = np.random.default_rng(seed)
    if relu and shape[-1] == 1:  # every unit may be clipped: a zero reference says nothing
        relu = False
    check_batch_norm(engine64, rng, shape, groups, relu, inplace)


@pytest.mark.parametrize("shape", [(5, 3, 4, 3), (5, 6)], ids=["images", "units"])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("inplace", [False, True], ids=["dx apart", "dx is dy"])
def test_batch_norm_with_running_statistics(engine, rng, shape, relu, inplace):
    """Running statistics are constants: [1, C], one group, and no error flows through them."""
    c, eps, groups = shape[-1], 1e-6, (shape[0],)
    limit = 10 * tolerance(engine.dtype, int(np.prod(shape)) // c)
    x, dy = draw(engine, rng, *shape), draw(engine, rng, *shape)
    mean = draw(engine, rng, 1, c)
    var = (0.5 + rng.random((1, c))).astype(engine.dtype).astype(np.float64)
    gamma, beta = draw(engine, rng, c, scale=0.5, shift=1.0), draw(engine, rng, c)

    tx, tg, tb = leaf(x), leaf(gamma), leaf(beta)
    ty = (tx - torch.tensor(mean[0])) / torch.sqrt(torch.tensor(var[0]) + eps) * tg + tb
    ty = torch.relu(ty) if relu else ty
    ex, eg, eb = gradients(ty, dy, tx, tg, tb)

    device = [put(engine, a) for a in (x, mean, var, gamma)]
    y, device_dy = poisoned(engine, *shape), put(engine, dy)
    engine.batch_norm_forward(y, *device, put(engine, beta), groups, eps=eps, relu=relu)
    assert_close(engine.to_numpy(y), ty, limit, "y")
    dx = device_dy if inplace else poisoned(engine, *shape)
    dgamma, dbeta = poisoned(engine, c), poisoned(engine, c)
    engine.batch_norm_backward(
        dx, device_dy, device[0], y, *device[1:], groups, eps=eps, relu=relu, batch_statistics=False,
        dgamma=dgamma, dbeta=dbeta,
    )  # fmt: skip
    assert_close(engine.to_numpy(dx), ex, limit, "dx")
    assert_close(engine.to_numpy(dgamma), eg, limit, "dgamma")
    assert_close(engine.to_numpy(dbeta), eb, limit, "dbeta")
    assert np.array_equal(engine.to_numpy(device[1]), mean), "running statistics were written"


def test_variance_survives_a_large_mean(engine, rng):
    """E[x²] - E[x]² would lose every digit here: statistics are taken about the mean."""
    x = draw(engine, rng, 6, 5, 5, 3, scale=0.1, shift=300.0)
    mean, var = poisoned(engine, 1, 3), poisoned(engine, 1, 3)
    engine.batch_norm_statistics(mean, var, put(engine, x), (6,))
    expected_mean, expected_var = statistics(x, (6,))
    assert_close(engine.to_numpy(mean), expected_mean, 1e-6, "mean")
    assert_close(engine.to_numpy(var), expected_var, 1e-3 if engine.dtype == np.float32 else 1e-9, "var")


@pytest.mark.parametrize("groups", [(6,), (1, 3, 2)], ids=["one group", "unequal groups"])
def test_running_statistics_keep_a_fraction_and_average_groups_by_size(engine, rng, groups):
    n_groups, c, kept = len(groups), 4, 0.9
    running_mean, running_var = draw(engine, rng, c), 1 + draw(engine, rng, c) ** 2
    mean, var = draw(engine, rng, n_groups, c), draw(engine, rng, n_groups, c) ** 2
    weight = np.asarray(groups)[:, None] / sum(groups)
    device = [put(engine, a) for a in (running_mean, running_var, mean, var)]
    x, one = draw(engine, rng, sum(groups), c), put(engine, np.ones(c), engine.wide)
    running = Running(*device[:2], kept)
    engine.batch_norm_forward(poisoned(engine, *x.shape), put(engine, x), *device[2:], one, one, groups, eps=1e-5, running=running)
    limit = 10 * tolerance(engine.dtype)
    assert_close(engine.to_numpy(device[0]), kept * running_mean + (1 - kept) * (weight * mean).sum(0), limit)
    assert_close(engine.to_numpy(device[1]), kept * running_var + (1 - kept) * (weight * var).sum(0), limit)
    assert np.array_equal(engine.to_numpy(device[2]), mean), "an input was written"
