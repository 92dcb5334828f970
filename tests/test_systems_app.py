"""`train --model X`: the four systems from the command line, their checkpoints, pictures and errors."""

from __future__ import annotations

import json
import os
import signal

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, assert_same_run, call, one_line, tree, write_tiny

from models.system import SYSTEMS
from vaegan_kernels import interpolate, load_model, reconstruct, sample
from vaegan_kernels.runs import checkpoint, trainer
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import fresh_folder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.resolve import resolve
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.progress import losses_text
from vaegan_kernels.train import main

STEPS = 4
FLAGS = ("--steps", STEPS, "--save-every", 3, "--draw-every", 100, "--no-animation", "--threads", 1, "--quiet", *TINY)
LOSSES = {
    "vaegan": {"prior", "like", "gan_real", "gan_generated", "generator", "dec_update_rate", "dis_update_rate"},
    "vae": {"prior", "like"},
    "vae-dis": {"prior", "like"},
    "gan": {"gan_real", "gan_generated", "generator", "dec_update_rate", "dis_update_rate"},
}
OTHERS = {"step", "epoch", "learning_rate", "images_per_second", "seconds"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")


@pytest.fixture(scope="module")
def runs(packed, tmp_path_factory):
    """Of each system an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs")
    for system in SYSTEMS:
        assert call(main, "--data", packed, "--model", system, "--out", folder / system, *FLAGS) == 0
    return folder


def interrupt_at(monkeypatch, step, system):
    """Ctrl-C in step ``step`` of the run of ``system``."""
    own = trainer.Trainer.train_step

    def train_step(self):
        own(self)
        if self.step == step and self.config.model == system:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer.Trainer, "train_step", train_step)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_a_run_writes(system, runs, packed):
    folder, networks = runs / system, SYSTEMS[system].networks
    lines = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(set(line) == LOSSES[system] | OTHERS for line in lines)
    assert ("like" in losses_text(lines[0]), "GAN" in losses_text(lines[0])) == ("encoder" in networks, SYSTEMS[system].gate)
    assert (folder / "curves.png").stat().st_size > 5000 and (folder / "samples" / "step_000004.png").stat().st_size > 5000
    assert (folder / "reconstructions").exists() == ("encoder" in networks)
    summary = json.loads((folder / "summary.json").read_text())
    assert ("reconstruction_mse" in summary) == ("encoder" in networks) and summary["sample_diversity"] > 0
    names = arrays_of(folder / "checkpoint.h5").keys()
    assert {name.split("/")[1] for name in names if name.startswith("parameters/")} == set(networks)
    assert {name.split("/")[1] for name in names if name.startswith("optimizer/")} == set(SYSTEMS[system].trained)
    assert checkpoint.read_header(folder / "checkpoint.h5").config.model == system
    counts = checkpoint.read_header(folder / "checkpoint.h5").config.parameter_counts()
    sizes = {network: sum(a.size for n, a in arrays_of(folder / "checkpoint.h5").items() if n.startswith(f"parameters/{network}/"))
             for network in networks}  # fmt: skip
    assert counts == sizes


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_model_that_is_loaded(system, runs, rng):
    model = load_model(runs / system)
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert (model.system, model.attribute_names) == (system, ())
    assert model.sample(5, seed=2).shape == (5, 32, 32, 3)
    if model.has_encoder:
        assert model.reconstruct(images).shape == images.shape
    else:
        for call_ in (model.encode, model.reconstruct):
            with pytest.raises(UserError, match="the system gan has no encoder"):
                call_(images)
    if model.has_discriminator:
        features = model.features(images)
        assert features.shape == (3, model.spec.metric_size) and features.std() > 0
        assert ((model.discriminate(images) > 0) & (model.discriminate(images) < 1)).all()
    else:
        for call_ in (model.discriminate, model.features):
            with pytest.raises(UserError, match="the system vae has no discriminator"):
                call_(images)
    gradients, losses = model.gradients(images, *rng.standard_normal((2, 3, 128)))
    assert {name.split("/")[0] for name in gradients} == set(SYSTEMS[system].trained)
    assert set(losses) - {"gan"} == LOSSES[system] - {"dec_update_rate", "dis_update_rate"}
    with pytest.raises(UserError, match="not conditional"):
        model.examples(2)
    with pytest.raises(ValueError, match="not conditional"):
        model.decode(np.zeros((1, 128)), np.ones((1, 2)))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_stopped_run_goes_on_to_the_same_bits(system, runs, packed, tmp_path):
    out = tmp_path / "run"
    flags = ("--data", packed, "--model", system, "--out", out, *FLAGS)
    gan = ("--gan", runs / "vae-dis" / "gan") if system == "vae-dis" else ()  # not trained again: the same Dis
    assert call(main, *flags, *gan, "--stop-after", 2) == 0
    assert call(main, "--resume", out, "--quiet") == 0
    assert_same_run(out, runs / system)


def test_the_gan_of_a_vae_dis(runs, packed, tmp_path, monkeypatch, capfd):
    """Trained first; interrupted there, --resume resumes it there; its Dis is in the vae-dis and stays as it is."""
    assert_same_run(runs / "vae-dis" / "gan", runs / "gan")
    own, gan = arrays_of(runs / "vae-dis" / "checkpoint.h5"), arrays_of(runs / "gan" / "checkpoint.h5")
    frozen = [name for name in own if "/discriminator/" in name]
    assert len(frozen) > 10
    for name in frozen:
        assert own[name].tobytes() == gan[name].tobytes(), name
    assert any((own[name] != gan[name]).any() for name in own if name.startswith("parameters/decoder/"))

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3, "gan")
        assert call(main, "--data", packed, "--model", "vae-dis", "--out", out, *FLAGS) == 130
    printed = capfd.readouterr().out
    assert f"--resume {out}\n" in printed, "the run's folder, not the GAN's"
    assert not (out / "checkpoint.h5").exists() and checkpoint.read_header(out / "gan" / "checkpoint.h5").step == 3
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, "vae-dis")
        assert call(main, "--resume", out, "--quiet") == 130
    (out / "gan" / "checkpoint.h5").unlink()  # no longer needed
    assert call(main, "--resume", out, "--quiet") == 0
    assert_same_run(out, runs / "vae-dis")


def test_gan_steps_and_gan(runs, packed, tmp_path, capfd):
    out = tmp_path / "run"
    flags = ("--data", packed, "--model", "vae-dis", "--out", out, *FLAGS)
    assert call(main, *flags, "--gan-steps", 2, "--stop-after", 1) == 0
    assert checkpoint.read_header(out / "gan" / "checkpoint.h5").step == 2
    assert call(main, "--resume", out, "--gan", runs / "gan") == 2
    assert "--gan: got" in one_line(capfd.readouterr().err)
    assert call(main, "--resume", out, "--model", "vae") == 2
    assert "--model: got vae" in one_line(capfd.readouterr().err)
    assert call(main, "--data", packed, "--model", "vae-dis", "--gan", runs / "vaegan", "--out", tmp_path / "b", *FLAGS, "--steps", 1) == 0
    name = "parameters/discriminator/conv3/weight"
    a, b = arrays_of(tmp_path / "b" / "checkpoint.h5"), arrays_of(runs / "vaegan" / "checkpoint.h5")
    assert a[name].tobytes() == b[name].tobytes()


def test_errors_before_anything_is_written(runs, packed, tmp_path, capfd):
    out = tmp_path / "run"
    vae_dis = ("--model", "vae-dis")
    for flags, message in (
        (("--model", "vea"), "did you mean vae?"),
        (("--gan", runs / "gan"), "--gan: only with --model vae-dis, the model is vaegan"),
        (("--model", "gan", "--gan-steps", 3), "--gan-steps: only with --model vae-dis"),
        ((*vae_dis, "--gan", runs / "gan", "--gan-steps", 3), "--gan and --gan-steps: both given"),
        ((*vae_dis, "--gan-steps", 0), "--gan-steps: got 0"),
        ((*vae_dis, "--gan", tmp_path / "none"), "--gan: no such checkpoint"),
        ((*vae_dis, "--gan", tmp_path), "--gan: no checkpoint.h5 in the folder"),
        ((*vae_dis, "--gan", packed), "not a checkpoint of this program"),
        ((*vae_dis, "--gan", runs / "vae"), "--model vae, expected one of gan or vaegan"),
        ((*vae_dis, "--gan", runs / "gan", "--network", "paper32"), "--network small32, this run has paper32"),
    ):
        assert call(main, "--data", packed, "--out", out, *FLAGS, *flags) == 2, flags
        assert message in one_line(capfd.readouterr().err)
        assert not out.exists()


def test_a_damaged_gan_file(runs, packed, tmp_path, capfd):
    bad = tmp_path / "bad.h5"
    bad.write_bytes((runs / "gan" / "checkpoint.h5").read_bytes())
    with h5py.File(bad, "r+") as file:
        del file["statistics/discriminator/conv2/running_var"]
    assert call(main, "--data", packed, "--model", "vae-dis", "--gan", bad, "--out", tmp_path / "run", *FLAGS) == 2
    assert "statistics/discriminator/conv2/running_var is missing" in one_line(capfd.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("system", SYSTEMS)
def test_dry_run(system, packed, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert call(main, "--data", packed, "--model", system, *(flag for flag in FLAGS if flag != "--quiet"), "--dry-run") == 0
    printed = capfd.readouterr().out
    wanted = "small32-quick-tiny.h5-001" if system == "vaegan" else f"small32-{system}-quick-tiny.h5-001"
    assert f"writes: runs{os.sep}{wanted}" in printed and tree(tmp_path) == before
    parameters = next(line for line in printed.splitlines() if line.startswith("parameters:"))
    assert [name in parameters for name in ("encoder", "decoder", "discriminator")] == [
        name in SYSTEMS[system].networks for name in ("encoder", "decoder", "discriminator")
    ]
    assert ("before it the GAN that gives the metric" in printed) == (system == "vae-dis")


def test_commands_on_a_gan(runs, tmp_path, capfd):
    out = tmp_path / "x.png"
    for command, *arguments in ((reconstruct.main,), (interpolate.main, "--from", 1, "--to", packed_image(tmp_path))):
        assert call(command, runs / "gan", "--out", out, *arguments) == 2
        assert "the system gan has no encoder" in one_line(capfd.readouterr().err) and not out.exists()
    assert call(interpolate.main, runs / "gan", "--from", 1, "--to", 2, "--frames", 3, "--out", out) == 0
    assert call(sample.main, runs / "gan", "--count", 2, "--out", tmp_path / "s.png") == 0
    assert call(sample.main, runs / "gan", "--count", 2, "--attributes", "Big=1", "--out", tmp_path / "t.png") == 2
    assert "not conditional" in one_line(capfd.readouterr().err)


def packed_image(folder):
    """A picture file."""
    from PIL import Image

    path = folder / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return path


def test_settings_of_another_system_leave_with_it():
    stored = {"model": "vae-dis", "gan_steps": 7, "steps": 9}
    assert resolve({"model": "gan"}, stored).gan_steps is None
    assert resolve({"gan": "x"}, stored).gan_steps is None
    assert resolve({"gan_steps": 3}, {"model": "vae-dis", "gan": "x"}).gan is None
    assert resolve({"conditional": False}, {"conditional": True, "attributes": "A"}).attributes is None
    assert Config(model="vae-dis", steps=9, batch_size=4).with_data(28).gan_steps == 9
    assert Config(model="vae-dis", gan="x", steps=9, batch_size=4).with_data(28).gan_steps is None


def test_names_of_run_folders(tmp_path):
    names = [fresh_folder("n", "p", "d", tmp_path, model=m, conditional=c).name for m, c in (("vaegan", 0), ("vae", 0), ("gan", 1))]
    assert names == ["n-p-d-001", "n-vae-p-d-001", "n-gan-p-d-conditional-001"]
