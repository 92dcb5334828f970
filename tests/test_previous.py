"""Gradients that finish the layer underneath (`kernels.Previous`) and the backward passes that take its sums, against the plain route."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from gradcheck import assert_close, draw, poisoned, put, tolerance

from kernels import Previous

GROUPS = {"joint": (6,), "apart": (2, 3, 1)}
EPS = 1e-5
# operation, shape of dx (the output of the layer underneath), shape of dy, shape of w, options
DGRADS = {
    "conv stride 1": ("conv2d_dgrad", (6, 5, 7, 4), (6, 5, 7, 8), (5, 5, 4, 8), {"stride": 1}),
    "conv stride 1, few channels": ("conv2d_dgrad", (6, 5, 4, 3), (6, 5, 4, 8), (3, 3, 3, 8), {"stride": 1}),
    "conv stride 2, odd sizes": ("conv2d_dgrad", (6, 7, 9, 4), (6, 4, 5, 3), (5, 5, 4, 3), {"stride": 2}),
    "conv stride 2, wide": ("conv2d_dgrad", (6, 40, 40, 64), (6, 20, 20, 64), (5, 5, 64, 64), {"stride": 2}),
    "upconv": ("conv_transpose2d_dgrad", (6, 4, 3, 5), (6, 8, 6, 3), (5, 5, 3, 5), {"stride": 2}),
    "linear": ("linear_dgrad", (6, 10), (6, 7), (10, 7), {}),
    "linear of flattened images": ("linear_dgrad", (6, 2, 3, 5), (6, 7), (30, 7), {}),
}


def flat(array, operation):
    return array.reshape(len(array), -1) if array is not None and operation.startswith("linear") else array


def flat_below(previous, operation):
    return previous._replace(y=flat(previous.y, operation), pre=flat(previous.pre, operation))


def layer(engine, rng, shape, groups, *, relu_alone=False):
    """The layer underneath: its input, statistics, γ, β and output, and a `Previous` that has them."""
    c = shape[-1]
    if relu_alone:
        pre = put(engine, draw(engine, rng, *shape))
        y = poisoned(engine, *shape)
        engine.relu_forward(y, pre)
        previous = Previous(y, None, None, None, None, None, 0.0, (shape[0],), poisoned(engine, 1, 1, c))
        return SimpleNamespace(y=y, previous=previous)
    pre = put(engine, draw(engine, rng, *shape, scale=1.5, shift=0.7))
    gamma, beta = put(engine, draw(engine, rng, c, scale=0.5, shift=1.0)), put(engine, draw(engine, rng, c, scale=0.5))
    mean, var, y = poisoned(engine, len(groups), c), poisoned(engine, len(groups), c), poisoned(engine, *shape)
    engine.batch_norm_statistics(mean, var, pre, groups)
    engine.batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=EPS, relu=True)
    previous = Previous(y, pre, mean, var, gamma, beta, EPS, groups, poisoned(engine, 2, len(groups), c))
    return SimpleNamespace(y=y, pre=pre, mean=mean, var=var, gamma=gamma, beta=beta, groups=groups, previous=previous)


def expected_sums(g, under, groups):
    """[2, G, C] in float64 from g [N, ..., C]."""
    bounds = np.cumsum((0, *groups))
    axes = tuple(range(g.ndim - 1))
    parts = [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
    rows = [[g[part].sum(axis=axes) for part in parts]]
    if under.previous.pre is not None:
        pre, mean, var = (np.float64(a) for a in (under.pre, under.mean, under.var))
        rows.append([(g[p] * (pre[p] - mean[i]) / np.sqrt(var[i] + EPS)).sum(axis=axes) for i, p in enumerate(parts)])
    return np.array(rows)


SERVED = [(case, grouping) for case in DGRADS for grouping in (*GROUPS, "ReLU alone")]
SERVED.remove(("linear of flattened images", "ReLU alone"))  # a flattened image with no gamma does not say how many channels it has


@pytest.mark.parametrize(("case", "grouping"), SERVED)
def test_a_dgrad_masks_and_sums(engine, rng, case, grouping):
    """g = dx · [y > 0] and its sums: what dgrad, then ReLU's gradient, then two sums give."""
    if engine.name == "cuda" and case.endswith("wide"):
        pytest.skip("wide: for the NumPy engine's Winograd; interpreted it takes minutes and shows nothing more")
    operation, shape, dy_shape, w_shape, options = DGRADS[case]
    groups = GROUPS.get(grouping, (6,))
    under = layer(engine, rng, shape, groups, relu_alone=grouping == "ReLU alone")
    dy, w = put(engine, draw(engine, rng, *dy_shape)), put(engine, draw(engine, rng, *w_shape))
    plain, dx = poisoned(engine, *shape), poisoned(engine, *shape)
    run = getattr(engine, operation)
    run(flat(plain, operation), dy, w, **options)
    run(flat(dx, operation), dy, w, previous=flat_below(under.previous, operation), **options)
    expected = engine.to_numpy(plain).astype(np.float64) * (engine.to_numpy(under.y) > 0)
    assert 0 < np.count_nonzero(expected) < expected.size
    limit = 100 * tolerance(engine.dtype, int(np.prod(shape[:-1])))
    assert_close(engine.to_numpy(dx), expected, limit, "g")
    assert_close(engine.to_numpy(under.previous.sums), expected_sums(expected, under, under.previous.groups), limit, "sums")


