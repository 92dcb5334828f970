"""A whole training step on the native engine: its gradients against float64, and bits that do not depend on threads."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import relative_error
from native_case import LEVELS, native_engine
from vaegan_case import PAPER, RELEASED, batch, copies, make_model, objective

from models.system import SYSTEMS


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("system", "goal"),
    [
        ("vaegan", objective(PAPER)),
        ("vaegan", objective(RELEASED)),
        ("vae-dis", objective(metric_weight=0.3, metric_first=2.0)),
    ],
    ids=["paper", "released", "vae-dis"],
)
def test_gradients_of_a_step(engine64, level, system, goal):
    """Each network's gradients, in the best of six draws. An activation so near 0 that float32 clips it and float64 does not costs any
    float32 engine 1e-4 to 1e-2, and most draws have one; a wrong kernel is wrong in all."""
    errors = []
    for seed in range(6):
        models = [make_model(e, seed=seed, system=system) for e in (native_engine(level), engine64)]
        data = batch(models[0].engine, models[0], 8, seed)
        (got, losses), (expected, true_losses) = (m.gradients(*(a.astype(m.engine.dtype) for a in data), goal) for m in models)
        assert losses == pytest.approx(true_losses, rel=1e-5)
        whole = [[join(g, part) for part in SYSTEMS[system].trained] for g in (got, expected)]
        errors.append([relative_error(a, b) for a, b in zip(*whole, strict=True)])
    assert np.min(errors, axis=0).max() < 1e-5, errors


def join(gradients, part):
    return np.concatenate([array.reshape(-1) for name, array in gradients.items() if name.startswith(part)])


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "average": True}, {"system": "vae"}], ids=["rmsprop", "adam", "vae"])
def test_bits_do_not_depend_on_threads(options):
    """Three steps at a batch of 9: all ways of a convolution, images in unequal shares."""
    states = []
    for threads in (1, 2, 5):
        model = make_model(native_engine(threads=threads), **options)
        for step in range(3):
            model.train_step(*batch(model.engine, model, 9, step), objective(), 3e-4, blend=0.1)
        states.append(copies(model))
    native_engine(threads=None)  # the number of threads is the process's: back to all cores
    assert all(np.isfinite(array).all() for array in states[0].values())
    for state in states[1:]:
        for name, array in state.items():
            assert np.array_equal(array, states[0][name]), name


@pytest.mark.parametrize(("ci", "co", "stride", "size"), [(3, 16, 1, 9), (16, 3, 1, 9), (16, 32, 2, 16), (48, 48, 2, 16), (5, 7, 2, 9)])
def test_nan_stays_nan(rng, ci, co, stride, size):
    """One NaN in an input reaches every output that reads it, in each form of a convolution, and nothing in another image."""
    engine = native_engine()
    n, out = 8, -(-size // stride)
    x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in ((n, size, size, ci), (5, 5, ci, co), (n, out, out, co)))
    x[1, 4, 4, 0] = dy[1, out // 2, out // 2, 0] = np.nan
    y, dx, dw = (np.empty_like(a) for a in (dy, x, w))
    engine.conv2d_forward(y, x, w, stride=stride)
    engine.conv2d_dgrad(dx, dy, w, stride=stride)
    engine.conv2d_wgrad(dw, x, dy, stride=stride)
    where = np.arange(out) * stride
    reads = (abs(where[:, None] - 4) <= 2) & (abs(where[None] - 4) <= 2)
    assert np.isnan(y[1][reads]).all() and np.isnan(dw[:, :, 0]).any() and np.isnan(dw[..., 0]).any()
    row = out // 2 * stride
    assert np.isnan(dx[1, row, row]).all()
    for array in (y, dx):
        assert np.isfinite(np.delete(array, 1, axis=0)).all()
