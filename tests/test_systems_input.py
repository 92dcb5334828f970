"""The systems' public boundaries: another model's Dis taken over, states that do not fit, attributes missing or of a wrong shape;
and the memory of a step."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close
from vaegan_case import batch, conditions, copies, make_model, objective, reference_of

from models.networks import network
from models.vaegan import VAEGAN


def test_a_gans_dis_becomes_the_metric(engine32):
    """Parameters and running statistics, nothing else; gradients are then of that Dis."""
    gan = make_model(engine32, seed=5, system="gan")
    gan.train_step(*batch(engine32, gan, 4), objective(), 1e-3)
    model = make_model(engine32, seed=6, system="vae-dis")
    before, data = copies(model), batch(engine32, model, 4)
    old, _ = model.gradients(*data, objective())
    model.load_discriminator(copies(gan))
    for name, array in model.state_arrays().items():
        theirs = gan.state_arrays()[name] if "/discriminator/" in name else before[name]
        assert np.array_equal(array, theirs), name
    assert any(not np.array_equal(array, before[name]) for name, array in model.state_arrays().items())
    got, _ = model.gradients(*data, objective())
    expected, _ = reference_of(model).gradients(*data, objective())
    assert not np.array_equal(got["decoder/fc/weight"], old["decoder/fc/weight"])
    for name in expected:
        assert_close(got[name], expected[name], 5e-2, name)  # float32: a unit at ReLU's kink counts whole


@pytest.mark.parametrize("name", ["parameters/discriminator/conv2/weight", "statistics/discriminator/fc/running_var"])
def test_a_dis_that_does_not_fit(engine32, name):
    gan, model = (make_model(engine32, seed=seed, system=system) for seed, system in ((5, "gan"), (6, "vae-dis")))
    before, theirs = copies(model), copies(gan)
    for bad in ({k: v for k, v in theirs.items() if k != name}, {**theirs, name: np.zeros(7)}):
        with pytest.raises(ValueError, match=name):
            model.load_discriminator(bad)
    conditional = make_model(engine32, system="gan", attributes=3)
    with pytest.raises(ValueError, match="parameters/discriminator/fc/weight"):
        model.load_discriminator(copies(conditional))
    for key, array in model.state_arrays().items():
        assert np.array_equal(array, before[key]), f"a refused Dis changed {key}"


@pytest.mark.parametrize(("system", "other"), [("vae", "vaegan"), ("vaegan", "vae"), ("gan", "vae-dis"), ("vae-dis", "vaegan")])
def test_the_state_of_another_system_is_refused(engine32, system, other):
    """vae-dis and vaegan have the same networks, but Dis's optimiser state is only the latter's."""
    model, theirs = make_model(engine32, system=system), copies(make_model(engine32, seed=3, system=other))
    before = copies(model)
    with pytest.raises(ValueError, match="parameters/|optimizer/"):
        model.load_state(theirs)
    for name, array in model.state_arrays().items():
        assert np.array_equal(array, before[name]), f"a refused load_state changed {name}"


def calls(model, data, a):
    """Everything that takes attributes."""
    x, eps, z_p = data
    yield lambda: model.train_step(x, eps, z_p, objective(), 1e-3, a)
    yield lambda: model.gradients(x, eps, z_p, objective(), a)
    if model.encoder is not None:
        yield lambda: model.encode(x, a)
    yield lambda: model.decode(z_p, a)
    if model.discriminator is not None:
        yield lambda: model.discriminate(x, a)


@pytest.mark.parametrize("system", ["vaegan", "vae", "vae-dis", "gan"])
def test_attributes_that_do_not_fit(engine64, system):
    """Missing, too many, too few, of another number of images, without rows; or given to a model that takes none."""
    conditional, plain = (make_model(engine64, system=system, attributes=a) for a in (3, 0))
    before = copies(conditional)
    good = conditions(engine64, conditional, 4)
    cases = [
        (conditional, bad) for bad in (None, good[:, :2], np.repeat(good, 2, axis=1), good[:3], np.repeat(good, 2, axis=0), good[:, 0])
    ]
    for model, bad in [*cases, (plain, good), (plain, good[:, :1])]:
        bad = None if bad is None else np.ascontiguousarray(bad)
        for call in calls(model, batch(engine64, model, 4), bad):
            with pytest.raises(ValueError, match=r"attributes") as caught:
                call()
            assert "\n" not in str(caught.value)
    for name, array in conditional.state_arrays().items():
        assert np.array_equal(array, before[name]), f"a refused call changed {name}"


@pytest.mark.parametrize("system", ["vaegan", "vae", "vae-dis", "gan"])
@pytest.mark.parametrize(
    "goal",
    [{}, {"bn_groups": "authors", "generator_loss": "non-saturating"}, {"bn_groups": "split", "equilibrium": -50.0}, {"equilibrium": 50.0}],
)
def test_the_first_step_places_all_memory(engine32, system, goal):
    """Whatever the gate holds back: no buffer is left out of the pool, by a step or by a call that is refused."""
    model, goal, placed = make_model(engine32, system=system, attributes=2), objective(**goal), []
    data, a = batch(engine32, model, 2), conditions(engine32, model, 2)
    model.train_step(*data, objective(**{**vars(goal), "gate": False}), 1e-3, a)
    for _ in range(3):
        model.train_step(*data, goal, 1e-3, a)
        placed.append(model.pool.bytes)
        with pytest.raises(ValueError, match="attributes"):
            model.train_step(*data, goal, 1e-3)
    assert placed[0] == placed[1] == placed[2]


@pytest.mark.parametrize("system", ["VAE", "vaegan ", "", "dcgan"])
def test_an_unknown_system(engine32, system):
    with pytest.raises(ValueError, match="system.*vae-dis") as caught:
        VAEGAN(engine32, network("small32"), system=system)
    assert repr(system) in str(caught.value)
