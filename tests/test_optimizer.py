"""RMSProp and Adam against their equations restated in float64, and against torch.optim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, draw, poisoned, put, tolerance

import kernels

SHAPES = [(1,), (5, 5, 3, 4), (129, 33), (70_001,)]  # one element, a filter, odd sizes, more than one chunk
STEPS = 6


def gradients_of(engine, rng, shape):
    """One gradient a step, of very different sizes, so that eps and the bias correction matter."""
    return [draw(engine, rng, *shape, scale=scale) for scale in (1.0, 1e-6, 30.0, 0.1, 1e-3, 1.0)[:STEPS]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_rmsprop_matches_its_equations(engine, rng, shape, weight_decay):
    """g = dw + wd w; ms = 0.9 ms + 0.1 g²; w -= lr g / (sqrt(ms) + eps): eps outside the root."""
    w, ms, lr = draw(engine, rng, *shape), np.zeros(shape), 0.01
    device_w, device_ms = put(engine, w), put(engine, ms)
    for dw in gradients_of(engine, rng, shape):
        g = dw + weight_decay * w
        ms = 0.9 * ms + 0.1 * g**2
        w = w - lr * g / (np.sqrt(ms) + 1e-8)
        device_dw = put(engine, dw)
        engine.rmsprop_update(device_w, device_ms, device_dw, lr=lr, weight_decay=weight_decay)
        assert np.array_equal(engine.to_numpy(device_dw), dw), "the gradient was written"
    assert_close(engine.to_numpy(device_w), w, 10 * tolerance(engine.dtype), "w")
    assert_close(engine.to_numpy(device_ms), ms, 10 * tolerance(engine.dtype), "ms")


def test_rmsprop_matches_torch(engine64, rng):
    shape = (13, 7)
    w = draw(engine64, rng, *shape)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.RMSprop([parameter], lr=3e-3, alpha=0.8, eps=1e-6, weight_decay=0.1)
    device_w, device_ms = put(engine64, w), put(engine64, np.zeros(shape))
    for dw in gradients_of(engine64, rng, shape):
        parameter.grad = torch.tensor(dw)
        optimizer.step()
        engine64.rmsprop_update(device_w, device_ms, put(engine64, dw), lr=3e-3, decay=0.8, eps=1e-6, weight_decay=0.1)
    assert_close(device_w, parameter.detach(), 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_adam_matches_torch(engine, rng, shape, weight_decay):
    w = draw(engine, rng, *shape)
    parameter = torch.nn.Parameter(torch.tensor(w))
    options = {"lr": 0.01, "eps": 1e-8, "weight_decay": weight_decay}
    optimizer = torch.optim.Adam([parameter], betas=(0.5, 0.999), **options)
    device_w, m, v = (put(engine, a) for a in (w, np.zeros(shape), np.zeros(shape)))
    t = put(engine, [0], np.int64)
    for dw in gradients_of(engine, rng, shape):
        parameter.grad = torch.tensor(dw)
        optimizer.step()
        engine.adam_update(device_w, m, v, t, put(engine, dw), beta1=0.5, beta2=0.999, **options)
    state = optimizer.state[parameter]
    assert int(engine.to_numpy(t)[0]) == STEPS
    limit = 10 * tolerance(engine.dtype)
    assert_close(engine.to_numpy(device_w), parameter.detach(), limit, "w")
    assert_close(engine.to_numpy(m), state["exp_avg"], limit, "m")
    assert_close(engine.to_numpy(v), state["exp_avg_sq"], limit, "v")


def test_defaults_are_the_papers(engine64, rng):
    """RMSProp 0.9 and 1e-8, no decay unless asked; Adam (0.5, 0.999)."""
    w, dw = draw(engine64, rng, 9), draw(engine64, rng, 9)
    one, two = put(engine64, w), put(engine64, w)
    engine64.rmsprop_update(one, put(engine64, np.ones(9)), put(engine64, dw), lr=0.1)
    engine64.rmsprop_update(two, put(engine64, np.ones(9)), put(engine64, dw), lr=0.1, decay=0.9, eps=1e-8, weight_decay=0.0, enabled=None)
    assert np.array_equal(one, two)
    zeros = [put(engine64, np.zeros(9)) for _ in range(2)]
    t = put(engine64, [0], np.int64)
    three = put(engine64, w)
    engine64.adam_update(three, *zeros, t, put(engine64, dw), lr=0.1)
    assert_close(zeros[0], 0.5 * dw, 1e-12, "m of beta1 = 0.5")
    assert_close(zeros[1], 0.001 * dw**2, 1e-12, "v of beta2 = 0.999")


@pytest.mark.parametrize("flag", [0, 1])
def test_a_gated_update_freezes_parameters_and_state(engine, rng, flag):
    w, dw = draw(engine, rng, 5, 7), draw(engine, rng, 5, 7)
    ones = np.ones((5, 7))
    enabled = put(engine, [flag], np.uint8)
    rms = [put(engine, w), put(engine, ones)]
    engine.rmsprop_update(*rms, put(engine, dw), lr=0.1, weight_decay=0.1, enabled=enabled)
    adam = [put(engine, w), put(engine, ones), put(engine, ones)]
    t = put(engine, [3], np.int64)
    engine.adam_update(*adam, t, put(engine, dw), lr=0.1, weight_decay=0.1, enabled=enabled)
    for array, before in zip(rms + adam, [w, ones, w, ones, ones], strict=True):
        assert np.array_equal(engine.to_numpy(array), before) == (flag == 0)
    assert int(engine.to_numpy(t)[0]) == 3 + flag, "t counts the updates that were applied"


def entries_of(engine, rng, kind):
    """Parameters of several shapes, with and without decay, gate, gradient and average, of two rates: (entries, their twins)."""
    entries, twins = [], []
    for i, shape in enumerate([(5, 5, 3, 4), (7,), (33, 9), (4, 2), (6,)]):
        w, states = draw(engine, rng, *shape), [np.abs(draw(engine, rng, *shape)) for _ in range(1 if kind == "rmsprop" else 2)]
        dw, flag = draw(engine, rng, *shape), None if i < 2 else i % 2
        average = None if i == 1 else draw(engine, rng, *shape)
        for out in (entries, twins):
            own = [put(engine, s) for s in states] + ([put(engine, [i], np.int64)] if kind == "adam" else [])
            copy = put(engine, w) if i == 2 else None
            grad = None if i == 4 else put(engine, dw)
            enabled = None if flag is None else put(engine, [flag], np.uint8)
            device_w = put(engine, w)
            numbers = {"weight_decay": 0.0 if i == 0 else 0.03, "rate": 0.5 if i == 3 else 1.0}
            followed = None if average is None else put(engine, average)
            copy = device_w if i == 1 else copy
            out.append(kernels.UpdateEntry(device_w, copy, tuple(own), grad, enabled=enabled, average=followed, **numbers))
    return entries, twins


@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
@pytest.mark.parametrize("rate", ["number", "array"])
def test_a_list_is_its_updates(engine, rng, kind, rate):
    """Every entry's bits are those of the single update; entries with no gradient stand still; copies and averages follow."""
    entries, twins = entries_of(engine, rng, kind)
    lr, blend = put(engine, [0.01], engine.wide), put(engine, [0.3], engine.wide)
    single, together = getattr(engine, f"{kind}_update"), getattr(engine, f"{kind}_update_all")
    given = [float(engine.to_numpy(a)[0]) if rate == "number" else a for a in (lr, blend)]
    together(engine.update_list(kind, entries), lr=given[0], blend=given[1])
    before = engine.to_numpy(twins[4].w).copy()
    for e in twins[:4]:
        single(e.w, *e.states, e.grad, lr=put(engine, [0.01 * e.rate], engine.wide), weight_decay=e.weight_decay, enabled=e.enabled)
    for e, twin in zip(entries, twins, strict=True):  # also of those that are held back by a gate, or have no gradient
        if e.average is not None:
            old, new = engine.to_numpy(twin.average), engine.to_numpy(twin.w)
            assert_close(engine.to_numpy(e.average), old + 0.3 * (new - old), tolerance(engine.dtype), "average")
    for e, twin in zip(entries, twins, strict=True):
        for got, expected in zip((e.w, *e.states), (twin.w, *twin.states), strict=True):
            assert np.array_equal(engine.to_numpy(got), engine.to_numpy(expected))
    assert np.array_equal(engine.to_numpy(entries[4].w), before)
    assert np.array_equal(engine.to_numpy(entries[2].copy), engine.to_numpy(twins[2].w)), "the operand copy"


