"""What the tests of whole models share: a model with parameters that are not trivial, a batch, and its reference."""

from __future__ import annotations

import numpy as np
from gradcheck import assert_close
from torch_systems import REFERENCES

from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN

PAPER = {"gamma": 1e-5, "real_weight": 0.66, "negatives": "both"}
RELEASED = {"gamma": 1e-6, "real_weight": 0.5, "negatives": "prior"}


def make_model(engine, name="small32", *, seed=0, channels=3, encoder_units=None, attributes=0, **options):
    """A model whose gamma, beta and biases are random: identity values would hide mistakes."""
    spec = network(name, channels=channels, encoder_units=encoder_units, attributes=attributes)
    return randomised(VAEGAN(engine, spec, seed=seed, **options), seed)


def randomised(model, seed):
    """`model` with random gamma, beta, biases and running statistics."""
    rng = np.random.default_rng(seed + 1)
    state = copies(model)
    for key, array in state.items():
        kind = key.rsplit("/", 1)[-1]
        if kind == "gamma":
            array[...] = 1.0 + 0.2 * rng.standard_normal(array.shape)
        elif kind in ("beta", "bias", "running_mean"):
            array[...] = 0.1 * rng.standard_normal(array.shape)
        elif kind == "running_var":
            array[...] = 0.5 + rng.random(array.shape)
    model.load_state(state)
    return model


def copies(model):
    """Copies of all arrays of the model's state."""
    return {name: np.array(a) for name, a in model.state_arrays().items()}


def part(model, kind):
    """Copies of the arrays under `kind` ("parameters", "statistics" or "optimizer"), without that prefix."""
    state = model.state_arrays().items()
    return {name.removeprefix(kind + "/"): np.array(a) for name, a in state if name.startswith(kind + "/")}


def reference_of(model):
    """A PyTorch twin of the model's system with the same parameters and running statistics."""
    return REFERENCES[model.system](part(model, "parameters"), part(model, "statistics"))


def batch(engine, model, n, seed=0):
    """x in [-1, 1] NHWC, eps and z_p: NumPy arrays of the engine's dtype."""
    rng, size = np.random.default_rng(100 + seed), model.spec.image_size
    coarse = rng.uniform(-1, 1, (n, size // 8, size // 8, model.spec.channels)).repeat(8, 1).repeat(8, 2)
    x = np.clip(coarse + 0.2 * rng.standard_normal((n, size, size, model.spec.channels)), -1, 1)
    eps, z_p = (rng.standard_normal((n, model.spec.latent)) for _ in range(2))
    return tuple(np.ascontiguousarray(a, engine.dtype) for a in (x, eps, z_p))


def conditions(engine, model, n, seed=0, *, real_valued=False):
    """Attributes [N, A], +-1 or real-valued; None for a model that takes none."""
    rng, shape = np.random.default_rng(200 + seed), (n, model.spec.attributes)
    values = rng.standard_normal(shape) if real_valued else rng.choice([-1.0, 1.0], shape)
    return np.ascontiguousarray(values, engine.wide) if model.spec.attributes else None


def objective(preset=PAPER, **changes):
    return Objective(**{**preset, **changes})


def check_training(model, trainer, start):
    """The model's state against the trainer's after some steps from parameters `start`; what is not trained stands to the bit."""
    parameters, statistics, states = part(model, "parameters"), part(model, "statistics"), part(model, "optimizer")
    trained = {name for name in parameters if f"{name}/mean_square" in states}
    assert set(parameters) == set(trainer.reference.p)
    assert set(statistics) == set(trainer.reference.running)
    for name, p in trainer.reference.p.items():
        if name not in trained:
            assert np.array_equal(parameters[name], start[name]), name
            continue
        assert_close(parameters[name], p, 1e-6, name)
        assert np.linalg.norm(parameters[name] - start[name]) > 1e-3 * np.linalg.norm(start[name]), f"{name} stood still"
        assert_close(states[f"{name}/mean_square"], trainer.mean_square[name], 1e-5, f"mean square of {name}")
    for name, running in trainer.reference.running.items():
        assert_close(statistics[name], running, 1e-6, name)
    return trained
