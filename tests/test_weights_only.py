"""Checkpoints of the weights alone: what is in them, what they are good for, and the one that comes with the program, `faces`."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from app_case import ROOT, TINY, arrays_of, call, one_line, tree, write_tiny
from PIL import Image

import kernels
from vaegan_kernels import (
    attribute_vectors,
    compare,
    edit,
    evaluate,
    export,
    interpolate,
    load_model,
    reconstruct,
    sample,
    train,
)  # fmt: skip
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES
from vaegan_kernels.experiments import semi_supervised
from vaegan_kernels.measures import attribute_vectors as vectors
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.settings.checks import configuration
from vaegan_kernels.shell.job import Job
from vaegan_kernels.shipped import FOLDER, MODELS, shipped

FLAGS = ("--steps", 3, "--draw-every", 100, "--no-animation", "--no-curves", "--threads", 1, "--quiet", *TINY)
RUNS = {"run": ("--average", 0.9), "without": ("--average", 0), "given": ("--average", 0.9, "--conditional")}
ONE = ("--threads", 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with data, a photo, runs, and their weights alone in the folders NAME-weights (and the raw ones of `run`)."""
    home = tmp_path_factory.mktemp("home")
    packed = write_tiny(home / "tiny.h5")
    for name, flags in RUNS.items():
        assert call(train.main, "--data", packed, "--out", home / name, *flags, *FLAGS) == 0
        if name != "given":
            assert call(attribute_vectors.main, home / name, "--quiet", *ONE) == 0
        assert call(export.main, home / name, "--format", "checkpoint", "--out", home / f"{name}-weights") == 0
    assert call(export.main, home / "run", "--format", "checkpoint", "--out", home / "raw-weights", "--weights", "raw") == 0
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(home / "photo.png")
    return home


@pytest.mark.parametrize(("name", "kind"), [("run", "average"), ("raw", "raw"), ("without", "raw"), ("given", "average")])
def test_it_holds_the_weights_and_no_more(name, kind, home, capfd):
    run, alone = home / name.replace("raw", "run"), home / f"{name}-weights"
    arrays, whole = arrays_of(alone / "checkpoint.h5"), arrays_of(run / "checkpoint.h5")
    extra = {"run": {vectors.VECTORS}, "without": {vectors.VECTORS}, "given": {"condition/examples"}, "raw": set()}[name]
    model = load_model(run, threads=1, weights=kind)
    assert set(arrays) - extra == {n for n in whole if n.startswith(("parameters/", "statistics/"))} and extra <= set(arrays)
    for key, array in arrays.items():
        source = f"average/{key}" if kind == "average" and key not in extra else key
        assert array.dtype == np.float32 and np.array_equal(array, whole[source]), key
    assert (alone / "checkpoint.h5").stat().st_size < 0.98 * sum(array.nbytes for array in arrays.values()), "compressed"
    header = checkpoint.read_header(alone / "checkpoint.h5")
    assert header.weights == kind and header.config == checkpoint.read_header(run / "checkpoint.h5").config
    small = load_model(alone, threads=1)
    assert small.weights == kind == load_model(alone, threads=1, weights=kind).weights
    assert np.array_equal(small.sample(3, seed=2), model.sample(3, seed=2))
    other = {"average": "raw", "raw": "average"}[kind]
    assert call(sample.main, alone, "--weights", other) == 2
    expected = "has no averaged weights" if name == "without" else f"holds the {kind} weights alone; leave it out"
    assert expected in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("name", ["run", "without"])
def test_its_vectors_are_used(name, home, tmp_path, monkeypatch):
    assert {key: list(v) for key, v in vectors.load(home / name).items()} == {
        key: list(v) for key, v in vectors.load(home / f"{name}-weights").items()
    }
    pictures = []
    for path in (home / name, home / f"{name}-weights"):
        out = tmp_path / f"{path.name}.png"
        assert call(edit.main, home / "photo.png", "--checkpoint", path, "--add", "Big", "--only", "--out", out, *ONE) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]


def test_exported_again_it_is_the_same(home, tmp_path):
    assert call(export.main, home / "run-weights", "--format", "checkpoint,safetensors", "--out", tmp_path / "again") == 0
    one, two = (arrays_of(folder / "checkpoint.h5") for folder in (home / "run-weights", tmp_path / "again"))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    assert {p.name for p in (tmp_path / "again").iterdir()} == {"vaegan.json", "checkpoint.h5", "vaegan.safetensors"}


def test_it_cannot_be_resumed(home, capfd):
    for given in (home / "run-weights", home / "run-weights" / "checkpoint.h5"):
        before = tree(home)
        assert call(train.main, "--resume", given) == 2
        error = one_line(capfd.readouterr().err)
        assert "has weights alone, and no state to resume with" in error and error.endswith(f"--init {given}") and tree(home) == before


def started(**settings):
    """The weights of a new run before its first step."""
    config = configuration({"network": "small32", **settings})
    network = train.build(config, kernels.engine("cpu", implementation="numpy"), None, Job())
    return {name: np.array(array) for name, array in network.state_arrays().items() if name.startswith(("parameters", "average"))}


def test_a_run_starts_with_it(home):
    arrays = arrays_of(home / "run-weights" / "checkpoint.h5")
    for name, array in started(init=str(home / "run-weights"), average=0.9).items():
        assert np.array_equal(array, arrays[name.removeprefix("average/")]), name
    for name, array in started(model="vae-dis", average=0.0, gan=str(home / "run-weights")).items():
        assert np.array_equal(array, arrays[name]) or "discriminator" not in name, name


