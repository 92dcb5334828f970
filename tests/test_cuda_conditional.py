"""What conditional models and the other systems ask of the CUDA engine, interpreted and emulated on the host, against the NumPy engine:
linear layers with attributes behind their inputs, and whole steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cuda_case import draw
from kernel_check import relative_error, tolerance
from test_cuda_step import LIMIT, TINY, batch, errors, twins
from test_cuda_step import N as STEP_IMAGES

from kernels import engine as make_engine
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import emulated_engine
from models.classifier import Classifier
from models.objective import Objective
from models.regressor import Regressor
from models.system import SYSTEMS

N, FEATURES, OUTPUTS = 5, 96, 24
ATTRIBUTES = [3, 40, 73]
PATHS = [("sm_90", "float32"), ("sm_90", "bf16"), ("sm_90", "tf32"), ("sm_80", "float32"), ("sm_80", "bf16")]  # TMA, and pointers


class Layer:
    """A linear layer's arrays on one engine and in float64; ``launches`` made by each operation."""

    def __init__(self, rng, chip, precision, attributes):
        self.engine = emulated_engine(precision, chip=CHIPS[chip]._replace(multiprocessors=1))
        stored = "bf16" if precision != "float32" else precision  # tf32 multiplies what bfloat16 holds exactly
        width = FEATURES + attributes
        self.x, self.a = draw(rng, stored, N, FEATURES), draw(rng, stored, N, attributes)
        self.w, self.dy = draw(rng, stored, width, OUTPUTS), draw(rng, stored, N, OUTPUTS)
        self.joined = np.concatenate([self.x, self.a], axis=1)
        self.device_x = self.engine.empty((N, width))
        self.engine.concatenate(self.device_x, self.engine.asarray(self.x), self.engine.asarray(self.a, np.float32))
        self.device_w, self.device_dy = self.engine.asarray(self.w), self.engine.asarray(self.dy)

    def call(self, operation, *arguments, **options):
        """The launches of an operation of the engine."""
        self.engine.device.launches = []
        getattr(self.engine, operation)(*arguments, **options)
        return self.engine.device.launches

    def check(self, got, expected, kind, terms):
        precision = self.engine.precision
        limit = tolerance(precision, kind, terms) * (2 if precision == "bf16" else 1)  # the interpreter cuts bfloat16 off
        assert relative_error(self.engine.to_numpy(got), expected) < limit


@pytest.mark.parametrize("attributes", ATTRIBUTES)
@pytest.mark.parametrize(("chip", "precision"), PATHS)
def test_linear_products_with_attributes_behind_the_inputs(rng, chip, precision, attributes):
    layer = Layer(rng, chip, precision, attributes)
    engine, width = layer.engine, FEATURES + attributes

    y = engine.empty((N, OUTPUTS), np.float32)
    launches = layer.call("linear_forward", y, layer.device_x, layer.device_w)
    layer.check(y, layer.joined @ layer.w, "wide", width)
    names = [launch.name for launch in launches]
    if chip == "sm_90" and precision != "tf32":  # zeros behind the weights are the descriptor's: no copy of a large layer
        assert "pack_weights" not in names

    dx = engine.empty((N, FEATURES))  # attributes get no error: the first rows of the weights
    layer.call("linear_dgrad", dx, layer.device_dy, layer.device_w[:FEATURES])
    layer.check(dx, layer.dy @ layer.w[:FEATURES].T, "act", OUTPUTS)

    dw = engine.empty((width, OUTPUTS), np.float32)
    launches = layer.call("linear_wgrad", dw, layer.device_x, layer.device_dy)
    gradient = layer.joined.T @ layer.dy
    layer.check(dw, gradient, "wide", N)
    # no descriptor where rows are no multiple of 16 bytes, or no unit of channels divides them
    assert not any("tensordesc" in kind for launch in launches for kind in launch.signature.values())

    w, ms = rng.standard_normal((2, width, OUTPUTS))
    ms, decay = ms**2, 2e-5
    arrays = engine.asarray(w, np.float32), engine.asarray(ms, np.float32), engine.empty((width, OUTPUTS))
    launches = layer.call("linear_wgrad_rmsprop", *arrays, layer.device_x, layer.device_dy, lr=1e-2, weight_decay=decay)
    assert [launch.name for launch in launches] == ["wgrad_rmsprop"]
    gradient += decay * w
    expected_ms = 0.9 * ms + 0.1 * gradient**2
    change = 1e-2 * gradient / (np.sqrt(expected_ms) + 1e-8)
    layer.check(arrays[1], expected_ms, "loose", N)
    layer.check(engine.to_numpy(arrays[0]) - w, -change, "loose", N * 2**8)  # float32's rounding of w, in a change of 1 %
    layer.check(arrays[2], w - change, "act", N)


@pytest.mark.parametrize(("chip", "precision"), PATHS[1:2] + PATHS[4:])
def test_a_block_with_attributes(rng, chip, precision):
    """Enc's and Dis's FC as one operation."""
    layer = Layer(rng, chip, precision, 73)
    engine, width = layer.engine, FEATURES + 73
    outputs = engine.empty((N, OUTPUTS)), engine.empty((N, OUTPUTS))
    statistics = engine.empty((1, OUTPUTS), np.float32), engine.empty((1, OUTPUTS), np.float32)
    ones, zeros = engine.asarray(np.ones(OUTPUTS), np.float32), engine.asarray(np.zeros(OUTPUTS), np.float32)
    layer.call("linear_bn_relu_forward", *outputs, *statistics, layer.device_x, layer.device_w, ones, zeros, (N,), eps=1e-5)
    expected = layer.joined @ layer.w
    layer.check(outputs[1], expected, "act", width)
    layer.check(statistics[0], expected.mean(0)[None], "loose", width)
    normal = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-5)
    layer.check(outputs[0], np.maximum(normal, 0), "loose", width)


# ---- whole steps ----

CONDITIONAL = replace(TINY, attributes=5)


def trained(model, spec, steps):
    """State and losses after steps of other batches each."""
    engine, rng = model.engine, np.random.default_rng(3)
    losses = []
    for step in range(steps):
        given = rng.choice((-1.0, 1.0), (STEP_IMAGES, spec.attributes))
        attributes = engine.asarray(given, engine.wide) if spec.attributes else None
        model.train_step(*map(engine.asarray, batch(spec, seed=step)), Objective(gamma=0.1, gate=False), 1e-3, attributes)
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
