"""The four systems, unconditional and conditional: gradients, training steps and inference against PyTorch's of torch_systems."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from gradcheck import assert_close, relative_error
from torch_reference import NETWORKS, Trainer
from torch_systems import REFERENCES
from vaegan_case import PAPER, RELEASED, batch, check_training, conditions, copies, make_model, objective, part, reference_of

from models.networks import network
from models.vaegan import VAEGAN

SYSTEMS = tuple(REFERENCES)
EACH_SYSTEM = pytest.mark.parametrize("system", SYSTEMS)
HAS = {"vaegan": NETWORKS, "vae": NETWORKS[:2], "vae-dis": NETWORKS, "gan": NETWORKS[1:]}
TRAINS = {**HAS, "vae-dis": NETWORKS[:2]}
SPLIT = {"bn_groups": "split"}
BOTH_LAYERS = {"metric_weight": 0.3, "metric_first": 2.5}
SATURATES_NOT = {"generator_loss": "non-saturating"}


@pytest.fixture(scope="module")
def small(engine64):
    """small32 of a system and a number of attributes, made once; only tests that leave it as it is may use it."""
    return lru_cache(lambda system, attributes=0: make_model(engine64, system=system, attributes=attributes))


def check_gradients(engine, model, goal, n, limit=1e-8, *, real_valued=False):
    data, a = batch(engine, model, n), conditions(engine, model, n, real_valued=real_valued)
    reference = reference_of(model)
    expected, expected_losses = reference.gradients(*data, goal, a)
    got, losses = model.gradients(*data, goal, a)
    assert set(got) == set(expected) == {p.name for p in model.trained}
    assert {name.split("/")[0] for name in got} == set(TRAINS[model.system])
    for name in expected:
        assert_close(got[name], expected[name], limit, f"gradient of {name}")
    named = set(reference.losses) | ({"generator"} if reference.gated and goal.generator_loss != "minimax" else set())
    assert set(losses) - {"gan"} == named
    for name in named:
        assert losses[name] == pytest.approx(expected_losses[name], rel=limit), name


@pytest.mark.parametrize(
    ("system", "attributes", "real_valued", "n"),
    [(system, 0, False, 3) for system in SYSTEMS[1:]]  # the VAE/GAN's are in test_vaegan
    + [(system, *case) for system in SYSTEMS for case in ((3, False, 5), (40, True, 2))],
)
def test_gradients(engine64, small, system, attributes, real_valued, n):
    check_gradients(engine64, small(system, attributes), objective(), n, real_valued=real_valued)


@pytest.mark.parametrize(
    ("system", "attributes", "preset", "changes"),
    [
        ("vae-dis", 0, PAPER, BOTH_LAYERS),
        ("vae-dis", 3, PAPER, {"metric_weight": 1.7}),
        ("gan", 0, RELEASED, SPLIT),
        ("gan", 0, PAPER, {**SPLIT, **SATURATES_NOT}),
        ("gan", 0, PAPER, {"bn_groups": "authors"}),
        ("gan", 0, PAPER, SATURATES_NOT),
        ("gan", 3, RELEASED, SPLIT),
        ("gan", 3, PAPER, {"real_weight": 0.1, "gan_eps": 0.1}),
        ("vaegan", 3, RELEASED, {}),
        ("vaegan", 3, PAPER, {**SPLIT, **SATURATES_NOT}),
        ("vaegan", 3, RELEASED, SPLIT),
        ("vaegan", 3, PAPER, {"bn_groups": "authors"}),
        ("vaegan", 3, RELEASED, {"bn_groups": "authors", **SATURATES_NOT}),
    ],
)
def test_gradients_follow_the_objective(engine64, small, system, attributes, preset, changes):
    check_gradients(engine64, small(system, attributes), objective(preset, **changes), 3)


@EACH_SYSTEM
def test_gradients_of_grey_images(engine64, system):
    """And of another size of Enc's FC layer."""
    model = make_model(engine64, channels=1, encoder_units=70, system=system, attributes=2)
    check_gradients(engine64, model, objective(), 3)