@pytest.mark.parametrize("flattened", [False, True])
@pytest.mark.parametrize("grouping", [*GROUPS, "ReLU alone"])
def test_an_error_that_no_product_made_alone(engine, rng, grouping, flattened):
    """The same mask and sums for an error that is at hand, in place."""
    shape, alone = (6, 5, 4, 8), grouping == "ReLU alone"
    if alone and flattened:
        pytest.skip("a flattened image with no gamma does not say how many channels it has")
    under = layer(engine, rng, shape, GROUPS.get(grouping, (6,)), relu_alone=alone)
    error = draw(engine, rng, *shape)
    dx = put(engine, error)
    operation = "linear" if flattened else ""
    engine.finish_previous(flat(dx, operation), flat_below(under.previous, operation))
    expected = error * (engine.to_numpy(under.y) > 0)
    assert 0 < np.count_nonzero(expected) < expected.size
    assert np.array_equal(engine.to_numpy(dx), expected.astype(engine.dtype))
    limit = 100 * tolerance(engine.dtype, 120)
    assert_close(engine.to_numpy(under.previous.sums), expected_sums(expected, under, under.previous.groups), limit, "sums")
    with pytest.raises(ValueError, match="got .*expected"):
        engine.finish_previous(poisoned(engine, 5, 5, 4, 8), under.previous)


@pytest.mark.parametrize("grouping", GROUPS)
@pytest.mark.parametrize("inplace", [False, True])
def test_batch_norm_takes_the_sums(engine, rng, grouping, inplace):
    """With the error masked and summed before: the same dx, dγ, dβ as from the error alone."""
    shape, groups = (6, 5, 4, 7), GROUPS[grouping]
    under = layer(engine, rng, shape, groups)
    error = draw(engine, rng, *shape)
    args = under.pre, under.y, under.mean, under.var, under.gamma, groups
    results = []
    for sums in (None, under.previous.sums):
        dgamma, dbeta = poisoned(engine, 7), poisoned(engine, 7)
        dy = put(engine, error)
        if sums is not None:
            masked = error * (engine.to_numpy(under.y) > 0)
            engine.put(sums, expected_sums(masked, under, groups))
            engine.put(dy, masked)
        dx = dy if inplace else poisoned(engine, *shape)
        engine.batch_norm_backward(dx, dy, *args, eps=EPS, relu=True, dgamma=dgamma, dbeta=dbeta, sums=sums)
        results.append([engine.to_numpy(a) for a in (dx, dgamma, dbeta)])
    for name, one, two in zip(("dx", "dgamma", "dbeta"), *results, strict=True):
        assert_close(two, one, 100 * tolerance(engine.dtype, 120), name)


BLOCKS = {  # operation, shape of x, shape of y, shape of w, options
    "conv2d": ((6, 6, 4, 3), (6, 3, 2, 5), (5, 5, 3, 5), {"stride": 2}),
    "upconv": ((6, 3, 2, 4), (6, 6, 4, 5), (5, 5, 5, 4), {"stride": 2}),
    "linear": ((6, 2, 3, 4), (6, 5), (24, 5), {}),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("grouping", GROUPS)
def test_two_blocks_hand_the_error_down(engine64, rng, kind, grouping):
    """A block above a batch norm, the error handed down masked and summed, against each layer for itself; within 1e-9."""
    engine, groups = engine64, GROUPS[grouping]
    x_shape, y_shape, w_shape, options = BLOCKS[kind]
    under = layer(engine, rng, x_shape, groups)
    c = y_shape[-1]
    w, gamma, beta = (put(engine, draw(engine, rng, *s)) for s in (w_shape, (c,), (c,)))
    y, pre = poisoned(engine, *y_shape), poisoned(engine, *y_shape)
    mean, var = poisoned(engine, len(groups), c), poisoned(engine, len(groups), c)
    name = f"{kind}_bn_relu"
    x = flat(under.y, kind)
    getattr(engine, f"{name}_forward")(y, pre, mean, var, x, w, gamma, beta, groups, eps=EPS, **options)
    error = draw(engine, rng, *y_shape)
    results = []
    for previous in (None, flat_below(under.previous, kind)):
        dx, dw = poisoned(engine, *x_shape), poisoned(engine, *w_shape)
        down = [poisoned(engine, c), poisoned(engine, c)]
        getattr(engine, f"{name}_backward")(
            flat(dx, kind), dw, *down, put(engine, error), y, pre, mean, var, x, w, gamma, groups, eps=EPS, previous=previous, **options
        )
        dgamma, dbeta = poisoned(engine, x_shape[-1]), poisoned(engine, x_shape[-1])
        engine.batch_norm_backward(
            dx, dx, under.pre, under.y, under.mean, under.var, under.gamma, groups, eps=EPS, relu=True, dgamma=dgamma, dbeta=dbeta,
            sums=previous.sums if previous else None,
        )  # fmt: skip
        results.append([dx, dw, *down, dgamma, dbeta])
    for one, two in zip(*results, strict=True):
        assert_close(engine.to_numpy(two), engine.to_numpy(one), 1e-9)