def test_a_list_refuses(engine, rng):
    entries, _ = entries_of(engine, rng, "rmsprop")
    for bad in (
        entries[0]._replace(states=()),
        entries[0]._replace(grad=put(engine, np.ones((5, 5, 4, 3)))),
        entries[0]._replace(states=(put(engine, np.ones(3)),)),
        entries[0]._replace(enabled=put(engine, [1, 1], np.uint8)),
        entries[4]._replace(average=put(engine, np.ones(5))),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            engine.update_list("rmsprop", [*entries, bad])
    with pytest.raises(ValueError, match="kind: got 'sgd', expected"):
        engine.update_list("sgd", entries)


@pytest.mark.parametrize("flag", [None, 0, 1])
def test_linear_wgrad_rmsprop_is_wgrad_and_update(engine, rng, flag):
    x, dy, w, ms = (draw(engine, rng, *shape) for shape in ((6, 33), (6, 17), (33, 17), (33, 17)))
    enabled = None if flag is None else put(engine, [flag], np.uint8)
    options = {"lr": put(engine, [0.02], engine.wide), "weight_decay": 0.1, "enabled": enabled}
    got = [put(engine, w), put(engine, np.abs(ms))]
    expected = [put(engine, w), put(engine, np.abs(ms))]
    copy, dw = put(engine, w), poisoned(engine, 33, 17)
    engine.linear_wgrad_rmsprop(*got, copy, put(engine, x), put(engine, dy), **options)
    engine.linear_wgrad(dw, put(engine, x), put(engine, dy))
    engine.rmsprop_update(*expected, dw, **options)
    for one, two in zip(got, expected, strict=True):
        assert_close(engine.to_numpy(one), engine.to_numpy(two), tolerance(engine.dtype, 6))
    assert np.array_equal(engine.to_numpy(copy), engine.to_numpy(got[0]))
    assert np.array_equal(engine.to_numpy(got[0]), w) == (flag == 0)
