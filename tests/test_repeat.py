"""A run's folder alone is enough to repeat the run: ``--config RUN/config.json``, from anywhere, to the same bits on a CPU."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from app_case import TINY, assert_same_run, call, write_tiny
from PIL import Image

from models.presets import PRESETS
from vaegan_kernels import train

KINDS = {
    "packed, relative": ("--data", "tiny.h5", "--steps", 4),
    "epochs": ("--data", "tiny.h5", "--epochs", 1),
    "photos": ("--data", "photos", "--steps", 3, "--augment", "--limit", 24),
    "drawings": ("--limit", 60, "--data-seed", 3, "--steps", 3),
    "conditional": ("--data", "tiny.h5", "--conditional", "--attributes", "Red", "--steps", 3),
    "a GAN first": ("--data", "tiny.h5", "--model", "vae-dis", "--gan-steps", 2, "--steps", 3),
    "one thread": ("--data", "tiny.h5", "--steps", 3, "--threads", 1, "--preset", "paper", "--network", "small32"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_repeated_from_another_folder(kind, tmp_path, monkeypatch, capsys):
    (tmp_path / "here" / "photos").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tiny(tmp_path / "here" / "tiny.h5")
    random = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(f"photos/{i}.png")
    assert call(train.main, *KINDS[kind], *TINY[2:], "--out", "run") == 0, capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "there")
    assert call(train.main, "--config", "../here/run/config.json", "--out", "again") == 0, capsys.readouterr().err
    assert_same_run(tmp_path / "here" / "run", tmp_path / "there" / "again")
    assert "note: the images have changed" not in capsys.readouterr().out
    assert call(train.main, "--config", "../here/run", "--out", "folder") == 0, "the folder will do"
    one, two = (json.loads((tmp_path / place / "config.json").read_text()) for place in ("here/run", "there/again"))
    assert {**one, "threads": None} == {**two, "threads": None}


def test_the_threads_of_the_run_are_taken_and_a_flag_overrides_them(tmp_path, monkeypatch):
    """Of the NumPy engine, whose bits depend on them."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.h5")
    assert call(train.main, "--data", "tiny.h5", "--steps", 2, *TINY, "--engine", "numpy", "--threads", 2, "--out", "run") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "threads": None}))
    device = json.loads((tmp_path / "run" / "device.json").read_text())
    (tmp_path / "run" / "device.json").write_text(json.dumps({**device, "threads": 1}))
    for flags, wanted in (((), 1), (("--threads", 2), 2)):
        assert call(train.main, "--config", "run/config.json", *flags, "--out", f"threads-{wanted}") == 0
        assert json.loads((tmp_path / f"threads-{wanted}" / "device.json").read_text())["threads"] == wanted
    (tmp_path / "run" / "device.json").write_text("{")
    assert call(train.main, "--config", "run/config.json", "--out", "unreadable") == 0, "it is a help, no condition"


def test_a_setting_that_came_after_the_run_had_no_part_in_it(tmp_path, monkeypatch):
    """quick's values for it are for new runs: a file with no run beside it takes them."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.h5")
    assert call(train.main, "--data", "tiny.h5", "--model", "vae-dis", "--steps", 2, *TINY, "--out", "run") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    names = ("metric_weight", "metric_first")
    new = {name: config.pop(name) for name in names}
    assert new == {name: PRESETS["quick"][name] for name in names} != {"metric_weight": 1.0, "metric_first": 0.0}
    for folder, expected in (("run", {"metric_weight": 1.0, "metric_first": 0.0}), (".", new)):
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
        assert call(train.main, "--config", f"{folder}/config.json", "--out", f"again-{folder}") == 0
        again = json.loads((tmp_path / f"again-{folder}" / "config.json").read_text())
        assert {name: again[name] for name in names} == expected


def test_other_images_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.h5")
    assert call(train.main, "--data", "tiny.h5", "--steps", 2, *TINY, "--out", "run") == 0
    shutil.move("tiny.h5", "old.h5")
    write_tiny(tmp_path / "tiny.h5", seed=1)
    capsys.readouterr()
    assert call(train.main, "--config", "run/config.json", "--out", "again") == 0
    assert "note: the images have changed since the run in run; this one will not repeat it" in capsys.readouterr().out
    assert call(train.main, "--config", "run/config.json", "--data", "old.h5", "--out", "elsewhere") == 0
    assert "note:" not in capsys.readouterr().out, "other data was asked for"
