"""Algorithm 1: all gradients of Enc, Dec and Dis, and training steps, against the PyTorch model of torch_reference."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, relative_error
from torch_reference import NETWORKS, Trainer
from vaegan_case import PAPER, RELEASED, batch, make_model, objective, part, reference_of

PRESETS = {"paper": PAPER, "released": RELEASED}
BOTH_PRESETS = pytest.mark.parametrize("preset", PRESETS)


@pytest.fixture(scope="module")
def small(engine64):
    """One small32 model; only tests that leave it as it is may use it."""
    return make_model(engine64)


def check_gradients(engine, model, goal, n, limit=1e-8):
    x, eps, z_p = batch(engine, model, n)
    expected, expected_losses = reference_of(model).gradients(x, eps, z_p, goal)
    got, losses = model.gradients(x, eps, z_p, goal)
    assert set(got) == set(expected)
    assert {name.split("/")[0] for name in got} == set(NETWORKS)
    for name in expected:
        assert_close(got[name], expected[name], limit, f"gradient of {name}")
    for name in ("prior", "like", "gan_real", "gan_generated"):
        assert losses[name] == pytest.approx(expected_losses[name], rel=limit), name
    return got


@BOTH_PRESETS
@pytest.mark.parametrize("bn_groups", ["joint", "split", "authors"])
@pytest.mark.parametrize("generator_loss", ["minimax", "non-saturating"])
def test_gradients_small32(engine64, small, preset, bn_groups, generator_loss):
    goal = objective(PRESETS[preset], bn_groups=bn_groups, generator_loss=generator_loss)
    check_gradients(engine64, small, goal, 4)


@BOTH_PRESETS
@pytest.mark.parametrize("bn_groups", ["joint", "authors"])
def test_gradients_paper32(engine64, preset, bn_groups):
    check_gradients(engine64, make_model(engine64, "paper32"), objective(PRESETS[preset], bn_groups=bn_groups), 3)


@pytest.fixture(scope="module")
def paper64(engine64):
    return make_model(engine64, "paper64")


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("paper", {}),
        ("released", {}),
        ("paper", {"bn_groups": "split", "generator_loss": "non-saturating"}),
    ],
    ids=["paper", "released", "paper, split, non-saturating"],
)
def test_gradients_paper64(engine64, paper64, preset, changes):
    check_gradients(engine64, paper64, objective(PRESETS[preset], **changes), 2)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_gradients_of_other_batch_sizes(engine64, small, n):
    """A batch of one has statistics too (over the rows of [x; x̃; x_p]); Enc's FC has none to speak of, so 1e-6."""
    got = {}
    if n > 1:
        got = check_gradients(engine64, small, objective(), n)
    else:
        x, eps, z_p = batch(engine64, small, n)
        expected, _ = reference_of(small).gradients(x, eps, z_p, objective())
        got, _ = small.gradients(x, eps, z_p, objective())
        for name in (name for name in expected if not name.startswith("encoder")):
            assert_close(got[name], expected[name], 1e-6, name)
    assert all(np.isfinite(g).all() for g in got.values())


def test_gradients_of_one_channel_and_other_encoder_units(engine64):
    model = make_model(engine64, channels=1, encoder_units=70)
    assert part(model, "parameters")["encoder/fc/weight"].shape[1] == 70
    for preset in PRESETS.values():
        check_gradients(engine64, model, objective(preset), 3)


@pytest.mark.parametrize(
    "changes",
    [{"gan_eps": 0.0}, {"gan_eps": 0.1}, {"real_weight": 0.1}, {"gamma": 0.0}, {"gamma": 1.0}],
    ids=lambda c: "{} {}".format(*next(iter(c.items()))),
)
def test_gradients_follow_the_objective(engine64, small, changes):
    check_gradients(engine64, small, objective(**changes), 3)


def test_gradients_in_float32(engine32):
    """The working precision against float64. The median of three models: where a unit lies within float32's rounding of
    ReLU's kink, its gradient differs by a whole unit (PyTorch's float32 then differs by the same 4e-3)."""
    errors = []
    for seed in range(3):
        model = make_model(engine32, seed=seed)
        data, goal = batch(engine32, model, 8, seed=seed), objective(gamma=1e-2)
        expected, _ = reference_of(model).gradients(*data, goal)
        got, _ = model.gradients(*data, goal)
        errors.append(max(relative_error(got[name], expected[name]) for name in expected))
    assert sorted(errors)[1] < 2e-5, errors
    assert max(errors) < 5e-2, errors


def test_who_minimises_what(engine64, small):
    """Routing: gamma changes Dec alone; the real weight changes Dis and not Enc; L_GAN never reaches Enc."""
    data = batch(engine64, small, 4)
    base, _ = small.gradients(*data, objective())
    for changes, changed in (
        ({"gamma": 1e-3}, {"decoder"}),
        ({"real_weight": 0.3}, {"decoder", "discriminator"}),  # Dec through joint batch norm
        ({"gan_eps": 0.2}, {"decoder", "discriminator"}),
        ({"generator_loss": "non-saturating"}, {"decoder"}),
        ({"gate": False}, set()),
    ):
        other, _ = small.gradients(*data, objective(**changes))
        for network in NETWORKS:
            same = all(np.allclose(base[n], other[n], rtol=1e-9, atol=0) for n in base if n.startswith(network))
            assert same == (network not in changed), f"{changes}: {network}"


