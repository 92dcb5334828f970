"""The whole step of a tiny network through the CUDA engine's own code, Triton interpreted and CUDA C emulated, against the NumPy engine."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_check import relative_error, tolerance

from kernels import engine as make_engine
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import emulated_engine
from models.networks import NetworkSpec
from models.objective import Objective
from models.vaegan import VAEGAN

TINY = NetworkSpec("tiny", 8, 3, 8, (16, 16, 32), 32, (32, 16, 16, 16), (16, 16, 32, 32), 24, metric=3)
GREY = NetworkSpec("grey", 8, 1, 8, (16, 16, 16), 16, (16, 16, 16, 16), (16, 16, 16, 16), 16, metric=4)
LIMIT = tolerance("float32", "loose", 14400)  # 1.6e-5, of float32 against float64: rounding passes through every layer
N = 6  # fewer, and batch norm over single pixels magnifies rounding in both engines


def twins(cuda, spec=TINY, **options):
    """The same model on the NumPy engine and on the emulated one, with parameters that are not trivial."""
    cpu = make_engine("cpu", "float64", implementation="numpy")  # exact beside it: its rounding does not depend on the processor
    reference, model = VAEGAN(cpu, spec, **options), VAEGAN(cuda, spec, **options)
    rng = np.random.default_rng(1)
    state = {name: np.array(array) for name, array in model.state_arrays().items()}  # float32, which both can hold
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
    "quick": Objective(gamma=0.1, bn_groups="authors", generator_loss="non-saturating", gan_eps=0.0, fixed_statistics=True),
}


@pytest.mark.parametrize(("name", "at_load"), [*((name, False) for name in OBJECTIVES), ("joint", True), ("quick", True)])
def test_gradients_are_the_numpy_engines(cuda32, name, at_load):
    """``at_load``: on a chip whose products make the errors behind batch norms where they load them."""
    cuda = emulated_engine("float32", chip=CHIPS["sm_75"]._replace(multiprocessors=1)) if at_load else cuda32
    reference, model = twins(cuda)
    data, goal = batch(TINY), OBJECTIVES[name]
    expected, expected_losses = reference.gradients(*data, goal)
    cuda.device.launches = []
    got, losses = model.gradients(*data, goal)
    launches, cuda.device.launches = cuda.device.launches, None
    assert any(one.name == "bn_coefficients" for one in launches) is at_load
    wrong = {k: e for k, e in errors(got, expected).items() if not e < LIMIT}
    assert not wrong, wrong
    for key, value in expected_losses.items():
        assert losses[key] == pytest.approx(value, rel=LIMIT), key


def stepped(engine, spec, optimizer, goal):
    """The state and the losses after one step from the twins' state."""
    reference, model = twins(engine, spec, optimizer=optimizer, average=optimizer == "adam", rates={"discriminator": 0.5})
    result = []
    for each in (reference, model):
        noise = np.random.default_rng(2).standard_normal((3 * N, *batch(spec)[0].shape[1:])).astype(np.float32)
        more = {"noise": (each.engine.asarray(noise), 0.1), "blend": 0.3}
        each.train_step(*map(each.engine.asarray, batch(spec)), goal, 1e-3, **more)
        state = {name: each.engine.to_numpy(array).copy() for name, array in each.state_arrays().items()}
        result.append((state, each.fetch_losses()))
    return result


@pytest.mark.parametrize(
    ("spec", "optimizer", "groups"),
    [pytest.param(TINY, "rmsprop", "split", id="rmsprop, colour, split"), pytest.param(GREY, "adam", "joint", id="adam, grey, joint")],
)
def test_a_step_leaves_the_same_state(cuda32, spec, optimizer, groups):
    """Parameters, averages, running statistics and optimiser state, with noise for Dis; and, with the same numbers again, the same bits."""
    goal = Objective(gamma=0.1, bn_groups=groups, gate=False)
    (expected, expected_losses), (got, losses) = stepped(cuda32, spec, optimizer, goal)
    wrong = {k: e for k, e in errors(got, expected).items() if not e < LIMIT}
    assert not wrong, wrong
    assert losses == pytest.approx(expected_losses, rel=LIMIT)
    if optimizer == "rmsprop":
        _, (again, _) = stepped(cuda32, spec, optimizer, goal)
        assert {k: a.tobytes() for k, a in again.items()} == {k: a.tobytes() for k, a in got.items()}


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
