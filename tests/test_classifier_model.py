"""The classifier: gradients, training steps, frozen and taken trunks, inference, against PyTorch's of torch_systems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close
from torch_reference import Trainer
from torch_systems import Classifier as Reference
from vaegan_case import batch, check_training, copies, make_model, part, randomised

from models.classifier import NETWORK_OF, Classifier
from models.networks import network

FEATURES = pytest.mark.parametrize("features", ["enc", "dis"])


def make(engine, classes=4, name="small32", *, seed=0, channels=3, encoder_units=None, **options):
    spec = network(name, channels=channels, encoder_units=encoder_units)
    return randomised(Classifier(engine, spec, classes, seed=seed, **options), seed)


def reference_of(model):
    return Reference(part(model, "parameters"), part(model, "statistics"))


def data_of(engine, model, n, seed=0, unknown=True):
    """Images and labels; one in three has none."""
    labels = np.random.default_rng(300 + seed).integers(0, model.outputs, n).astype(np.int32)
    if unknown:
        labels[2::3] = -1
    return batch(engine, model, n, seed)[0], labels


def check_gradients(engine, model, n, limit=1e-8):
    x, labels = data_of(engine, model, n)
    expected, expected_loss = reference_of(model).gradients(x, labels)
    got, loss = model.gradients(x, labels)
    assert set(got) == set(expected)
    for name in expected:
        assert_close(got[name], expected[name], limit, f"gradient of {name}")
    assert loss == pytest.approx(expected_loss["loss"], rel=limit)


@FEATURES
@pytest.mark.parametrize(("classes", "n"), [(2, 4), (10, 5), (73, 3)])
def test_gradients(engine64, features, classes, n):
    model = make(engine64, classes, features=features)
    units = {"enc": 256, "dis": 128}[features]
    assert part(model, "parameters")["classifier/output/weight"].shape == (units, classes)
    assert {p.name.split("/")[0] for p in model.parameters} == {NETWORK_OF[features], "classifier"}
    assert "discriminator/output/weight" not in part(model, "parameters")
    check_gradients(engine64, model, n)


@FEATURES
@pytest.mark.parametrize(("name", "n"), [("paper32", 3), ("paper64", 2)])
def test_gradients_of_the_papers_networks(engine64, features, name, n):
    check_gradients(engine64, make(engine64, 10, name, features=features, encoder_units=128), n)


@FEATURES
def test_gradients_of_grey_images(engine64, features):
    check_gradients(engine64, make(engine64, 3, channels=1, features=features), 4)


@FEATURES
def test_training_steps(engine64, features):
    """RMSProp, weight decay, running statistics, losses: six steps, within 1e-6."""
    model = make(engine64, features=features, weight_decay=0.05)
    trainer, start = Trainer(reference_of(model), 0.05), part(model, "parameters")
    for i in range(6):
        n = 5 + i % 3
        x, labels = data_of(engine64, model, n, seed=i)
        gradients, expected = trainer.reference.gradients(x, labels)
        trainer.apply(gradients, 5e-4 * 0.9**i)
        model.train_step(x, labels, 5e-4 * 0.9**i)
        assert model.fetch_loss() == pytest.approx(expected["loss"] / n, rel=1e-6), f"step {i}"
    assert check_training(model, trainer, start) == set(start)


@FEATURES
def test_it_learns(engine32, features):
    """The loss of one small batch falls to a tenth, and every image is recognised."""
    model = make(engine32, 2, features=features)
    x, labels = data_of(engine32, model, 8, unknown=False)
    labels[:4], labels[4:] = 0, 1
    losses = []
    for _ in range(30):
        model.train_step(x, labels, 1e-3)
        losses.append(model.fetch_loss())
    assert losses[-1] < 0.1 * losses[0], losses


@FEATURES
def test_a_frozen_trunk_stays_to_the_bit(engine64, features):
    """Parameters and running statistics; the head's gradients are those of the units that running statistics give."""
    model = make(engine64, features=features, freeze=True)
    before, (x, labels) = copies(model), data_of(engine64, model, 6)
    reference = reference_of(model)
    reference.fixed = (NETWORK_OF[features],)
    expected, _ = reference.gradients(x, labels)
    got, _ = model.gradients(x, labels)
    assert set(got) == {"classifier/output/weight", "classifier/output/bias"}
    for name, gradient in got.items():
        assert_close(gradient, expected[name], 1e-8, name)
    losses = []
    for _ in range(20):
        model.train_step(x, labels, 1e-2)
        losses.append(model.fetch_loss())
    assert losses[-1] < 0.8 * losses[0]
    after = model.state_arrays()
    for name in model.trunk_arrays():
        assert np.array_equal(after[name], before[name]), name
    assert not [name for name in after if name.startswith(f"optimizer/{NETWORK_OF[features]}")]


