"""A run's averaged and raw weights: which the commands use, that they are resumed to the same bits, and checkpoints from before them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, assert_same_run, call, one_line, write_tiny
from PIL import Image
from safetensors.numpy import load_file

from vaegan_kernels import attribute_vectors, edit, evaluate, export, interpolate, load_model, reconstruct, sample, train
from vaegan_kernels.data import read_packed
from vaegan_kernels.measures import attribute_vectors as vectors
from vaegan_kernels.portable import import_model, layout
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.shell.errors import UserError

FLAGS = ("--steps", 4, "--save-every", 3, "--draw-every", 100, "--no-animation", "--no-curves", "--threads", 1, "--quiet", *TINY)
ADAM = ("--average", 0.9, "--optimizer", "adam")
# settings that checkpoints from before do not have
NEW = ("average", "dis_noise", "enc_rate", "dis_rate", "init", "metric_weight", "metric_first")
ONE = ("--threads", 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run that keeps averages, one that does not, a photo and the data."""
    home = tmp_path_factory.mktemp("home")
    packed = write_tiny(home / "tiny.h5")
    for name, flags in (("run", ("--average", 0.9)), ("without", ("--average", 0))):
        assert call(train.main, "--data", packed, "--out", home / name, *flags, *FLAGS) == 0
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(home / "photo.png")
    return home


def weights_in(run, kind):
    """{"parameters/…", "statistics/…": array} of a checkpoint: its averages, or its raw weights."""
    prefix = "average/" if kind == "average" else ""
    found = {name.removeprefix(prefix): a for name, a in arrays_of(run / "checkpoint.h5").items() if name.startswith(prefix)}
    return {name: array for name, array in found.items() if name.startswith(("parameters/", "statistics/"))}


def assert_same(got, expected):
    assert got.keys() == expected.keys() and got
    for name, array in expected.items():
        assert np.array_equal(got[name], array), name


def test_load_model_takes_the_average_where_there_is_one(home):
    average, raw = (weights_in(home / "run", kind) for kind in ("average", "raw"))
    assert all(not np.array_equal(average[name], raw[name]) for name in raw)
    for asked, kind in ((None, "average"), ("average", "average"), ("raw", "raw")):
        model = load_model(home / "run", threads=1, weights=asked)
        assert model.weights == kind
        assert_same(model.arrays(), {"average": average, "raw": raw}[kind])
    without = load_model(home / "without", threads=1)
    assert without.weights == "raw"
    assert_same(without.arrays(), weights_in(home / "without", "raw"))
    assert_same(load_model(home / "without", threads=1, weights="raw").arrays(), without.arrays())


