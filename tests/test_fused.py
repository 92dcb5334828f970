"""The blocks the networks are made of (conv, upconv, linear; then BN; then ReLU) against PyTorch autograd."""

from __future__ import annotations

from types import SimpleNamespace

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
    torch_conv2d,
    torch_conv_transpose2d,
)  # fmt: skip

# kind, shape of x, shape of y, shape of w, stride, groups
CASES = [
    pytest.param("conv2d", (4, 8, 8, 3), (4, 4, 4, 5), (5, 5, 3, 5), 2, (4,), id="conv stride 2, 3 channels"),
    pytest.param("conv2d", (5, 7, 9, 4), (5, 4, 5, 3), (5, 5, 4, 3), 2, (2, 3), id="conv, odd sizes, two groups"),
    pytest.param("conv2d", (6, 5, 4, 1), (6, 5, 4, 2), (3, 3, 1, 2), 1, (1, 2, 3), id="conv stride 1, three groups"),
    pytest.param("conv2d", (1, 6, 6, 2), (1, 3, 3, 3), (5, 5, 2, 3), 2, (1,), id="conv, one image"),
    pytest.param("upconv", (4, 4, 4, 6), (4, 8, 8, 3), (5, 5, 3, 6), 2, (4,), id="upconv"),
    pytest.param("upconv", (5, 4, 3, 3), (5, 7, 6, 4), (5, 5, 4, 3), 2, (2, 3), id="upconv, odd rows, two groups"),
    pytest.param("upconv", (1, 3, 3, 2), (1, 6, 6, 1), (5, 5, 1, 2), 2, (1,), id="upconv, one image, one channel"),
    pytest.param("linear", (6, 10), (6, 7), (10, 7), None, (6,), id="linear"),
    pytest.param("linear", (9, 3), (9, 5), (3, 5), None, (2, 4, 3), id="linear, three groups"),
]
WANTED = {"both": (True, True), "errors only": (True, False), "weights only": (False, True)}


def reference(case, data):
    """y, dx, dw, dgamma, dbeta by autograd; with `running` the statistics are those given."""
    x, w, gamma, beta = (leaf(data[name]) for name in ("x", "w", "gamma", "beta"))
    if case.kind == "conv2d":
        pre = torch_conv2d(x, w, None, case.stride)
    elif case.kind == "upconv":
        pre = torch_conv_transpose2d(x, w, case.y[1:3], None, case.stride)
    else:
        pre = x @ w
    if case.running:
        mean, var = torch.tensor(data["mean"][0]), torch.tensor(data["var"][0])
        normed = (pre - mean) / torch.sqrt(var + case.eps) * gamma + beta
    else:
        normed = torch_batch_norm(pre, gamma, beta, case.groups, case.eps)
    y = torch.relu(normed)
    return pre, y, gradients(y, data["dy"], x, w, gamma, beta)


def make_case(engine, rng, kind, x, y, w, stride, groups, running=False):
    case = SimpleNamespace(kind=kind, x=x, y=y, w=w, stride=stride, groups=groups, running=running)
    case.eps = 1e-5 if kind == "linear" else 1e-6
    case.options = {"eps": case.eps, **({} if stride is None else {"stride": stride})}
    c = y[-1]
    data = {
        "x": draw(engine, rng, *x), "w": draw(engine, rng, *w, scale=0.3), "dy": draw(engine, rng, *y),
        "gamma": draw(engine, rng, c, scale=0.3, shift=1.0), "beta": draw(engine, rng, c, scale=0.3),
    }  # fmt: skip
    if running:
        data["mean"] = draw(engine, rng, 1, c, scale=0.3)  # a single channel must not be clipped as a whole
        data["var"] = (0.5 + rng.random((1, c))).astype(engine.dtype).astype(np.float64)
        case.groups, case.options["batch_statistics"] = (x[0],), False
    return case, data


