"""The Winograd form of the wide stride-2 layers: against PyTorch autograd, and against the im2col form that it replaces."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, draw, gradients, leaf, poisoned, put, tolerance, torch_conv2d

import kernels.cpu.winograd as winograd
from kernels.cpu import conv2d

# (N, H, W, Ci, Co) and why it is here
CASES = [
    pytest.param(3, 16, 16, 8, 6, id="tiles fit"),
    pytest.param(1, 7, 9, 3, 5, id="one image, odd sizes, three channels, partial tiles"),
    pytest.param(2, 1, 1, 2, 3, id="one pixel: almost all of the tile is outside"),
    pytest.param(5, 31, 18, 4, 3, id="height and width apart"),
    pytest.param(40, 34, 34, 3, 2, id="many pieces, rows of tiles in pieces of their own"),
]


def run(engine, x, w, dy, module):
    """y, dx, dw by one implementation, outputs poisoned."""
    y, dx, dw = (poisoned(engine, *a.shape) for a in (dy, x, w))
    x, w, dy = (put(engine, a) for a in (x, w, dy))
    if module is winograd:
        winograd.forward(y, x, w)
        winograd.dgrad(dx, dy, w)
        winograd.wgrad(dw, x, dy)
    else:
        module.conv2d_forward(y, x, w, stride=2)
        module.conv2d_dgrad(dx, dy, w, stride=2)
        module.conv2d_wgrad(dw, x, dy, stride=2)
    return y, dx, dw


@pytest.mark.parametrize(("n", "h", "w", "ci", "co"), CASES)
def test_matches_autograd(engine, rng, n, h, w, ci, co):
    x, weight, dy = draw(engine, rng, n, h, w, ci), draw(engine, rng, 5, 5, ci, co), draw(engine, rng, n, -(-h // 2), -(-w // 2), co)
    tx, tw = leaf(x), leaf(weight)
    ty = torch_conv2d(tx, tw, None, 2)
    expected = (ty, *gradients(ty, dy, tx, tw))
    for name, got, want in zip(("y", "dx", "dw"), run(engine, x, weight, dy, winograd), expected, strict=True):
        # the transforms' coefficients (up to 8) cost a digit
        assert_close(got, want, 10 * tolerance(engine.dtype), name)


def test_lots_of_wgrad_add_up(engine64, rng, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 1)  # a chunk for each image
    x, weight, dy = rng.standard_normal((5, 12, 12, 3)), rng.standard_normal((5, 5, 3, 4)), rng.standard_normal((5, 6, 6, 4))
    _, _, dw = run(engine64, x, weight, dy, winograd)
    monkeypatch.undo()
    assert_close(dw, run(engine64, x, weight, dy, conv2d)[2], 1e-9, "dw")


def test_wide_layers_take_this_way_and_agree_with_im2col(engine, rng, monkeypatch):
    shape = (32, 16, 16, 64), (5, 5, 64, 64), (32, 8, 8, 64)
    arrays = [draw(engine, rng, *s) for s in shape]
    assert winograd.suits(arrays[1], 2, 32, 8, 8)
    assert not winograd.suits(arrays[1], 2, 31, 8, 8) and winograd.suits(arrays[1], 2, 16, 8, 8, least=64)
    calls = []
    for name in ("forward", "dgrad", "wgrad"):
        inner = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *a, inner=inner, name=name: (calls.append(name), inner(*a)))
    fast = run(engine, *arrays, conv2d)
    assert calls == ["forward", "dgrad", "wgrad"]
    monkeypatch.setattr(winograd, "suits", lambda *a, **k: False)
    for name, got, want in zip(("y", "dx", "dw"), fast, run(engine, *arrays, conv2d), strict=True):
        assert_close(got, want, 10 * tolerance(engine.dtype), name)


@pytest.mark.parametrize(("kernel", "stride", "channels"), [(3, 2, 128), (5, 1, 128), (5, 2, 32)])
def test_other_layers_do_not(kernel, stride, channels):
    assert not winograd.suits(np.empty((kernel, kernel, channels, channels)), stride, 64, 16, 16)
