"""conv2d forward, dgrad and wgrad against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, draw, gradients, leaf, poisoned, put, tolerance, torch_conv2d
from hypothesis import given, settings
from hypothesis import strategies as st

# (N, H, W, Ci, Co, KH, KW, stride) and why it is here
CASES = [
    pytest.param(2, 8, 8, 3, 5, 5, 5, 2, id="the networks' kind: 5x5 stride 2 from 3 channels"),
    pytest.param(2, 8, 8, 4, 3, 5, 5, 1, id="the image layer: 5x5 stride 1 to 3 channels"),
    pytest.param(1, 8, 8, 1, 1, 5, 5, 2, id="one image, one channel in and out"),
    pytest.param(3, 7, 9, 3, 4, 5, 5, 2, id="odd sizes, height and width apart"),
    pytest.param(3, 6, 9, 2, 4, 5, 5, 2, id="even height, odd width"),
    pytest.param(2, 9, 6, 3, 2, 3, 3, 2, id="3x3 stride 2"),
    pytest.param(2, 5, 7, 3, 2, 3, 3, 1, id="3x3 stride 1"),
    pytest.param(2, 5, 4, 6, 7, 1, 1, 1, id="1x1: a product of matrices"),
    pytest.param(2, 5, 6, 3, 4, 1, 1, 2, id="1x1 stride 2: most pixels unread"),
    pytest.param(2, 6, 7, 2, 3, 3, 5, 2, id="a kernel that is not square"),
    pytest.param(2, 1, 9, 3, 4, 5, 5, 2, id="one row: only the kernel's middle row is inside"),
    pytest.param(1, 1, 1, 3, 4, 5, 5, 1, id="one pixel"),
    pytest.param(2, 2, 3, 3, 4, 7, 7, 2, id="kernel larger than the picture"),
    pytest.param(5, 16, 16, 32, 40, 5, 5, 2, id="more than one piece of im2col"),
]


def check_conv2d(engine, rng, n, h, w, ci, co, kh, kw, stride, bias=True):
    x, weight = draw(engine, rng, n, h, w, ci), draw(engine, rng, kh, kw, ci, co)
    b = draw(engine, rng, co) if bias else None
    oh, ow = -(-h // stride), -(-w // stride)
    dy = draw(engine, rng, n, oh, ow, co)

    tx, tw, tb = leaf(x), leaf(weight), leaf(b if bias else np.zeros(co))
    ty = torch_conv2d(tx, tw, tb, stride)
    assert ty.shape == (n, oh, ow, co)
    ex, ew, eb = gradients(ty, dy, tx, tw, tb)

    y = poisoned(engine, n, oh, ow, co)
    engine.conv2d_forward(y, put(engine, x), put(engine, weight), put(engine, b) if bias else None, stride=stride)
    assert_close(engine.to_numpy(y), ty, tolerance(engine.dtype, kh * kw * ci), "y")

    dx = poisoned(engine, n, h, w, ci)
    engine.conv2d_dgrad(dx, put(engine, dy), put(engine, weight), stride=stride)
    assert_close(engine.to_numpy(dx), ex, tolerance(engine.dtype, kh * kw * co), "dx")

    dw, db = poisoned(engine, kh, kw, ci, co), poisoned(engine, co) if bias else None
    engine.conv2d_wgrad(dw, put(engine, x), put(engine, dy), stride=stride, dbias=db)
    assert_close(engine.to_numpy(dw), ew, tolerance(engine.dtype, n * oh * ow), "dw")
    if bias:
        assert_close(engine.to_numpy(db), eb, 10 * tolerance(engine.dtype, n * oh * ow), "dbias")


@pytest.mark.parametrize(("n", "h", "w", "ci", "co", "kh", "kw", "stride"), CASES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_conv2d_matches_autograd(engine, rng, n, h, w, ci, co, kh, kw, stride, bias):
    check_conv2d(engine, rng, n, h, w, ci, co, kh, kw, stride, bias)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*(st.integers(1, top) for top in (3, 11, 11, 5, 5))),
    kernel=st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 3, 5, 7])),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**31),
)
def test_conv2d_any_shape(engine64, shape, kernel, stride, seed):
    check_conv2d(engine64, np.random.default_rng(seed), *shape, *kernel, stride)


def test_conv2d_of_inputs_that_change_between_calls(engine64, rng):
    """Buffers that an engine keeps between calls (im2col pieces, borders) must not leak from one call to the next."""
    for n, h in ((4, 9), (1, 4), (3, 9), (4, 9)):
        check_conv2d(engine64, rng, n, h, h, 3, 4, 5, 5, 2)
        check_conv2d(engine64, rng, n, h, h, 3, 4, 3, 3, 1)


def test_conv2d_names_the_argument(engine64, rng):
    x, w = put(engine64, draw(engine64, rng, 2, 8, 8, 3)), put(engine64, draw(engine64, rng, 5, 5, 3, 5))
    with pytest.raises(ValueError, match=r"^y: got shape \(2, 8, 8, 5\), expected \(2, 4, 4, 5\)"):
        engine64.conv2d_forward(poisoned(engine64, 2, 8, 8, 5), x, w, stride=2)
    with pytest.raises(ValueError, match=r"^stride: got 3, expected"):
        engine64.conv2d_forward(poisoned(engine64, 2, 4, 4, 5), x, w, stride=3)
    with pytest.raises(ValueError, match=r"^w: got .*expected odd"):
        engine64.conv2d_forward(poisoned(engine64, 2, 4, 4, 5), x, put(engine64, np.zeros((4, 4, 3, 5))), stride=2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_conv2d_with_an_activation(engine, rng, stride, activation):
    x, w, b = draw(engine, rng, 2, 6, 9, 4), draw(engine, rng, 5, 5, 4, 3, scale=0.1), draw(engine, rng, 3)
    y = poisoned(engine, 2, -(-6 // stride), -(-9 // stride), 3)
    engine.conv2d_forward(y, put(engine, x), put(engine, w), put(engine, b), stride=stride, activation=activation)
    expected = torch_conv2d(leaf(x), leaf(w), leaf(b), stride)
    expected = getattr(torch, activation)(expected) if activation else expected
    assert_close(engine.to_numpy(y), expected, tolerance(engine.dtype, 100), "y")
    with pytest.raises(ValueError, match="activation: got 'gelu', expected"):
        engine.conv2d_forward(y, put(engine, x), put(engine, w), put(engine, b), stride=stride, activation="gelu")
