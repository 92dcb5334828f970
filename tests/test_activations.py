"""ReLU, tanh and sigmoid against PyTorch autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, draw, gradients, leaf, poisoned, put, tolerance

SHAPES = [
    pytest.param((2, 3, 5, 3), id="images"),
    pytest.param((1, 1), id="one element"),
    pytest.param((7, 33), id="odd sizes"),
    pytest.param((3, 64, 64, 11), id="more than one chunk"),
]


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inplace", [False, True], ids=["dx apart", "dx is dy"])
def test_activation_matches_autograd(engine, rng, name, shape, inplace):
    x, dy = draw(engine, rng, *shape), draw(engine, rng, *shape)
    if np.prod(shape) == 1:
        x = np.abs(x)  # a clipped single element would leave a zero reference
    tx = leaf(x)
    ty = getattr(torch, name)(tx)
    (ex,) = gradients(ty, dy, tx)
    y, device_dy = poisoned(engine, *shape), put(engine, dy)
    getattr(engine, f"{name}_forward")(y, put(engine, x))
    assert_close(engine.to_numpy(y), ty, tolerance(engine.dtype), "y")
    dx = device_dy if inplace else poisoned(engine, *shape)
    getattr(engine, f"{name}_backward")(dx, device_dy, y)
    assert_close(engine.to_numpy(dx), ex, 10 * tolerance(engine.dtype), "dx")


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_activation_saturates_without_warning(engine, name):
    """±1000 must neither overflow nor turn into NaN (warnings are errors here)."""
    x = np.array([[-1000.0, -50.0, 0.0, 50.0, 1000.0]])
    y, dx = poisoned(engine, 1, 5), poisoned(engine, 1, 5)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        getattr(engine, f"{name}_forward")(y, put(engine, x))
        getattr(engine, f"{name}_backward")(dx, put(engine, np.ones((1, 5))), y)
    expected = getattr(torch, name)(torch.tensor(x)).numpy()
    assert np.allclose(engine.to_numpy(y), expected, rtol=1e-5, atol=1e-20)
    assert np.isfinite(engine.to_numpy(dx)).all()


def test_relu_has_slope_zero_at_zero(engine):
    """As PyTorch: the error does not pass where the output is exactly 0."""
    y, dx = poisoned(engine, 1, 3), poisoned(engine, 1, 3)
    engine.relu_forward(y, put(engine, [[-1.0, 0.0, 2.0]]))
    engine.relu_backward(dx, put(engine, [[5.0, 6.0, 7.0]]), y)
    assert engine.to_numpy(dx).tolist() == [[0.0, 0.0, 7.0]]