@pytest.mark.parametrize("system", ["vae", "vae-dis", "gan"])
def test_gradients_of_an_odd_batch(engine64, small, system):
    check_gradients(engine64, small(system), objective(), 7)


@pytest.mark.parametrize(("name", "system", "attributes", "n"), [("paper32", "gan", 3, 3), ("paper64", "vae-dis", 40, 2)])
def test_gradients_of_the_papers_networks(engine64, name, system, attributes, n):
    model = make_model(engine64, name, encoder_units=128, system=system, attributes=attributes)  # 128: Enc's FC is most of the time
    check_gradients(engine64, model, objective(), n)


@EACH_SYSTEM
def test_gradients_in_float32(engine32, system):
    """The working precision against float64, the median of three models (see test_vaegan: ReLU's kink)."""
    errors = []
    for seed in range(3):
        model = make_model(engine32, seed=seed, system=system, attributes=3)
        data, goal, a = (
            batch(engine32, model, 4, seed=seed),
            objective(gamma=1e-2, **BOTH_LAYERS),
            conditions(engine32, model, 4, seed=seed),
        )
        expected, _ = reference_of(model).gradients(*data, goal, a)
        got, _ = model.gradients(*data, goal, a)
        errors.append(max(relative_error(got[name], expected[name]) for name in expected))
    assert sorted(errors)[1] < 2e-5, errors
    assert max(errors) < 5e-2, errors


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("vae", {"gamma": 0.7, "real_weight": 0.2, "gan_eps": 0.2, **SPLIT, **SATURATES_NOT}),
        ("vae", {"gamma": 0.0, "negatives": "prior", "bn_groups": "authors", **BOTH_LAYERS}),
        ("vae-dis", {"gamma": 0.7, "real_weight": 0.2, "gan_eps": 0.2, **SPLIT, **SATURATES_NOT}),
        ("vae-dis", {"gamma": 0.0, "negatives": "prior", "bn_groups": "authors"}),
        ("gan", {"gamma": 0.7, "negatives": "prior"}),
    ],
)
def test_what_plays_no_part(engine64, small, system, changes):
    """gamma outside a VAE/GAN, all of L_GAN's choices in a VAE, the noise that a system does not read: the same bits."""
    model = small(system)
    x, eps, z_p = batch(engine64, model, 3)
    _, other_eps, other_z_p = batch(engine64, model, 3, seed=9)
    base, losses = model.gradients(x, eps, z_p, objective())
    noise = (other_eps, z_p) if system == "gan" else (eps, other_z_p)
    other, other_losses = model.gradients(x, *noise, objective(**changes))
    for name in base:
        assert np.array_equal(base[name], other[name]), name
    assert {name: losses[name] for name in REFERENCES[system].losses} == {name: other_losses[name] for name in REFERENCES[system].losses}


def test_the_gans_error_never_reaches_enc(engine64, small):
    """Of a conditional VAE/GAN: what changes L_GAN changes Dec and Dis, gamma changes Dec alone."""
    model = small("vaegan", 3)
    data, a = batch(engine64, model, 4), conditions(engine64, model, 4)
    base, _ = model.gradients(*data, objective(), a)
    for changes, changed in (
        ({"gan_eps": 0.2}, {"decoder", "discriminator"}),
        ({"real_weight": 0.3}, {"decoder", "discriminator"}),
        ({"gamma": 1e-3}, {"decoder"}),
    ):
        other, _ = model.gradients(*data, objective(**changes), a)
        for part_name in NETWORKS:
            same = all(np.allclose(base[n], other[n], rtol=1e-9, atol=0) for n in base if n.startswith(part_name))
            assert same == (part_name not in changed), f"{changes}: {part_name}"


