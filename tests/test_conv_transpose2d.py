"""Fractional-strided convolution, forward and both gradients, against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, check_products, draw, leaf, poisoned, put, tolerance, torch_conv_transpose2d
from hypothesis import given, settings
from hypothesis import strategies as st

# (N, H, W of the output y, Ci, Co, KH, KW, stride): x has ceil(H/stride) rows, so the output's size must be given
CASES = [
    pytest.param(2, 8, 8, 4, 3, 5, 5, 2, id="the networks' kind: output twice the input"),
    pytest.param(1, 8, 8, 1, 1, 5, 5, 2, id="one image, one channel"),
    pytest.param(2, 7, 9, 3, 4, 5, 5, 2, id="odd output sizes"),
    pytest.param(2, 7, 8, 3, 4, 5, 5, 2, id="odd rows, even columns"),
    pytest.param(3, 6, 4, 3, 2, 3, 3, 2, id="3x3"),
    pytest.param(2, 5, 6, 3, 2, 1, 1, 2, id="1x1: three phases of four have no tap, so they are the bias or 0"),
    pytest.param(2, 6, 7, 2, 3, 3, 5, 2, id="a kernel that is not square"),
    pytest.param(2, 1, 8, 3, 4, 5, 5, 2, id="one row"),
    pytest.param(2, 2, 2, 3, 4, 5, 5, 2, id="from one pixel"),
    pytest.param(2, 5, 6, 3, 4, 5, 5, 1, id="stride 1"),
    pytest.param(4, 16, 16, 33, 32, 5, 5, 2, id="more than one piece"),
]


def check_conv_transpose2d(engine, rng, n, h, w, ci, co, kh, kw, stride, bias=True):
    oh, ow = -(-h // stride), -(-w // stride)
    shapes, terms = ((n, oh, ow, ci), (kh, kw, co, ci), (n, h, w, co)), (kh * kw * ci, kh * kw * co, n * oh * ow)
    form = lambda x, weight, b: torch_conv_transpose2d(x, weight, (h, w), b, stride)  # noqa: E731
    check_products(engine, rng, "conv_transpose2d", form, *shapes, bias, terms, stride=stride)


@pytest.mark.parametrize(("n", "h", "w", "ci", "co", "kh", "kw", "stride"), CASES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_conv_transpose2d_matches_autograd(engine, rng, n, h, w, ci, co, kh, kw, stride, bias):
    check_conv_transpose2d(engine, rng, n, h, w, ci, co, kh, kw, stride, bias)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*(st.integers(1, top) for top in (3, 11, 11, 5, 5))),
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])),
    seed=st.integers(0, 2**31),
)
def test_conv_transpose2d_any_shape(engine64, shape, kernel, seed):
    check_conv_transpose2d(engine64, np.random.default_rng(seed), *shape, *kernel, 2)


def test_conv_transpose2d_is_the_dgrad_of_the_convolution(engine, rng):
    """One weight array serves both: w [5, 5, Co, Ci] is the convolution's [5, 5, its input, its output]."""
    x, w = put(engine, draw(engine, rng, 2, 4, 5, 6)), put(engine, draw(engine, rng, 5, 5, 3, 6))
    up, back = poisoned(engine, 2, 7, 10, 3), poisoned(engine, 2, 7, 10, 3)
    engine.conv_transpose2d_forward(up, x, w)
    engine.conv2d_dgrad(back, x, w, stride=2)
    assert_close(engine.to_numpy(up), engine.to_numpy(back), tolerance(engine.dtype, 150))


@pytest.mark.parametrize("stride", [2])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_conv_transpose2d_with_an_activation(engine, rng, stride, activation):
    x, w, b = draw(engine, rng, 2, 3, 5, 4), draw(engine, rng, 5, 5, 3, 4, scale=0.1), draw(engine, rng, 3)
    y = poisoned(engine, 2, 6, 10, 3)
    engine.conv_transpose2d_forward(y, put(engine, x), put(engine, w), put(engine, b), stride=stride, activation=activation)
    expected = torch_conv_transpose2d(leaf(x), leaf(w), (6, 10), leaf(b), stride)
    expected = getattr(torch, activation)(expected) if activation else expected
    assert_close(engine.to_numpy(y), expected, tolerance(engine.dtype, 100), "y")
