"""Whole steps of conditional models and of the other systems on the CUDA engine, interpreted and emulated on the host, against NumPy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_check import relative_error
from test_cuda_step import LIMIT, TINY, batch, errors, twins
from test_cuda_step import N as STEP_IMAGES

from kernels import engine as make_engine
from models.classifier import Classifier
from models.objective import Objective
from models.regressor import Regressor
from models.system import SYSTEMS

CONDITIONAL = replace(TINY, attributes=5)


def trained(model, spec, steps):
    """State and losses after steps of other batches each."""
    engine, rng = model.engine, np.random.default_rng(3)
    losses = []
    for step in range(steps):
        given = rng.choice((-1.0, 1.0), (STEP_IMAGES, spec.attributes))
        attributes = engine.asarray(given, engine.wide) if spec.attributes else None
        model.train_step(
            *map(engine.asarray, batch(spec, seed=step)),
            Objective(gamma=0.1, gate=False, metric_weight=0.3, metric_first=2.0),
            1e-3,
            attributes,
        )
        losses.append(model.fetch_losses())
    return {name: engine.to_numpy(array) for name, array in model.state_arrays().items()}, losses


@pytest.mark.parametrize(
    ("system", "spec", "steps"),
    [("vae", TINY, 1), ("vae-dis", TINY, 1), ("gan", TINY, 1), ("vaegan", CONDITIONAL, 2)],
    ids=["vae", "vae-dis", "gan", "conditional vaegan"],
)
def test_steps_leave_the_numpy_engines_state(cuda32, system, spec, steps):
    """Parameters, running statistics, optimiser state and losses of one or two steps. A frozen Dis stays as it was."""
    reference, model = twins(cuda32, spec, system=system)
    before = {name: np.array(array) for name, array in reference.state_arrays().items()}
    (expected, expected_losses), (got, losses) = (trained(each, spec, steps) for each in (reference, model))
    assert got.keys() == expected.keys()
    wrong = {name: error for name, error in errors(got, expected).items() if not error < LIMIT}
    assert not wrong, wrong
    for mine, theirs in zip(losses, expected_losses, strict=True):
        assert mine.keys() == theirs.keys() and mine == pytest.approx(theirs, rel=LIMIT)
    moved = {name.split("/")[1] for name in got if name.startswith("parameters/") and (got[name] != before[name]).any()}
    assert moved == set(SYSTEMS[system].trained)


def test_conditional_inference_is_the_numpy_engines(cuda32):
    reference, model = twins(cuda32, CONDITIONAL)
    (x, z, _), attributes = batch(CONDITIONAL), np.random.default_rng(4).standard_normal((STEP_IMAGES, 5)).astype(np.float32)
    for got, expected in (
        *zip(model.encode(x, attributes), reference.encode(x, attributes), strict=True),
        (model.decode(z, attributes), reference.decode(z, attributes)),
        (model.discriminate(x, attributes), reference.discriminate(x, attributes)),
    ):
        assert relative_error(got, expected) < LIMIT


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Regressor, {}),
        (Classifier, {"features": "enc"}),
        (Classifier, {"features": "dis"}),
        (Classifier, {"features": "dis", "freeze": True}),
    ],
    ids=["regressor", "classifier enc", "classifier dis", "classifier dis, frozen"],
)
def test_a_supervised_step_is_the_numpy_engines(cuda32, kind, options):
    """Outputs are wide, the products' errors are not."""
    rng = np.random.default_rng(5)
    x, targets = batch(TINY)[0], rng.choice((-1.0, 1.0), (STEP_IMAGES, 7)).astype(np.float32)
    if kind is Classifier:
        targets = (np.arange(STEP_IMAGES) % 8 - 1).astype(np.int32)
    models = [kind(engine, TINY, 7, seed=2, **options) for engine in (make_engine("cpu", "float32"), cuda32)]
    start = models[0].state_arrays()
    state = {name: 0.5 + rng.random(array.shape) if "mean_square" in name else np.array(array) for name, array in start.items()}
    results = []
    for model in models:
        model.load_state(state)
        engine = model.engine
        model.train_step(engine.asarray(x), engine.asarray(targets, targets.dtype), 1e-3)
        after = {name: engine.to_numpy(array) for name, array in model.state_arrays().items()}
        results.append(({**after, "predicted": model.predict(x)}, model.fetch_loss()))
    (expected, expected_losses), (got, losses) = results
    wrong = {name: error for name, error in errors(got, expected).items() if not error < LIMIT}
    assert not wrong, wrong
    assert losses == pytest.approx(expected_losses, rel=LIMIT)
