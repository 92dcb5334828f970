"""The whole step of a tiny network through the CUDA engine's own code, Triton interpreted and CUDA C emulated, against the NumPy engine."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import relative_error

from bench.dry import step_body
from kernels import engine as make_engine
from models.networks import NetworkSpec
from models.vaegan import VAEGAN, Objective

TINY = NetworkSpec("tiny", 8, 3, 8, (16, 16, 32), 32, (32, 16, 16, 16), (16, 16, 32, 32), 24, metric=3)
GREY = NetworkSpec("grey", 8, 1, 8, (16, 16, 16), 16, (16, 16, 16, 16), (16, 16, 16, 16), 16, metric=4)
LIMIT = 1e-5  # relative error in float32, of two engines against each other
N = 6  # fewer, and batch norm over single pixels magnifies rounding in both engines


def twins(cuda, spec=TINY, **options):
    """The same model on the NumPy engine and on the emulated one, with parameters that are not trivial."""
    cpu = make_engine("cpu", "float32")
    reference, model = VAEGAN(cpu, spec, **options), VAEGAN(cuda, spec, **options)
    rng = np.random.default_rng(1)
    state = {name: np.array(array) for name, array in reference.state_arrays().items()}
    for name, array in state.items():
        kind = name.rsplit("/", 1)[-1]
        if kind == "gamma":
            array[...] = 1 + 0.2 * rng.standard_normal(array.shape)
        elif kind in ("beta", "bias", "running_mean"):
            array[...] = 0.1 * rng.standard_normal(array.shape)
        elif kind in ("running_var", "mean_square", "second_moment"):
            array[...] = 0.5 + rng.random(array.shape)
    for each in (reference, model):
        each.load_state(state)
    return reference, model


def batch(spec, seed=0, n=N):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, spec.image_size, spec.image_size, spec.channels)).astype(np.float32)
    return x, *(rng.standard_normal((n, spec.latent)).astype(np.float32) for _ in range(2))


def errors(got, expected):
    return {name: relative_error(np.asarray(got[name]), np.asarray(expected[name])) for name in expected if np.any(expected[name])}


OBJECTIVES = {
    "joint": Objective(gamma=0.1),
    "split, prior": Objective(gamma=0.1, bn_groups="split", negatives="prior", real_weight=0.5),
    "authors, non-saturating": Objective(gamma=0.1, bn_groups="authors", generator_loss="non-saturating", gan_eps=0.0),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_the_numpy_engines(cuda32, name):
    reference, model = twins(cuda32)
    data, goal = batch(TINY), OBJECTIVES[name]
    expected, expected_losses = reference.gradients(*data, goal)
    got, losses = model.gradients(*data, goal)
    wrong = {k: e for k, e in errors(got, expected).items() if not e < LIMIT}
    assert not wrong, wrong
    for key, value in expected_losses.items():
        assert losses[key] == pytest.approx(value, rel=LIMIT), key


@pytest.mark.parametrize(("optimizer", "channels"), [("rmsprop", 3), ("adam", 1)])
def test_two_steps_leave_the_same_state(cuda32, optimizer, channels):
    spec = TINY if channels == 3 else GREY
    goal = Objective(gamma=0.1, gate=False)
    reference, model = twins(cuda32, spec, optimizer=optimizer)
    for step in range(2):
        x, eps, z_p = batch(spec, step)
        reference.train_step(x, eps, z_p, goal, 1e-3)
        model.train_step(*map(cuda32.asarray, (x, eps, z_p)), goal, 1e-3)
    expected = {name: np.array(a) for name, a in reference.state_arrays().items()}
    got = {name: cuda32.to_numpy(a) for name, a in model.state_arrays().items()}
    wrong = {k: e for k, e in errors(got, expected).items() if not e < 2 * LIMIT}
    assert not wrong, wrong
    assert model.fetch_losses() == pytest.approx(reference.fetch_losses(), rel=2 * LIMIT)


def test_the_trainers_step_draws_gathers_and_advances_alike(cuda32):
    """Batch, noise, rate and counter on the device: the recorded body against the NumPy engine's."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (13, 8, 8, 3), np.uint8)
    reference, model = twins(cuda32)
    states = []
    for each in (reference, model):
        eng = each.engine
        placed = eng.empty(images.shape, np.uint8)
        eng.put(placed, images)
        arrays = {}

        def keep(shape, dtype=None, _empty=eng.empty, _kept=arrays):
            array = _empty(shape, dtype)
            _kept.setdefault((tuple(shape), str(array.dtype)), array)
            return array

        eng.empty, body = keep, None
        try:
            body = step_body(eng, each, N, Objective(gamma=0.1), placed)
        finally:
            del eng.empty
        eng.put(arrays[(13,), "int32"], np.array([3, 1, 6, 0, 2, 5, 4, 12, 8, 10, 9, 11, 7]))
        eng.put(arrays[(1,), "int64"], np.array([1]))
        eng.put(arrays[(100,), "float32"], np.linspace(1e-3, 1e-4, 100))
        run = eng.record(body)
        run()
        run()
        assert int(eng.to_numpy(arrays[(1,), "int64"])[0]) == 3
        states.append({name: eng.to_numpy(a).copy() for name, a in each.state_arrays().items()})
    wrong = {k: e for k, e in errors(states[1], states[0]).items() if not e < 3 * LIMIT}
    assert not wrong, wrong


def test_inference_is_the_numpy_engines(cuda32):
    reference, model = twins(cuda32)
    x, z, _ = batch(TINY)
    for got, expected in (
        *zip(model.encode(x), reference.encode(x), strict=True),
        (model.decode(z), reference.decode(z)),
        (model.discriminate(x), reference.discriminate(x)),
    ):
        assert got.dtype == np.float32
        assert relative_error(got, expected) < LIMIT


def test_same_bits_twice(cuda32):
    results = []
    for _ in range(2):
        _, model = twins(cuda32)
        x, eps, z_p = batch(TINY)
        model.train_step(*map(cuda32.asarray, (x, eps, z_p)), OBJECTIVES["split, prior"], 1e-3)
        results.append({name: cuda32.to_numpy(a).tobytes() for name, a in model.state_arrays().items()})
    assert results[0] == results[1]