@EACH_SYSTEM
def test_each_row_of_attributes_belongs_to_an_image(engine64, small, system):
    """Rows in another order: other losses, other gradients of all that is trained; images and rows both in it: the same sums."""
    model, order = small(system, 3), [2, 0, 3, 1]
    data, a = batch(engine64, model, 4), conditions(engine64, model, 4, real_valued=True)
    base, losses = model.gradients(*data, objective(), a)
    other, other_losses = model.gradients(*data, objective(), np.ascontiguousarray(a[order]))
    assert all(losses[name] != other_losses[name] for name in losses if name != "generator")
    assert not any(np.array_equal(base[name], other[name]) for name in base)
    moved = (np.ascontiguousarray(array[order]) for array in (*data, a))
    x, eps, z_p, a = moved
    again, _ = model.gradients(x, eps, z_p, objective(), a)
    for name in base:
        assert_close(again[name], base[name], 1e-9, name)


LR = [5e-4 * 0.9**i for i in range(5)]
SOMETIMES = {"equilibrium": 0.78, "margin": 0.08}


@pytest.mark.parametrize(
    ("system", "attributes", "preset", "changes", "fused"),
    [
        ("vae", 0, PAPER, {}, False),
        ("vae", 3, PAPER, {}, True),
        ("vae-dis", 0, PAPER, {}, True),
        ("vae-dis", 3, PAPER, {}, False),
        ("gan", 0, PAPER, SOMETIMES, False),
        ("gan", 0, RELEASED, {"gate": False, **SPLIT}, False),
        ("gan", 3, RELEASED, {"equilibrium": 0.30, "margin": 0.10, **SATURATES_NOT}, False),
        ("vaegan", 3, PAPER, {**SOMETIMES, "bn_groups": "authors"}, False),
        ("vaegan", 3, RELEASED, {"gate": False}, True),
    ],
)
def test_training_steps(engine64, system, attributes, preset, changes, fused):
    """Parameters, running statistics and losses after five steps; a frozen Dis stays to the bit."""
    goal, weight_decay = objective(preset, **changes), 0.05  # large, so that who is decayed shows
    model = make_model(engine64, system=system, attributes=attributes, weight_decay=weight_decay, fuse_update=fused)
    trainer = Trainer(reference_of(model), weight_decay)
    start, counts = copies(model), {}
    for i, lr in enumerate(LR):
        data, a = batch(engine64, model, 3, seed=i), conditions(engine64, model, 3, seed=i, real_valued=i % 2 == 1)
        expected = trainer.step(*data, goal, lr, a)
        model.train_step(*data, goal, lr, a)
        losses = model.fetch_losses()
        if trainer.reference.gated:
            counts["gan_generated"] = trainer.reference.counts[1]
            assert (losses["dec_updated"], losses["dis_updated"]) == trainer.gates[-1], f"step {i}"
        else:
            assert set(losses) == {"prior", "like"}
        for name in trainer.reference.losses:
            assert losses[name] == pytest.approx(expected[name] / counts.get(name, 3), rel=1e-5), f"step {i}: {name}"
    if "equilibrium" in changes:
        assert len(set(trainer.gates)) > 1, "the gate never changed: nothing seen of it"
    trained = check_training(model, trainer, part_of(start, "parameters"))
    assert {name.split("/")[0] for name in trained} == set(TRAINS[system])
    if system == "vae-dis":
        now = copies(model)
        frozen = [name for name in now if "/discriminator/" in name]
        assert any(name.startswith("statistics/") for name in frozen)
        assert all(np.array_equal(now[name], start[name]) for name in frozen)


def part_of(state, kind):
    return {name.removeprefix(kind + "/"): a for name, a in state.items() if name.startswith(kind + "/")}


