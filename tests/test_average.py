"""Averaged weights, rates by network, noise for Dis and fixed statistics, in whole steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close
from native_case import native_engine
from vaegan_case import batch, copies, make_model, objective, part, reference_of

from models.optimizers import average_decay

OPTIONS = [{}, {"optimizer": "adam"}, {"system": "gan"}, {"system": "vae-dis"}]


def averages(model):
    """{"parameters/…": copy} of the averages."""
    return part(model, "average")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("native", [False, True], ids=["numpy", "native"])
def test_averages_follow_the_weights(engine64, native, options):
    """Every step, of parameters and statistics, gated or not: a ← decay · a + (1 − decay) · w. (On the CUDA engine: test_cuda_step.)"""
    engine = native_engine() if native else engine64
    model = make_model(engine, average=True, **options)
    model.load_state({**copies(model), **{f"average/{name}": array + 0.5 for name, array in averages(model).items()}})
    expected = averages(model)
    for k, equilibrium in enumerate((0.68, 50.0, -50.0)):
        model.train_step(*batch(engine, model, 4, seed=k), objective(equilibrium=equilibrium), 1e-3, blend=1 - average_decay(k, 0.9))
        state = copies(model)
        for name in expected:
            decay = average_decay(k, 0.9)
            expected[name] = decay * expected[name] + (1 - decay) * state[name]
    trained = ("encoder", "decoder", "discriminator")[slice(0, 2) if options.get("system") == "vae-dis" else slice(0, 3)]
    names = {n for n in state if n.split("/")[0] in ("parameters", "statistics") and n.split("/")[1] in trained}
    assert set(expected) == names and names
    limit = 1e-12 if engine.dtype == np.float64 else 1e-6
    for name, array in averages(model).items():
        assert_close(array, expected[name], limit, name)


def test_the_average_is_used_inside_and_the_weights_outside(engine32):
    model = make_model(engine32, average=True)
    other = {f"average/{name}": 0.5 * array for name, array in averages(model).items()}
    model.load_state({**copies(model), **other})
    z = batch(engine32, model, 3)[1]
    before, raw = copies(model), model.decode(z)
    with model.averaged():
        inside = model.decode(z)
        assert np.array_equal(model.state_arrays()["parameters/decoder/fc/weight"], other["average/parameters/decoder/fc/weight"])
    with model.averaged(False):
        assert np.array_equal(model.decode(z), raw)
    twin = make_model(engine32)
    twin.load_state({name: other.get(f"average/{name}", array) for name, array in copies(twin).items()})
    assert np.array_equal(inside, twin.decode(z)) and not np.array_equal(inside, raw)
    assert np.array_equal(model.decode(z), raw)
    for name, array in model.state_arrays().items():
        assert np.array_equal(array, before[name]), name


def test_a_step_after_a_use_is_the_step(engine32):
    """The optimiser's list holds addresses: exchanging arrays for a use must not exchange what it updates."""
    states = []
    for used in (False, True):
        model = make_model(engine32, average=True, optimizer="adam")
        for k in range(2):
            model.train_step(*batch(engine32, model, 4, seed=k), objective(), 1e-3, blend=0.1)
            if used:
                with model.averaged():
                    model.decode(batch(engine32, model, 4)[1])
        states.append(copies(model))
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


def test_the_average_changes_no_step(engine64):
    """But for the last digits: with an average Enc's FC weights are not updated where their gradient is made."""
    with_one, without = make_model(engine64, average=True), make_model(engine64)
    for model in (with_one, without):
        model.train_step(*batch(engine64, model, 4), objective(), 1e-3, **({"blend": 0.1} if model is with_one else {}))
    for name, array in copies(without).items():
        assert_close(with_one.state_arrays()[name], array, 1e-12, name)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (890, 0.99), (10**6, 0.99)])
def test_the_warm_up(step, expected):
    assert average_decay(step, 0.99) == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_rates_by_network(engine64, optimizer):
    """A first step's change of each network is the factor's share of what it is without one."""
    changes = []
    for rates in (None, {"encoder": 0.5, "discriminator": 0.25}):
        model = make_model(engine64, optimizer=optimizer, rates=rates)
        start = part(model, "parameters")
        model.train_step(*batch(engine64, model, 4), objective(gate=False), 1e-3)
        changes.append({name: array - start[name] for name, array in part(model, "parameters").items()})
    factors = {"encoder": 0.5, "decoder": 1.0, "discriminator": 0.25}
    for name, change in changes[0].items():
        assert_close(changes[1][name], factors[name.split("/")[0]] * change, 1e-8, name)


@pytest.mark.parametrize("generator_loss", ["minimax", "non-saturating"])
@pytest.mark.parametrize("bn_groups", ["authors", "joint", "split"])
@pytest.mark.parametrize("system", ["vaegan", "gan"])
def test_fixed_statistics(engine64, system, bn_groups, generator_loss):
    """Dec's error with Dis's batch statistics as constants, against PyTorch's with detached ones; Dis's and Enc's are as ever."""
    model, changes = make_model(engine64, system=system), {"bn_groups": bn_groups, "generator_loss": generator_loss, "gamma": 0.02}
    data = batch(engine64, model, 3)
    plain, _ = model.gradients(*data, objective(**changes))
    goal = objective(fixed_statistics=True, **changes)
    got, _ = model.gradients(*data, goal)
    expected, _ = reference_of(model).gradients(*data, goal)
    for name, gradient in expected.items():
        assert_close(got[name], gradient, 1e-8, name)
        differs = np.linalg.norm(got[name] - plain[name]) > 1e-3 * np.linalg.norm(plain[name])
        assert differs == name.startswith("decoder"), name


@pytest.mark.parametrize("system", ["vaegan", "gan"])
@pytest.mark.parametrize("negatives", ["both", "prior"])
@pytest.mark.parametrize("bn_groups", ["authors", "joint", "split"])
def test_noise_on_what_dis_is_shown(engine64, system, negatives, bn_groups):
    """Gradients of a step with noise against PyTorch's: only Dis's images have it, and L_like's own pass has none."""
    model, n = make_model(engine64, system=system), 3
    goal = objective(gamma=0.02, negatives=negatives, bn_groups=bn_groups, generator_loss="non-saturating")
    data = batch(engine64, model, n)
    draws = np.random.default_rng(3).standard_normal((3 * n, *data[0].shape[1:]))
    plain, _ = model.gradients(*data, goal)
    model.noise = draws, 0.3
    got, losses = model.gradients(*data, goal)
    reference = reference_of(model)
    reference.noise = torch.tensor(0.3 * draws).permute(0, 3, 1, 2)
    expected, expected_losses = reference.gradients(*data, goal)
    for name, gradient in expected.items():
        assert_close(got[name], gradient, 1e-8, name)
        assert not np.allclose(got[name], plain[name], rtol=1e-3, atol=0) or name.startswith("encoder"), f"{name}: no noise in it"
    assert losses["gan_real"] == pytest.approx(expected_losses["gan_real"], rel=1e-9)