def check_fused(engine, case, data, wanted):
    limit = 30 * tolerance(engine.dtype, int(np.prod(case.w)) + int(np.prod(case.y[:-1])))
    pre_t, y_t, (dx_t, dw_t, dgamma_t, dbeta_t) = reference(case, data)
    c, n_groups = case.y[-1], 1 if case.running else len(case.groups)
    x, w, gamma, beta = (put(engine, data[name]) for name in ("x", "w", "gamma", "beta"))
    y, pre = poisoned(engine, *case.y), poisoned(engine, *case.y)
    mean, var = (put(engine, data[k]) if case.running else poisoned(engine, n_groups, c) for k in ("mean", "var"))
    forward = getattr(engine, f"{case.kind}_bn_relu_forward")
    forward(y, pre, mean, var, x, w, gamma, beta, case.groups, **case.options)
    assert_close(engine.to_numpy(pre), pre_t, limit, "pre")
    assert_close(engine.to_numpy(y), y_t, limit, "y")
    if not case.running:
        expected_mean, expected_var = statistics(pre_t.detach().numpy(), case.groups)
        assert_close(engine.to_numpy(mean), expected_mean, limit, "mean")
        assert_close(engine.to_numpy(var), expected_var, limit, "var")

    want_dx, want_dw = WANTED[wanted]
    dx = poisoned(engine, *case.x) if want_dx else None
    dw, dgamma, dbeta = (poisoned(engine, *case.w), poisoned(engine, c), poisoned(engine, c)) if want_dw else (None, None, None)
    backward = getattr(engine, f"{case.kind}_bn_relu_backward")
    backward(dx, dw, dgamma, dbeta, put(engine, data["dy"]), y, pre, mean, var, x, w, gamma, case.groups, **case.options)
    if want_dx:
        assert_close(engine.to_numpy(dx), dx_t, limit, "dx")
    if want_dw:
        assert_close(engine.to_numpy(dw), dw_t, limit, "dw")
        assert_close(engine.to_numpy(dgamma), dgamma_t, limit, "dgamma")
        assert_close(engine.to_numpy(dbeta), dbeta_t, limit, "dbeta")
    for name, array in (("x", x), ("w", w), ("gamma", gamma)):
        assert np.array_equal(engine.to_numpy(array), data[name]), f"the input {name} was written"


@pytest.mark.parametrize(("kind", "x", "y", "w", "stride", "groups"), CASES)
@pytest.mark.parametrize("wanted", WANTED)
def test_fused_block_matches_autograd(engine, rng, kind, x, y, w, stride, groups, wanted):
    check_fused(engine, *make_case(engine, rng, kind, x, y, w, stride, groups), wanted)


@pytest.mark.parametrize(("kind", "x", "y", "w", "stride", "groups"), CASES)
def test_fused_block_with_running_statistics(engine, rng, kind, x, y, w, stride, groups):
    """Used to decode and to discriminate: mean and var are inputs and constants."""
    check_fused(engine, *make_case(engine, rng, kind, x, y, w, stride, groups, running=True), "both")


def test_fused_block_is_its_parts(engine64, rng):
    """The same bits as the three operations called one after another would be too much; 1e-12 is not."""
    engine = engine64
    x, w = put(engine, draw(engine, rng, 4, 6, 6, 3)), put(engine, draw(engine, rng, 5, 5, 3, 4))
    gamma, beta = put(engine, draw(engine, rng, 4, shift=1.0)), put(engine, draw(engine, rng, 4))
    pre, y, pre2, y2 = (poisoned(engine, 4, 3, 3, 4) for _ in range(4))
    mean, var, mean2, var2 = (poisoned(engine, 2, 4) for _ in range(4))
    engine.conv2d_bn_relu_forward(y, pre, mean, var, x, w, gamma, beta, (1, 3), stride=2, eps=1e-6)
    engine.conv2d_forward(pre2, x, w, stride=2)
    engine.batch_norm_statistics(mean2, var2, pre2, (1, 3))
    engine.batch_norm_forward(y2, pre2, mean2, var2, gamma, beta, (1, 3), eps=1e-6, relu=True)
    for got, expected in ((pre, pre2), (mean, mean2), (var, var2), (y, y2)):
        assert_close(engine.to_numpy(got), engine.to_numpy(expected), 1e-12)