def change(file, name, value):
    del file[name]
    if value is not None:
        file[name] = value


DAMAGE = {
    "kind": (lambda f: f.attrs.__setitem__("weights", "most"), "the attribute weights is 'most', expected one of average, raw"),
    "missing": (lambda f: change(f, "parameters/encoder/mu/bias", None), "parameters/encoder/mu/bias is missing"),
    "shape": (lambda f: change(f, "parameters/encoder/mu/bias", np.zeros(3, "f")), "encoder/mu/bias has shape (3,), expected (128,)"),
    "nan": (lambda f: f["statistics/decoder/fc/running_var"].__setitem__(0, np.nan), "has values that are not finite"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line(case, home, tmp_path, capfd):
    path = tmp_path / "weights.h5"
    shutil.copy(home / "run-weights" / "checkpoint.h5", path)
    with h5py.File(path, "r+") as file:
        DAMAGE[case][0](file)
    assert call(sample.main, path, "--out", tmp_path / "x.png") == 2
    assert DAMAGE[case][1] in one_line(capfd.readouterr().err) and not (tmp_path / "x.png").exists()


# ---- faces, which comes with the program ----


def test_the_file():
    assert MODELS == ("faces",) and shipped("faces") == FOLDER / "faces.h5"
    assert (FOLDER / "faces.h5").stat().st_size <= 5_000_000
    assert '"shipped/*.h5"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    header = checkpoint.read_header(FOLDER / "faces.h5")
    assert header.weights == "average" and header.step > 0 and header.config.model == "vaegan" and not header.config.conditional
    assert (header.config.data, header.config.gan, header.config.init) == (None,) * 3, "no path of the machine that made it"
    assert all(array.dtype == np.float32 for array in arrays_of(FOLDER / "faces.h5").values())
    assert {"Wearing_Hat", "Eyeglasses", "Smiling"} <= set(vectors.load("faces")) <= set(ATTRIBUTE_NAMES)


USES = {
    "sample": (sample, ["faces", "--count", "4", "--out", "x.png", *ONE]),
    "sample, edited": (sample, ["faces", "--count", "4", "--add", "Wearing_Hat", "--out", "x.png", *ONE]),
    "reconstruct": (reconstruct, ["faces", "--images", "photo.png", "--out", "x.png", *ONE]),
    "reconstruct its own": (reconstruct, ["faces", "--count", "4", "--out", "x.png", *ONE]),
    "interpolate": (interpolate, ["faces", "--from", "1", "--to", "2", "--out", "x.png", *ONE]),
    "edit": (edit, ["photo.png", "--checkpoint", "faces", "--add", "Wearing_Hat", "--out", "x.png", *ONE]),
    "evaluate": (evaluate, ["faces", "--data", "tiny.h5", "--out", "x.json", *ONE]),
    "export": (export, ["faces", "--format", "safetensors", "--out", "x"]),
    "compare": (compare, ["faces", "--out", "x"]),
    "init": (train, ["--init", "faces", "--data", "tiny.h5", "--out", "x", *FLAGS]),
    "gan": (train, ["--model", "vae-dis", "--gan", "faces", "--data", "tiny.h5", "--out", "x", *FLAGS]),
}


@pytest.fixture
def away(home, tmp_path, monkeypatch):
    """The working directory: data and a photo, no run."""
    for name in ("tiny.h5", "photo.png"):
        shutil.copy(home / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("use", USES)
def test_every_command_takes_it(use, away, capfd):
    before = tree(FOLDER)
    module, words = USES[use]
    assert call(module.main, *words) == 0, capfd.readouterr().err
    assert list(away.glob("x*")) and tree(FOLDER) == before
    if module is train:
        config = json.loads((away / "x" / "config.json").read_text())
        assert config[use] == "faces"
    if use == "compare":
        assert "grids: faces at step" in capfd.readouterr().out and (away / "x" / "grids.png").exists()


def test_the_semi_supervised_experiment_takes_it():
    arguments = semi_supervised.parse(semi_supervised.make_parser(), ["--out", "x", "--pretrained", "faces"])
    assert semi_supervised.given_run(arguments, ["enc"]) == FOLDER / "faces.h5"


def test_what_would_write_to_it_is_refused(away, capfd):
    before = tree(FOLDER)
    for words in (["faces"], [FOLDER / "faces.h5"]):
        assert call(attribute_vectors.main, *words) == 2
        assert "comes with the program, with its vectors, and is not written to" in one_line(capfd.readouterr().err)
    assert call(train.main, "--resume", "faces") == 2
    assert one_line(capfd.readouterr().err).endswith("start a new run with --init faces")
    assert tree(FOLDER) == before


def test_what_is_called_faces_in_the_working_directory_wins(away, home, capfd):
    shutil.copytree(home / "without", "faces")
    assert (
        checkpoint.find("faces").resolve() == (away / "faces" / "checkpoint.h5").resolve()
        and load_model("faces", threads=1).header.step == 3
    )
    assert configuration({"init": "faces"}).init == str(away / "faces")
    assert call(compare.main, "faces", "--out", "x") == 0 and "faces at step 3" in capfd.readouterr().out
    shutil.rmtree("faces")
    (away / "faces").write_text("x")
    assert call(sample.main, "faces") == 2
    assert "faces: not an HDF5 file" in one_line(capfd.readouterr().err)
    assert call(sample.main, "fases") == 2
    assert "no such checkpoint: fases; give a run folder, a checkpoint file, or faces" in one_line(capfd.readouterr().err)
