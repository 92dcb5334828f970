"""What the tests of the whole model share: a model with parameters that are not trivial, a batch, and its reference."""

from __future__ import annotations

import numpy as np
from torch_reference import Reference

from models.networks import network
from models.vaegan import VAEGAN, Objective

PAPER = {"gamma": 1e-5, "real_weight": 0.66, "negatives": "both"}
RELEASED = {"gamma": 1e-6, "real_weight": 0.5, "negatives": "prior"}


def make_model(engine, name="small32", *, seed=0, channels=3, encoder_units=None, **options):
    """A model whose gamma, beta and biases are random: identity values would hide mistakes."""
    model = VAEGAN(engine, network(name, channels=channels, encoder_units=encoder_units), seed=seed, **options)
    rng = np.random.default_rng(seed + 1)
    state = {name: np.array(a) for name, a in model.state_arrays().items()}
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


def part(model, kind):
    """Copies of the arrays under `kind` ("parameters", "statistics" or "optimizer"), without that prefix."""
    state = model.state_arrays().items()
    return {name.removeprefix(kind + "/"): np.array(a) for name, a in state if name.startswith(kind + "/")}


def reference_of(model):
    """A PyTorch twin with the same parameters and running statistics."""
    return Reference(part(model, "parameters"), part(model, "statistics"))


def batch(engine, model, n, seed=0):
    """x in [-1, 1] NHWC, eps and z_p: NumPy arrays of the engine's dtype."""
    rng, size = np.random.default_rng(100 + seed), model.spec.image_size
    coarse = rng.uniform(-1, 1, (n, size // 8, size // 8, model.spec.channels)).repeat(8, 1).repeat(8, 2)
    x = np.clip(coarse + 0.2 * rng.standard_normal((n, size, size, model.spec.channels)), -1, 1)
    eps, z_p = (rng.standard_normal((n, model.spec.latent)) for _ in range(2))
    return tuple(np.ascontiguousarray(a, engine.dtype) for a in (x, eps, z_p))


def objective(preset=PAPER, **changes):
    return Objective(**{**preset, **changes})