@pytest.mark.parametrize("goal", [{}, {"bn_groups": "authors"}, {"generator_loss": "non-saturating"}], ids=str)
def test_gradients_leave_the_state_alone(engine64, small, goal):
    """Parameters, running statistics, optimiser state: all to the bit; and the same answer twice."""
    before = {name: np.array(a) for name, a in small.state_arrays().items()}
    data = batch(engine64, small, 3)
    first, first_losses = small.gradients(*data, objective(**goal))
    first = {name: np.array(g) for name, g in first.items()}
    small.gradients(*batch(engine64, small, 5, seed=3), objective(RELEASED))
    again, again_losses = small.gradients(*data, objective(**goal))
    assert first_losses == again_losses
    for name in first:
        assert np.array_equal(first[name], again[name]), name
    for name, array in small.state_arrays().items():
        assert np.array_equal(array, before[name]), name


LR = [5e-4 * 0.9**i for i in range(10)]


@pytest.mark.parametrize(
    ("preset", "changes", "gates"),
    [
        ("paper", {"gate": False}, {(True, True)}),
        ("released", {"gate": False, "bn_groups": "split"}, {(True, True)}),
        ("paper", {}, None),
        ("paper", {"equilibrium": 0.95, "margin": 0.05}, {(True, False), (True, True), (False, True)}),
        ("released", {"equilibrium": 0.30, "margin": 0.10, "generator_loss": "non-saturating", "gamma": 1e-2}, None),
    ],
    ids=["paper", "released, split", "paper, gated", "paper, Dis often held back", "released, Dec often held back"],
)
def test_ten_training_steps(engine64, preset, changes, gates):
    """RMSProp, weight decay, schedule, gate: parameters, running statistics and losses after ten steps, within 1e-6."""
    goal, weight_decay = objective(PRESETS[preset], **changes), 0.05  # large, so that who is decayed shows
    model = make_model(engine64, optimizer="rmsprop", weight_decay=weight_decay)
    trainer = Trainer(reference_of(model), weight_decay)
    start = part(model, "parameters")
    for i, lr in enumerate(LR):
        data = batch(engine64, model, 6, seed=i)
        expected = trainer.step(*data, goal, lr)
        model.train_step(*data, goal, lr)
        losses, (n, m) = model.fetch_losses(), trainer.reference.counts
        for name, count in (("prior", n), ("like", n), ("gan_real", n), ("gan_generated", m)):
            assert losses[name] == pytest.approx(expected[name] / count, rel=1e-5), f"step {i}: {name}"
        assert (losses["dec_updated"], losses["dis_updated"]) == trainer.gates[-1], f"step {i}"
    if gates is not None:
        assert set(trainer.gates) <= gates
    parameters, statistics = part(model, "parameters"), part(model, "statistics")
    mean_square = part(model, "optimizer")
    assert set(parameters) == set(trainer.reference.p)
    for name, p in trainer.reference.p.items():
        assert_close(parameters[name], p, 1e-6, name)
        assert np.linalg.norm(parameters[name] - start[name]) > 1e-3 * np.linalg.norm(start[name]), f"{name} stood still"
        assert_close(mean_square[f"{name}/mean_square"], trainer.mean_square[name], 1e-5, f"mean square of {name}")
    assert set(statistics) == set(trainer.reference.running)
    for name, running in trainer.reference.running.items():
        assert_close(statistics[name], running, 1e-6, name)


@pytest.mark.parametrize(("equilibrium", "held"), [(50.0, "discriminator"), (-50.0, "decoder")])
def test_a_gated_network_stands_still(engine64, equilibrium, held):
    """Parameters and optimiser state of the network that the gate holds back; Enc is never gated."""
    model = make_model(engine64)
    model.train_step(*batch(engine64, model, 4), objective(gate=False), 1e-3)
    model.fetch_losses()  # rates are of the steps since the last call
    before = {name: np.array(a) for name, a in model.state_arrays().items()}
    model.train_step(*batch(engine64, model, 4, seed=1), objective(equilibrium=equilibrium), 1e-3)
    losses = model.fetch_losses()
    assert (bool(losses["dec_updated"]), bool(losses["dis_updated"])) == (held != "decoder", held != "discriminator")
    for name, array in model.state_arrays().items():
        kind, network = name.split("/")[:2]
        if kind in ("parameters", "optimizer"):
            assert np.array_equal(array, before[name]) == (network == held), name


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_two_runs_give_the_same_bits(engine32, optimizer):
    states = []
    for _ in range(2):
        model = make_model(engine32, optimizer=optimizer)
        for i in range(3):
            model.train_step(*batch(engine32, model, 5, seed=i), objective(gamma=1e-2), 1e-3)
        states.append({name: np.array(a) for name, a in model.state_arrays().items()})
    for name, array in states[0].items():
        assert np.isfinite(array).all(), name
        assert np.array_equal(array, states[1][name]), name


