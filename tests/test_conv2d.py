"""conv2d forward, dgrad and wgrad against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, check_products, draw, leaf, poisoned, put, tolerance, torch_conv2d
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
    oh, ow = -(-h // stride), -(-w // stride)
    shapes, terms = ((n, h, w, ci), (kh, kw, ci, co), (n, oh, ow, co)), (kh * kw * ci, kh * kw * co, n * oh * ow)
    check_products(engine, rng, "conv2d", lambda *a: torch_conv2d(*a, stride), *shapes, bias, terms, stride=stride)


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_conv2d_with_an_activation(engine, rng, stride, activation):
    x, w, b = draw(engine, rng, 2, 6, 9, 4), draw(engine, rng, 5, 5, 4, 3, scale=0.1), draw(engine, rng, 3)
    y = poisoned(engine, 2, -(-6 // stride), -(-9 // stride), 3)
    engine.conv2d_forward(y, put(engine, x), put(engine, w), put(engine, b), stride=stride, activation=activation)
    expected = torch_conv2d(leaf(x), leaf(w), leaf(b), stride)
    expected = getattr(torch, activation)(expected) if activation else expected
    assert_close(engine.to_numpy(y), expected, tolerance(engine.dtype, 100), "y")
