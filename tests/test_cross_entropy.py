"""A classifier's loss: PyTorch autograd, finite differences, large logits, rows without a label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, assert_zero, draw, leaf, numpy, poisoned, put, tolerance
from torch.nn.functional import cross_entropy

SHAPES = [(1, 2), (5, 3), (64, 10), (3, 1000), (300, 2)]  # images, classes


def computed(engine, logits, labels):
    """(loss, p, dlogits) as NumPy arrays."""
    loss, p, dlogits = poisoned(engine, 1, dtype=np.float64), poisoned(engine, *logits.shape), poisoned(engine, *logits.shape)
    given = put(engine, labels, np.int32)
    engine.softmax_cross_entropy_forward(loss, p, put(engine, logits), given)
    engine.softmax_cross_entropy_backward(dlogits, p, given)
    return tuple(engine.to_numpy(array) for array in (loss, p, dlogits))


@pytest.mark.parametrize(("n", "classes"), SHAPES)
@pytest.mark.parametrize("labelled", [1.0, 0.5], ids=["all labelled", "half labelled"])
def test_it_matches_autograd(engine, rng, n, classes, labelled):
    logits = draw(engine, rng, n, classes, scale=3.0)
    labels = np.where(rng.random(n) < labelled, rng.integers(0, classes, n), -1)
    labels[0] = classes - 1
    t_logits = leaf(logits)
    expected = cross_entropy(t_logits, torch.tensor(labels), reduction="sum", ignore_index=-1)
    (slope,) = torch.autograd.grad(expected, t_logits)
    loss, p, dlogits = computed(engine, logits, labels)
    assert_close(loss, numpy(expected)[None], tolerance(engine.dtype), "loss")
    assert_close(p, torch.softmax(t_logits, dim=1), tolerance(engine.dtype), "p")
    if engine.dtype == np.float64:
        assert_close(dlogits, slope, 1e-9, "dlogits")
    else:  # p - 1 has the digits of 1, however near p is to it
        np.testing.assert_allclose(dlogits, numpy(slope), rtol=1e-6, atol=5e-7)
    assert_zero(dlogits[labels < 0], "dlogits of rows without a label")


def test_the_gradient_by_finite_differences(engine64, rng):
    logits, labels, h = draw(engine64, rng, 4, 3), np.array([2, 0, -1, 1]), 1e-6
    steps = h * np.eye(12).reshape(12, 4, 3)
    value = [(computed(engine64, logits + s, labels)[0] - computed(engine64, logits - s, labels)[0]) / (2 * h) for s in steps]
    assert_close(computed(engine64, logits, labels)[2], np.reshape(value, (4, 3)), 1e-7, "dlogits")


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits(engine, size):
    """exp(1e4) is infinite; the loss is the difference of two logits, and nothing overflows or is NaN."""
    logits = np.array([[size, -size, 0.0], [size, size, -size], [-size, -size, -size]]).astype(engine.dtype).astype(np.float64)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, p, dlogits = computed(engine, logits, np.array([1, 0, 2]))
    assert_close(loss, [2 * logits[0, 0] + np.log(2) + np.log(3)], 1e-6, "loss")
    assert_close(p, [[1, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3], 1e-6, "p")
    assert_close(dlogits, [[1, -1, 0], [-0.5, 0.5, 0], [1 / 3, 1 / 3, -2 / 3]], 1e-6, "dlogits")


def test_logits_that_are_no_numbers_show(engine):
    """In the rows that count, and only there."""
    logits = np.array([[np.nan, 0.0], [np.inf, 0.0], [1.0, 2.0]])
    for labels, bad in (([0, -1, 1], [0]), ([-1, 1, 1], [1]), ([-1, -1, 1], [])):
        loss, _, dlogits = computed(engine, logits, np.array(labels))
        assert np.isnan(loss[0]) == bool(bad)
        assert np.isnan(dlogits).any(axis=1).tolist() == [row in bad for row in range(3)]


def test_no_row_has_a_label(engine, rng):
    loss, _, dlogits = computed(engine, draw(engine, rng, 5, 3), np.full(5, -1))
    assert loss[0] == 0
    assert_zero(dlogits)


@pytest.mark.parametrize("label", [3, -2])
def test_labels_are_classes(engine64, label):
    """A device does not read them first: tests/test_cuda_c.py."""
    p, labels = put(engine64, np.full((2, 3), 1 / 3)), put(engine64, [0, label], np.int32)
    with pytest.raises(ValueError, match="got .*expected"):
        engine64.softmax_cross_entropy_forward(poisoned(engine64, 1), poisoned(engine64, 2, 3), p, labels)
    with pytest.raises(ValueError, match="got .*expected"):
        engine64.softmax_cross_entropy_backward(poisoned(engine64, 2, 3), p, labels)


def test_there_are_classes(engine):
    none = poisoned(engine, 2, 0)
    with pytest.raises(ValueError, match="got .*expected"):
        engine.softmax_cross_entropy_forward(poisoned(engine, 1, dtype=np.float64), none, none, put(engine, [0, 1], np.int32))
