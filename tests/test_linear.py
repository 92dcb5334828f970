"""linear forward, dgrad and wgrad against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, check_products, draw, poisoned, put
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = [
    pytest.param(4, 12, 7, id="ordinary"),
    pytest.param(1, 9, 5, id="one image"),
    pytest.param(5, 8, 1, id="one unit: Dis's last layer"),
    pytest.param(3, 1, 4, id="one input"),
    pytest.param(1, 1, 1, id="a product of numbers"),
    pytest.param(7, 300, 129, id="sizes that are no multiple of anything"),
]


def check_linear(engine, rng, n, inputs, outputs, bias=True):
    shapes = (n, inputs), (inputs, outputs), (n, outputs)
    check_products(engine, rng, "linear", lambda x, w, b: x @ w + b, *shapes, bias, (inputs, outputs, n))


@pytest.mark.parametrize(("n", "inputs", "outputs"), CASES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_linear_matches_autograd(engine, rng, n, inputs, outputs, bias):
    check_linear(engine, rng, n, inputs, outputs, bias)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 9), inputs=st.integers(1, 40), outputs=st.integers(1, 40), bias=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_linear_any_shape(engine64, n, inputs, outputs, bias, seed):
    check_linear(engine64, np.random.default_rng(seed), n, inputs, outputs, bias)


def test_torch_linear_layer_holds_the_transposed_weight(engine64, rng):
    """w is [in, out], where torch.nn.Linear keeps [out, in]."""
    x, w = draw(engine64, rng, 3, 4), draw(engine64, rng, 4, 2)
    y = poisoned(engine64, 3, 2)
    engine64.linear_forward(y, put(engine64, x), put(engine64, w))
    expected = torch.nn.functional.linear(torch.tensor(x), torch.tensor(w.T.copy()))
    assert_close(engine64.to_numpy(y), expected, 1e-12)