@FEATURES
def test_a_trunk_is_taken_from_a_trained_model(engine64, features):
    """From the state of a VAE/GAN: the same features as its own networks give, and a head of its own."""
    other, model = make_model(engine64, seed=5), make(engine64, seed=1, features=features)
    head = part(model, "parameters")["classifier/output/weight"]
    model.load_trunk(copies(other))
    for name, array in model.trunk_arrays().items():
        assert np.array_equal(array, other.state_arrays()[name]), name
    assert np.array_equal(part(model, "parameters")["classifier/output/weight"], head)
    x, _ = data_of(engine64, model, 5)
    if features == "enc":
        weight, bias = (part(other, "parameters")[f"encoder/mu/{name}"] for name in ("weight", "bias"))
        assert_close(model.features(x) @ weight + bias, other.encode(x)[0], 1e-9, "mu")
    else:
        weight, bias = (part(other, "parameters")[f"discriminator/output/{name}"] for name in ("weight", "bias"))
        logits = (model.features(x) @ weight + bias)[:, 0]
        assert_close(1 / (1 + np.exp(-logits)), other.discriminate(x), 1e-9, "p")


@FEATURES
def test_inference_against_pytorch(engine64, monkeypatch, features):
    """Running statistics, and more images than one piece of a pass holds."""
    monkeypatch.setattr("models.supervised.INFERENCE_IMAGES", 4)
    model = make(engine64, features=features)
    x, _ = data_of(engine64, model, 7)
    reference = reference_of(model)
    reference.fixed = (NETWORK_OF[features],)
    with torch.no_grad():
        units, logits = reference.outputs(reference.inputs(x)[0])
    assert_close(model.features(x), units, 1e-9, "features")
    assert_close(model.predict(x), logits, 1e-9, "predict")


@FEATURES
@pytest.mark.parametrize("freeze", [False, True])
def test_a_model_is_its_state(engine32, features, freeze):
    """Moved into another model, both continue the same, to the bit; and what a model needs is allocated by its first step."""
    one, two = (make(engine32, seed=seed, features=features, freeze=freeze) for seed in (0, 9))
    one.train_step(*data_of(engine32, one, 5), 1e-3)
    placed = one.pool.bytes
    two.load_state(copies(one))
    for model in (one, two):
        model.train_step(*data_of(engine32, model, 5, seed=7), 1e-3)
    for name, array in one.state_arrays().items():
        assert np.array_equal(array, two.state_arrays()[name]), name
    assert one.pool.bytes == placed


def test_what_does_not_fit(engine64):
    spec = network("small32")
    for options, word in (
        ({"features": "dec"}, "features"),
        ({"classes": 1}, "classes"),
        ({"spec": network("small32", attributes=2)}, "spec"),
    ):
        arguments = {"spec": spec, "classes": 3, **options}
        with pytest.raises(ValueError, match=f"{word}: got .*expected"):
            Classifier(engine64, arguments.pop("spec"), arguments.pop("classes"), **arguments)
    model, other = make(engine64), make_model(engine64, encoder_units=70)
    before, (x, labels) = copies(model), data_of(engine64, model, 4)
    for bad in (labels[:3], labels[:, None], np.full(4, 4, np.int32)):
        with pytest.raises(ValueError, match="labels: got .*expected"):
            model.train_step(x, bad, 1e-3)
    with pytest.raises(ValueError, match="encoder/fc/weight has shape"):
        model.load_trunk(copies(other))
    with pytest.raises(ValueError, match="parameters/encoder.*missing"):
        model.load_trunk({})
    for name, array in model.trunk_arrays().items():
        if "running" not in name:
            assert np.array_equal(array, before[name]), name
