"""train --init: a new run begins with another's weights; what must fit; and that it is needed no more on resume."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, assert_same_run, call, one_line, write_tiny

import kernels
from models.system import SYSTEMS
from vaegan_kernels import train
from vaegan_kernels.runs import checkpoint, other_run
from vaegan_kernels.settings.checks import configuration
from vaegan_kernels.shell.job import Job

FLAGS = ("--steps", 3, "--save-every", 2, "--draw-every", 100, "--no-animation", "--no-curves", "--threads", 1, "--quiet", *TINY)
RUNS = {
    "vaegan": ("--average", 0.9), "raw": ("--average", 0), "vae": ("--model", "vae", "--average", 0.9),
    "gan": ("--model", "gan", "--average", 0), "given": ("--conditional", "--average", 0), "grey": ("--image-channels", 1),
    "wide": ("--encoder-units", 64), "large": ("--image-size", 64),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs of several kinds and the packed data that they and new ones are trained on."""
    home = tmp_path_factory.mktemp("home")
    for name, (size, channels) in {"colour": (32, 3), "grey": (32, 1), "large": (64, 3), "other": (32, 3)}.items():
        write_tiny(home / f"{name}.h5", size=size, channels=channels, seed=len(name))
    for name, flags in RUNS.items():
        data = home / f"{name if name in ('grey', 'large') else 'colour'}.h5"
        tiny = TINY[2:] if name == "large" else TINY
        assert call(train.main, "--data", data, "--out", home / name, *flags, *FLAGS[: -len(TINY)], *tiny, "--steps", 2) == 0
    return home


def weights_of(run):
    """The averages of a checkpoint where there are some, else its weights."""
    arrays = arrays_of(run / "checkpoint.h5")
    return {name: arrays.get(f"average/{name}", a) for name, a in arrays.items() if name.startswith(("parameters/", "statistics/"))}


def started(home, old, **settings):
    """A new run's state before its first step."""
    config = configuration({"init": str(home / old), "network": "small32", **settings})
    other_run.check_init(config)
    network = train.build(config, kernels.engine("cpu", implementation="numpy"), None, Job())
    return network, {name: np.array(array) for name, array in network.state_arrays().items()}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vaegan", "vaegan"),
        ("vaegan", "vae"),
        ("vaegan", "gan"),
        ("vaegan", "vae-dis"),
        ("vae", "vae"),
        ("vae", "vae-dis"),
        ("gan", "gan"),
        ("raw", "vaegan"),
    ],
)
@pytest.mark.parametrize(
    "settings", [{"average": 0.0, "optimizer": "rmsprop"}, {"average": 0.5, "optimizer": "adam"}], ids=["plain", "average"]
)
def test_it_begins_with_the_weights_and_with_nothing_else(old, new, settings, home):
    more = {"gan": str(home / "gan")} if new == "vae-dis" else {}
    network, state = started(home, old, model=new, seed=5, **settings, **more)
    weights, gan = weights_of(home / old), weights_of(home / "gan")
    for name, array in state.items():
        kind, _, plain = name.partition("/")
        if kind in ("optimizer", "gate"):
            assert not array.any(), name
            continue
        plain = plain if kind == "average" else name
        source = gan if new == "vae-dis" and "/discriminator/" in name else weights
        assert np.array_equal(array, source[plain]), name
    assert any(name.startswith("average/") for name in state) == (settings["average"] > 0)
    for p in network.parameters:
        assert np.array_equal(p.compute, p.data), p.name


