"""The attribute regressor: gradients, training steps and inference against PyTorch's of torch_systems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, relative_error
from torch_reference import Trainer
from torch_systems import Regressor as Reference
from vaegan_case import batch, check_training, copies, part, randomised

from models.networks import network
from models.regressor import Regressor


def make(engine, outputs=3, name="small32", *, seed=0, channels=3, encoder_units=None, attributes=0, **options):
    spec = network(name, channels=channels, encoder_units=encoder_units, attributes=attributes)
    return randomised(Regressor(engine, spec, outputs, seed=seed, **options), seed)


def reference_of(model):
    return Reference(part(model, "parameters"), part(model, "statistics"))


def data_of(engine, model, n, seed=0):
    """Images and targets, half of them +-1."""
    rng = np.random.default_rng(300 + seed)
    y = np.where(rng.random((n, model.outputs)) < 0.5, rng.choice([-1.0, 1.0], (n, model.outputs)), rng.standard_normal((n, model.outputs)))
    return batch(engine, model, n, seed)[0], np.ascontiguousarray(y, engine.wide)


def check_gradients(engine, model, n, limit=1e-8):
    x, y = data_of(engine, model, n)
    expected, expected_loss = reference_of(model).gradients(x, y)
    got, loss = model.gradients(x, y)
    assert set(got) == set(expected)
    for name in expected:
        assert_close(got[name], expected[name], limit, f"gradient of {name}")
    assert loss == pytest.approx(expected_loss["loss"], rel=limit)


@pytest.mark.parametrize(("outputs", "n"), [(1, 4), (3, 5), (40, 2)])
def test_gradients(engine64, outputs, n):
    model = make(engine64, outputs)
    assert {p.name for p in model.parameters} == set(part(model, "parameters"))
    assert part(model, "parameters")["regressor/output/weight"].shape == (256, outputs)
    check_gradients(engine64, model, n)


def test_gradients_of_grey_images_and_other_units(engine64):
    check_gradients(engine64, make(engine64, 5, channels=1, encoder_units=70), 3)


@pytest.mark.parametrize(("name", "n"), [("paper32", 3), ("paper64", 2)])
def test_gradients_of_the_papers_networks(engine64, name, n):
    check_gradients(engine64, make(engine64, 40, name, encoder_units=128), n)


def test_a_conditional_spec_changes_nothing(engine64):
    """Attributes are what it predicts, never what it is given."""
    plain, other = make(engine64), make(engine64, attributes=3)
    x, y = data_of(engine64, plain, 3)
    for (name, one), two in zip(plain.gradients(x, y)[0].items(), other.gradients(x, y)[0].values(), strict=True):
        assert np.array_equal(one, two), name


def test_gradients_in_float32(engine32):
    """The working precision against float64, the median of three models (see test_vaegan: ReLU's kink)."""
    errors = []
    for seed in range(3):
        model = make(engine32, 40, seed=seed)
        x, y = data_of(engine32, model, 6, seed)
        expected, _ = reference_of(model).gradients(x, y)
        got, _ = model.gradients(x, y)
        errors.append(max(relative_error(got[name], expected[name]) for name in expected))
    assert sorted(errors)[1] < 2e-5, errors
    assert max(errors) < 5e-2, errors


def test_training_steps(engine64):
    """RMSProp, weight decay (of the head too: it is a layer like the others), running statistics, losses: eight steps, within 1e-6."""
    model = make(engine64, 3, weight_decay=0.05)
    trainer, start, losses = Trainer(reference_of(model), 0.05), part(model, "parameters"), []
    for i in range(8):
        n = 5 + i % 3
        x, y = data_of(engine64, model, n, seed=i)
        gradients, expected = trainer.reference.gradients(x, y)
        trainer.apply(gradients, 5e-4 * 0.9**i)
        model.train_step(x, y, 5e-4 * 0.9**i)
        losses.append(model.fetch_loss())
        assert losses[-1] == pytest.approx(expected["loss"] / n, rel=1e-6), f"step {i}"
    assert check_training(model, trainer, start) == set(start)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_it_learns(engine32, optimizer):
    """Targets that depend on the images: the loss of one batch falls to a tenth."""
    model = make(engine32, 2, optimizer=optimizer)
    x, _ = data_of(engine32, model, 8)
    y = np.ascontiguousarray(np.stack([x.mean((1, 2, 3)) * 4, np.sign(x[:, :16].mean((1, 2, 3)))], 1), engine32.wide)
    losses = []
    for _ in range(25):
        model.train_step(x, y, 1e-3)
        losses.append(model.fetch_loss())
    assert losses[-1] < 0.1 * losses[0], losses


def test_inference_against_pytorch(engine64, monkeypatch):
    """Running statistics, and more images than one piece of a pass holds."""
    monkeypatch.setattr("models.supervised.INFERENCE_IMAGES", 4)
    model, n = make(engine64, 3), 7
    x, _ = data_of(engine64, model, n)
    reference = reference_of(model)
    reference.fixed = ("regressor",)
    with torch.no_grad():
        features, predicted = reference.outputs(reference.inputs(x)[0])
    assert_close(model.features(x), features, 1e-9, "features")
    assert_close(model.predict(x), predicted, 1e-9, "predict")


def test_gradients_leave_the_state_alone(engine64):
    """Parameters, running statistics, optimiser state to the bit, and the loss of the last step; the same answer twice."""
    model = make(engine64)
    model.train_step(*data_of(engine64, model, 4, seed=1), 1e-3)
    before, loss = copies(model), model.fetch_loss()
    first, _ = model.gradients(*data_of(engine64, model, 3))
    model.gradients(*data_of(engine64, model, 6, seed=2))
    model.predict(data_of(engine64, model, 5, seed=2)[0])
    again, _ = model.gradients(*data_of(engine64, model, 3))
    for name in first:
        assert np.array_equal(first[name], again[name]), name
    for name, array in model.state_arrays().items():
        assert np.array_equal(array, before[name]), name
    assert model.fetch_loss() == loss


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_a_model_is_its_state(engine32, optimizer):
    """Moved into another model, both continue the same, to the bit; and what a model needs is allocated by its first step."""
    one, two = (make(engine32, seed=seed, optimizer=optimizer) for seed in (0, 9))
    one.train_step(*data_of(engine32, one, 5), 1e-3)
    placed = one.pool.bytes
    two.load_state(copies(one))
    for model in (one, two):
        model.train_step(*data_of(engine32, model, 5, seed=7), 1e-3)
    for name, array in one.state_arrays().items():
        assert np.array_equal(array, two.state_arrays()[name]), name
    assert one.pool.bytes == placed


def test_what_does_not_fit(engine64):
    model = make(engine64)
    before, (x, y) = copies(model), data_of(engine64, model, 4)
    for bad in (y[:, :2], y[:3], np.repeat(y, 2, axis=1), y[:, 0]):
        bad = np.ascontiguousarray(bad)
        for call in (lambda bad=bad: model.train_step(x, bad, 1e-3), lambda bad=bad: model.gradients(x, bad)):
            with pytest.raises(ValueError, match=r"targets.*\(4, 3\)"):
                call()
    name = "parameters/regressor/output/weight"
    for state in ({k: v for k, v in before.items() if k != name}, {**before, name: np.zeros((256, 4))}):
        with pytest.raises(ValueError, match=name):
            model.load_state(state)
    with pytest.raises(ValueError, match="regressor"):
        model.load_state({**before, "parameters/regressor/more/weight": np.zeros(3)})
    for key, array in model.state_arrays().items():
        assert np.array_equal(array, before[key]), key