COMMANDS = {
    "sample": (sample, (), ("--count", 4)),
    "reconstruct": (reconstruct, (), ("--count", 4)),
    "interpolate": (interpolate, (), ("--from", 1, "--to", 2, "--frames", 4)),
    "evaluate": (evaluate, (), ("--count", 4)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_use_the_average_by_default(name, home, tmp_path):
    module, before, after = COMMANDS[name]
    written = {}
    for kind, words in (("default", ()), ("average", ("--weights", "average")), ("raw", ("--weights", "raw"))):
        out = tmp_path / kind
        flag = ("--write-images", out) if module is evaluate else ("--out", out.with_suffix(".png"))
        assert call(module.main, *before, home / "run", *after, *words, *flag, *ONE) == 0
        written[kind] = (out / "samples" / "00000.png" if module is evaluate else out.with_suffix(".png")).read_bytes()
    assert written["default"] == written["average"] != written["raw"]


def test_a_run_without_an_average_says_so(home, tmp_path, capfd):
    for module, words in ((sample, ()), (reconstruct, ()), (interpolate, ("--from", 1, "--to", 2)), (attribute_vectors, ())):
        assert call(module.main, home / "without", *words, "--weights", "average") == 2
        assert "has no averaged weights (it was trained without --average)" in one_line(capfd.readouterr().err)
    assert call(sample.main, home / "run", "--weights", "avrage") == 2
    assert "--weights: got 'avrage', expected one of average, raw; did you mean average?" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("kind", ["average", "raw"])
def test_vectors_are_used_with_the_weights_that_they_were_made_with(kind, home, tmp_path, capfd, monkeypatch):
    run, other = tmp_path / "run", {"average": "raw", "raw": "average"}[kind]
    run.mkdir()
    (run / "checkpoint.h5").write_bytes((home / "run" / "checkpoint.h5").read_bytes())
    assert call(attribute_vectors.main, run, "--weights", kind, "--quiet", *ONE) == 0
    assert vectors.weights_of(run) == kind
    made, model = vectors.load(run), load_model(run, weights=kind, threads=1)
    expected, names = vectors.compute(model, read_packed(home / "tiny.h5"))
    assert np.array_equal(np.stack([made[name] for name in names]), expected)

    used = []
    monkeypatch.setattr("vaegan_kernels.load_model", lambda path, **more: used.append(more["weights"]) or load_model(path, **more))
    for module in (sample, edit):
        words = (run, "--count", 4) if module is sample else (home / "photo.png", "--checkpoint", run)
        for extra in ((), ("--weights", kind)):
            assert call(module.main, *words, "--add", "Big", *extra, *ONE, "--out", tmp_path / "x.png", "--overwrite") == 0
        capfd.readouterr()
        assert call(module.main, *words, "--add", "Big", "--weights", other, "--out", tmp_path / "x.png", "--overwrite") == 2
        error = one_line(capfd.readouterr().err)
        assert f"made with --weights {kind}" in error and f"attribute_vectors {run}" in error and error.endswith(f" --weights {other}")
    assert used == [kind] * 4


def test_vectors_from_before_averages_are_of_the_raw_weights(home, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.h5").write_bytes((home / "without" / "checkpoint.h5").read_bytes())
    assert call(attribute_vectors.main, run, "--quiet", *ONE) == 0
    with h5py.File(run / "checkpoint.h5", "r+") as file:
        assert file.attrs.pop(vectors.WEIGHTS) == "raw"
    assert vectors.weights_of(run) == "raw"
    assert call(sample.main, run, "--add", "Big", "--count", 4, *ONE, "--out", tmp_path / "x.png") == 0


@pytest.mark.parametrize("kind", ["average", "raw"])
def test_export_writes_the_weights_that_are_asked_for(kind, home, tmp_path):
    words = () if kind == "average" else ("--weights", "raw")
    assert call(export.main, home / "run", "--format", "safetensors", "--out", tmp_path / "out", *words) == 0
    model = load_model(home / "run", threads=1, weights=kind)
    expected = layout.state_dict(weights_in(home / "run", kind), model.spec, ("encoder", "decoder", "discriminator"))
    assert_same(load_file(tmp_path / "out" / "vaegan.safetensors"), expected)
    assert json.loads((tmp_path / "out" / "vaegan.json").read_text())["weights"] == kind
    assert call(import_model.main, tmp_path / "out" / "vaegan.safetensors", "--out", tmp_path / "back") == 0
    for part in ("average", "raw"):
        assert_same(weights_in(tmp_path / "back", part), weights_in(home / "run", kind))
    assert load_model(tmp_path / "back", threads=1).header.config.average == 0.9


@pytest.mark.parametrize("engine", ["numpy", "native"])
@pytest.mark.parametrize(
    "options", [("--average", 0.9, "--optimizer", "rmsprop"), ADAM, (*ADAM, "--model", "vae")], ids=["rmsprop", "adam", "vae"]
)
def test_a_run_with_averages_resumes_to_the_same_bits(engine, options, home, tmp_path):
    flags = ("--data", home / "tiny.h5", *map(str, options), "--dis-noise", 0.1, "--dis-rate", 0.5, *FLAGS, "--engine", engine)
    assert call(train.main, "--out", tmp_path / "whole", *flags) == 0
    assert call(train.main, "--out", tmp_path / "parts", *flags, "--stop-after", 2) == 0
    assert call(train.main, "--resume", tmp_path / "parts", "--quiet") == 0
    assert any(name.startswith("average/") for name in arrays_of(tmp_path / "whole" / "checkpoint.h5"))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_semi_supervised_and_others_read_the_average(home):
    names = ("parameters/encoder/conv1/weight", "statistics/encoder/fc/running_var", "parameters/decoder/image/bias")
    for run, kind in (("run", "average"), ("without", "raw")):
        expected = {name: weights_in(home / run, kind)[name] for name in names}
        assert_same(checkpoint.read_weights(home / run / "checkpoint.h5", expected), expected)


def change(value):
    def do(file):
        del file["average/statistics/decoder/fc/running_mean"]
        if value is not None:
            file["average/statistics/decoder/fc/running_mean"] = value

    return do


DAMAGE = {
    "missing": (change(None), "the array average/statistics/decoder/fc/running_mean is missing"),
    "shape": (change(np.zeros(3, "f")), "average/statistics/decoder/fc/running_mean has shape (3,), expected"),
    "type": (change(np.zeros(1024, "i4")), "average/statistics/decoder/fc/running_mean has"),
    "nan": (
        lambda file: file["average/parameters/encoder/mu/bias"].__setitem__(0, np.nan),
        "encoder/mu/bias has values that are not finite",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_average_is_one_line(case, home, tmp_path, capfd):
    damage, expected = DAMAGE[case]
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.h5").write_bytes((home / "run" / "checkpoint.h5").read_bytes())
    with h5py.File(run / "checkpoint.h5", "r+") as file:
        damage(file)
    before = (run / "checkpoint.h5").read_bytes()
    for module, *words in ((sample, run, "--out", tmp_path / "x.png"), (train, "--resume", run)):
        assert call(module.main, *words) == 2
        assert expected in one_line(capfd.readouterr().err)
    assert (run / "checkpoint.h5").read_bytes() == before


@pytest.fixture
def old(home, tmp_path):
    """A stopped run as it was written before there were averages: no groups and no settings of them."""
    run = tmp_path / "old"
    assert call(train.main, "--data", home / "tiny.h5", "--out", run, "--average", 0, *FLAGS, "--stop-after", 2) == 0
    with h5py.File(run / "checkpoint.h5", "r+") as file:
        assert "average" not in file
        config = json.loads(file.attrs["config"])
        for name in NEW:
            del config[name]
        file.attrs["config"] = json.dumps(config)
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_checkpoints_from_before_averages_load_and_resume(old, home, tmp_path, capfd):
    header = checkpoint.read_header(old / "checkpoint.h5")
    assert (header.config.average, header.config.dis_noise, header.config.dis_rate) == (0, 0, 1)
    model = load_model(old, threads=1)
    assert model.weights == "raw"
    assert_same(model.arrays(), weights_in(old, "raw"))
    with pytest.raises(UserError, match="has no averaged weights"):
        load_model(old, weights="average")
    assert call(sample.main, old, "--count", 4, "--out", tmp_path / "x.png", *ONE) == 0
    assert call(train.main, "--resume", old, "--quiet") == 0
    assert_same_run(old, home / "without")
    capfd.readouterr()
    assert call(train.main, "--resume", old, "--average", 0.9) == 2
    assert "--average: got 0.9, but the run in" in one_line(capfd.readouterr().err)