def test_a_run_of_it(home, tmp_path, capfd, monkeypatch):
    """From the command line: the line that is printed, the whole path that is kept, other bits than without; and again from its folder."""
    monkeypatch.chdir(home)
    loud = [flag for flag in FLAGS if flag != "--quiet"]
    assert call(train.main, "--data", "other.h5", "--out", tmp_path / "new", "--init", "vaegan", *loud) == 0
    assert f"weights from {home / 'vaegan'} (step 2, data discs)\n" in capfd.readouterr().out
    assert json.loads((tmp_path / "new" / "config.json").read_text())["init"] == str(home / "vaegan")
    assert call(train.main, "--data", "other.h5", "--out", tmp_path / "plain", *FLAGS) == 0
    one, other = (arrays_of(tmp_path / name / "checkpoint.h5")["parameters/encoder/fc/weight"] for name in ("new", "plain"))
    assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(other)
    assert checkpoint.read_header(tmp_path / "new" / "checkpoint.h5").step == 3
    assert call(train.main, "--config", tmp_path / "new" / "config.json", "--out", tmp_path / "again", "--quiet") == 0
    assert_same_run(tmp_path / "new", tmp_path / "again")


def test_resuming_needs_the_other_run_no_more(home, tmp_path, capfd):
    old = shutil.copytree(home / "vaegan", tmp_path / "old")
    flags = ("--data", home / "other.h5", "--init", old, *FLAGS)
    assert call(train.main, "--out", tmp_path / "whole", *flags) == 0
    assert call(train.main, "--out", tmp_path / "parts", *flags, "--stop-after", 1) == 0
    shutil.rmtree(old)
    assert call(train.main, "--resume", tmp_path / "parts", "--quiet") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    capfd.readouterr()
    assert call(train.main, "--resume", home / "raw", "--init", home / "vaegan") == 2
    assert "--init: got " in (error := one_line(capfd.readouterr().err)) and "leave it out, or start a new run" in error


def test_the_gan_that_a_vae_dis_trains_first_begins_at_random(home, tmp_path):
    flags = ("--data", home / "colour.h5", *FLAGS, "--model", "vae-dis", "--gan-steps", 2)
    assert call(train.main, "--out", tmp_path / "a", *flags, "--init", home / "vae") == 0
    assert call(train.main, "--out", tmp_path / "b", *flags) == 0
    assert_same_run(tmp_path / "a" / "gan", tmp_path / "b" / "gan")


BAD = {
    "none": (("--init", "nothing"), "--init: no such checkpoint: "),
    "folder": (("--init", "."), "--init: no checkpoint.h5 in the folder"),
    "foreign": (("--init", "colour.h5"), "not a checkpoint of this program"),
    "size": (("--init", "large"), "has images of 64 pixels a side, this run of 32; add --image-size 64"),
    "network": (("--init", "raw", "--network", "paper32"), "was trained with --network small32, this run has paper32; make them the same"),
    "channels": (("--init", "grey"), "was trained with --image-channels 1, this run has 3; make them the same"),
    "units": (("--init", "wide"), "has --encoder-units 64, this run 256; make them the same"),
    "model": (("--init", "vae"), "is of --model vae and has no discriminator to start --model vaegan with"),
    "model of a vae": (("--init", "gan", "--model", "vae"), "is of --model gan and has no encoder to start --model vae with"),
    "conditional": (("--init", "raw", "--conditional"), "are given no attributes, those of this run 2 attributes; the number must be"),
    "attributes": (("--init", "given", "--conditional", "--attributes", "Big"), "are given 2 attributes, those of this run 1"),
    "unconditional": (("--init", "given"), "are given 2 attributes, those of this run no attributes"),
    "damaged": (("--init", "broken"), "the array average/parameters/decoder/fc/gamma is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line(case, home, tmp_path, monkeypatch, capfd):
    words, expected = BAD[case]
    monkeypatch.chdir(home)
    if case == "damaged":
        shutil.copytree("vaegan", "broken")
        with h5py.File("broken/checkpoint.h5", "r+") as file:
            del file["average/parameters/decoder/fc/gamma"]
    assert call(train.main, "--data", "colour.h5", "--out", tmp_path / "run", *FLAGS, *words) == 2
    assert expected in one_line(capfd.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_names_of_attributes_may_differ(home):
    """Only their number is the networks' shape."""
    _, state = started(home, "given", conditional=True, attributes="Hat,Smile")
    assert state["parameters/decoder/fc/weight"].shape[0] == 128 + 2
    assert set(SYSTEMS) == {"vaegan", "vae", "vae-dis", "gan"}
