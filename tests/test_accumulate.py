"""``--accumulate``: several batches in a step, whose gradients and losses are added up before one gate and one update."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from app_case import call, write_tiny
from gradcheck import assert_close

import kernels
from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN
from vaegan_kernels import train
from vaegan_kernels.data import load_dataset
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.config import Config

BATCHES, IMAGES = 3, 4
TINY = dataclasses.replace(
    network("small32"), image_size=8, latent=7, encoder=(4, 6), decoder=(8, 6, 4), encoder_units=11, discriminator=(4, 6, 8),
    discriminator_units=9, metric=3,
)  # fmt: skip


def parts(rng, spec):
    for _ in range(BATCHES):
        x = rng.uniform(-1, 1, (IMAGES, spec.image_size, spec.image_size, 3))
        yield (x, *rng.standard_normal((2, IMAGES, spec.latent)))


@pytest.mark.parametrize("system", ["vaegan", "vae", "vae-dis", "gan"])
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_the_sum_of_the_gradients(engine, rng, system, optimizer):
    """A step of three batches updates by the sum of their gradients, as a model does that is given the sum."""
    if engine.name == "cuda":
        pytest.skip("interpreted it takes two minutes; what it launches other tests check, and test_stream.py trains so")
    spec, goal = TINY, Objective(bn_groups="authors", gate=False)
    made = list(parts(rng, spec))
    one = VAEGAN(engine, spec, system=system, optimizer=optimizer, fuse_update=False)
    many = VAEGAN(engine, spec, system=system, optimizer=optimizer, batches=BATCHES)
    assert not many.fused
    summed, losses = {}, 0
    for x, eps, z_p in made:
        found, own = one.gradients(x, eps, z_p, goal)
        summed = {name: summed.get(name, 0) + gradient for name, gradient in found.items()}
        losses = losses + np.array(list(own.values()))
    for number, (x, eps, z_p) in enumerate(made):
        before = {p.name: engine.to_numpy(p.data).copy() for p in many.trained}
        many.train_step(engine.asarray(x), *(engine.asarray(a, engine.wide) for a in (eps, z_p)), goal, 1e-3, batch=number)
        moved = any(not np.array_equal(engine.to_numpy(p.data), before[p.name]) for p in many.trained)
        assert moved == (number == BATCHES - 1), "it updates with the last batch, and not before"
    limit = 1e-9 if engine.dtype == np.float64 else 1e-4
    for p in many.trained:
        assert_close(engine.to_numpy(p.grad), summed[p.name], limit, p.name)
        engine.put(next(q for q in one.trained if q.name == p.name).grad, engine.to_numpy(p.grad))
    one.optimizer.update(1e-3)
    for p, q in zip(one.trained, many.trained, strict=True):
        assert_close(engine.to_numpy(q.data), engine.to_numpy(p.data), limit, p.name)
    means = many.fetch_losses()
    if "prior" in means:
        assert means["prior"] == pytest.approx(losses[0] / (BATCHES * IMAGES), rel=limit)


def test_the_gate_sees_all_batches(engine64, rng):
    """It decides by the means over the step, once, and a network that it holds back stays as it was."""
    spec = TINY
    for equilibrium, held in ((30.0, "discriminator"), (0.02, "decoder")):  # far above and below any loss here
        model = VAEGAN(engine64, spec, batches=BATCHES)
        before = {p.name: p.data.copy() for p in model.trained}
        goal = Objective(equilibrium=equilibrium, margin=0.01)
        for number, (x, eps, z_p) in enumerate(parts(rng, spec)):
            model.train_step(x, eps, z_p, goal, 1e-3, batch=number)
        same = {p.name.split("/")[0] for p in model.trained if np.array_equal(p.data, before[p.name])}
        assert same == {held}
        assert model.fetch_losses()[f"{held[:3]}_updated"] == 0
    assert np.array_equal(model.gate_counts, [0, 0, 0]), "fetched"


@pytest.fixture
def discs(tmp_path):
    return write_tiny(tmp_path / "discs.h5")


def drawn(discs, tmp_path, batch, accumulate):
    """What the model is given in the first steps of a run: images, noise, attributes."""
    engine = kernels.engine("cpu", "float64", implementation="numpy")
    config = Config(
        data=str(discs), batch_size=batch, accumulate=accumulate, steps=5, augment=True, dis_noise=0.1, conditional=True, attributes="Big"
    )  # fmt: skip
    dataset = load_dataset(str(discs), image_size=32, channels=3)
    config = config.with_data(len(dataset.split("train")))
    trainer = Trainer(config, engine, config.system(engine), dataset, RunFolder(tmp_path / "run"))
    given = []

    def note(x, eps, z_p, objective, lr, attributes, *, noise, batch):
        given.append([a.copy() for a in (x, eps, z_p, attributes)] + [noise[0].reshape(3, *x.shape).swapaxes(0, 1).copy()])

    trainer.model.train_step = note
    for _ in range(5):
        trainer.train_step()
    return [np.concatenate(arrays) for arrays in zip(*given, strict=True)]


def test_the_images_and_noise_of_one_large_batch(discs, tmp_path):
    """Order, mirrors, augmentation, attributes, ε, z_p and Dis's noise: those of a batch of as many images, over an epoch's end."""
    for large, small in zip(drawn(discs, tmp_path, 8, 1), drawn(discs, tmp_path, 2, 4), strict=True):
        assert np.array_equal(large, small)


FLAGS = ("--network", "small32", "--batch-size", 3, "--accumulate", 4, "--log-every", 1, "--no-curves", "--no-animation", "--device", "cpu")


def test_a_run(discs, tmp_path, capsys):
    assert call(train.main, "--data", discs, "--out", tmp_path / "whole", *FLAGS, "--steps", 5, "--average", 0.9) == 0
    assert call(train.main, "--data", discs, "--out", tmp_path / "parts", *FLAGS, "--steps", 5, "--average", 0.9, "--stop-after", 2) == 0
    assert call(train.main, "--resume", tmp_path / "parts", "--quiet") == 0
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    whole, resumed = ([{k: v for k, v in json.loads(line).items() if "second" not in k} for line in text] for text in lines)
    assert whole == resumed and len(whole) == 5
    assert [line["epoch"] for line in whole] == [0, 0, 1, 1, 2], "28 images are two steps of twelve"
    capsys.readouterr()
    assert call(train.main, "--data", discs, "--out", tmp_path / "dry", *FLAGS, "--steps", 5, "--dry-run") == 0
    assert "5 steps of 12 images" in capsys.readouterr().out


def test_more_than_there_are(discs, tmp_path, capsys):
    assert call(train.main, "--data", discs, "--out", tmp_path / "run", *FLAGS, "--accumulate", 10, "--steps", 5) == 2
    line = "error: --batch-size: got 3 x --accumulate 10, but there are only 28 images to train on (packed file); use a smaller batch"
    assert capsys.readouterr().err.strip() == line
    assert call(train.main, "--data", discs, "--out", tmp_path / "run", "--accumulate", 0) == 2
    assert "--accumulate: got 0, expected" in capsys.readouterr().err