def test_state_put_into_another_model_goes_on_the_same(engine32):
    """A model is its state: train, move the state over, train both once more, compare bits."""
    one, two = make_model(engine32, seed=0), make_model(engine32, seed=9)
    for i in range(2):
        one.train_step(*batch(engine32, one, 5, seed=i), objective(), 1e-3)
    two.load_state({name: np.array(a) for name, a in one.state_arrays().items()})
    for model in (one, two):
        model.train_step(*batch(engine32, model, 5, seed=7), objective(), 1e-3)
    for name, array in one.state_arrays().items():
        assert np.array_equal(array, two.state_arrays()[name]), name


def test_load_state_names_what_is_wrong(engine64, small):
    state = {name: np.array(a) for name, a in small.state_arrays().items()}
    name = "parameters/decoder/up1/gamma"
    for bad in ({**state, name: np.zeros(3)}, {k: v for k, v in state.items() if k != name}):
        with pytest.raises(ValueError, match=name):
            small.load_state(bad)
    with pytest.raises(ValueError, match="parameters/decoder/up9/gamma"):
        small.load_state({**state, "parameters/decoder/up9/gamma": np.zeros(3)})
    for key, array in small.state_arrays().items():
        assert np.array_equal(array, state[key]), f"a refused load_state changed {key}"


@pytest.mark.parametrize("goal", [{}, {"bn_groups": "authors"}], ids=str)
def test_an_update_where_the_gradient_is_made(engine64, goal):
    """Enc's FC weights updated by `linear_wgrad_rmsprop`, its gradient never stored: the same state; the gradient when asked for."""
    goal = objective(**goal)
    plain, fused = (make_model(engine64, weight_decay=0.05, fuse_update=fuse) for fuse in (False, True))
    weight = fused.encoder.largest
    assert weight.name == "encoder/fc/weight" and weight.grad is None
    for i in range(3):
        for model in (plain, fused):
            model.train_step(*batch(engine64, model, 4, seed=i), goal, 1e-3)
    assert weight.grad is None, "a training step placed the gradient"
    gradients, _ = fused.gradients(*batch(engine64, fused, 4, seed=7), goal)
    expected, _ = plain.gradients(*batch(engine64, plain, 4, seed=7), goal)
    assert_close(gradients["encoder/fc/weight"], expected["encoder/fc/weight"], 1e-12)
    for model in (plain, fused):
        model.train_step(*batch(engine64, model, 4, seed=8), goal, 1e-3)
    for name, array in plain.state_arrays().items():
        assert_close(fused.state_arrays()[name], array, 1e-12, name)


def test_only_rmsprop_is_fused(engine32):
    assert make_model(engine32).fused
    assert not make_model(engine32, optimizer="adam").fused


def test_a_rate_in_an_array_is_the_number(engine64):
    states = []
    for lr in (1e-3, engine64.asarray([1e-3], engine64.wide)):
        model = make_model(engine64)
        model.train_step(*batch(engine64, model, 4), objective(), lr)
        states.append({name: np.array(a) for name, a in model.state_arrays().items()})
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@pytest.mark.parametrize("bn_groups", ["joint", "split"])
def test_errors_come_masked_and_summed(engine64, monkeypatch, bn_groups):
    """Where a gradient is made, the layer underneath is finished: a batch norm reads its error again only where two errors meet
    (Enc's heads) and where statistics are of a unit in an image (Dec's FC layer, once for each of two errors)."""
    model, alone = make_model(engine64), []
    own = {"encoder/fc": model.encoder.trunk.layers[-1], "decoder/fc": model.decoder.layers[0]}

    def watch(operation):
        run = getattr(engine64, operation)

        def watched(*args, sums=None, **options):
            if sums is None:
                gamma = next(a for a in args if any(a is layer.gamma.data for layer in (*layers, *own.values())))
                alone.append(next((name for name, layer in own.items() if layer.gamma.data is gamma), "another layer"))
            run(*args, sums=sums, **options)

        monkeypatch.setattr(engine64, operation, watched, raising=False)

    layers = [*model.encoder.trunk.layers, *model.decoder.layers[:-1], *model.discriminator.body.layers[1:]]
    layers += model.discriminator.head.layers[:-1]
    for operation in ("conv2d_bn_relu_backward", "upconv_bn_relu_backward", "linear_bn_relu_backward", "batch_norm_backward"):
        watch(operation)
    monkeypatch.setattr(engine64, "relu_backward", None, raising=False)
    model.train_step(*batch(engine64, model, 4), objective(bn_groups=bn_groups, gate=False), 1e-3)
    assert sorted(alone) == ["decoder/fc", "decoder/fc", "encoder/fc"]