@pytest.mark.parametrize(("equilibrium", "held"), [(50.0, "discriminator"), (-50.0, "decoder")])
def test_a_gated_network_of_a_gan_stands_still(engine64, equilibrium, held):
    model = make_model(engine64, system="gan")
    model.train_step(*batch(engine64, model, 3), objective(gate=False), 1e-3)
    before = copies(model)
    model.train_step(*batch(engine64, model, 3, seed=1), objective(equilibrium=equilibrium), 1e-3)
    for name, array in model.state_arrays().items():
        kind, network = name.split("/")[:2]
        if kind in ("parameters", "optimizer"):
            assert np.array_equal(array, before[name]) == (network == held), name


@EACH_SYSTEM
def test_inference_against_pytorch(engine64, small, monkeypatch, system):
    """Running statistics, and more images than one piece of a pass holds."""
    monkeypatch.setattr("models.vaegan.INFERENCE_IMAGES", 4)
    model, n = small(system, 3), 7
    x, z, _ = batch(engine64, model, n)
    a = conditions(engine64, model, n, real_valued=True)
    reference = reference_of(model)
    reference.fixed = NETWORKS
    with torch.no_grad():
        images, z_torch, a_torch = reference.inputs(x, z, a)
        if "encoder" in HAS[system]:
            for got, expected in zip(model.encode(x, a), reference.encoder(images, a_torch), strict=True):
                assert_close(got, expected, 1e-9, "encode")
        assert_close(model.decode(z, a), reference.decoder(z_torch, (n,), a_torch).permute(0, 2, 3, 1), 1e-9, "decode")
        if "discriminator" in HAS[system]:
            features = reference.features(images, (n,))
            assert_close(model.features(x), features.permute(0, 2, 3, 1).reshape(n, -1), 1e-9, "features")
            assert_close(model.discriminate(x, a), torch.sigmoid(reference.logits(features, (n,), a_torch)), 1e-9, "discriminate")


@EACH_SYSTEM
def test_gradients_leave_the_state_alone(engine64, system):
    """Parameters, running statistics, optimiser state: all to the bit; and the same answer twice, after a step of another size too."""
    model = make_model(engine64, system=system, attributes=2)
    model.train_step(*batch(engine64, model, 4, seed=1), objective(), 1e-3, conditions(engine64, model, 4))
    before = copies(model)
    data, a = batch(engine64, model, 3), conditions(engine64, model, 3)
    first, losses = model.gradients(*data, objective(), a)
    model.gradients(*batch(engine64, model, 5, seed=3), objective(RELEASED), conditions(engine64, model, 5))
    again, again_losses = model.gradients(*data, objective(), a)
    assert losses == again_losses
    for name in first:
        assert np.array_equal(first[name], again[name]), name
    for name, array in model.state_arrays().items():
        assert np.array_equal(array, before[name]), name


@EACH_SYSTEM
def test_a_model_is_its_state(engine32, system):
    """Only what the system has; moved into another model, both continue the same, to the bit."""
    one, two = (make_model(engine32, seed=seed, system=system, attributes=2) for seed in (0, 9))
    state = one.state_arrays()
    for kind, has in (("parameters", HAS), ("statistics", HAS), ("optimizer", TRAINS)):
        assert {name.split("/")[1] for name in state if name.startswith(kind + "/")} == set(has[system]), kind
    assert (one.encoder is None, one.decoder is None, one.discriminator is None) == tuple(n not in HAS[system] for n in NETWORKS)
    a = conditions(engine32, one, 4)
    one.train_step(*batch(engine32, one, 4), objective(), 1e-3, a)
    two.load_state(copies(one))
    for model in (one, two):
        model.train_step(*batch(engine32, model, 4, seed=7), objective(), 1e-3, a)
    for name, array in one.state_arrays().items():
        assert np.array_equal(array, two.state_arrays()[name]), name


def test_networks_start_alike_in_all_systems(engine32):
    models = [VAEGAN(engine32, network("small32"), system=system, seed=4) for system in SYSTEMS]
    start = part(models[0], "parameters")
    for model in models[1:]:
        for name, array in part(model, "parameters").items():
            assert np.array_equal(array, start[name]), f"{model.system}: {name}"
