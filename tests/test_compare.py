"""The command compare: names, the table, the pictures, runs that are short or in progress, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from app_case import TINY, call, one_line, tree, write_tiny
from PIL import Image

from vaegan_kernels import compare, train
from vaegan_kernels.compare import drawn, lines_of, read_runs, table


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a VAE/GAN that differ in gamma, and one of a GAN, four steps each."""
    folder = tmp_path_factory.mktemp("runs")
    packed = write_tiny(folder / "tiny.h5")
    flags = ("--data", packed, "--steps", 4, "--draw-every", 2, *TINY)
    for name, more in {"one": (), "two": ("--gamma", 0.5), "gan": ("--model", "gan")}.items():
        assert call(train.main, *flags, *more, "--out", folder / name) == 0
    return folder


def test_pictures_and_table(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(compare.main, runs / "one", runs / "two", runs / "gan") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["one", "two", "gan"]
    rows = {line.split("  ")[0].strip(): line.split()[-3:] for line in lines[1:-2]}
    assert rows["gamma"] == ["0.02", "0.5", "0.02"] and rows["model"] == ["vaegan", "vaegan", "gan"]
    assert "data" not in rows and "batch-size" not in rows, "only what differs"
    assert rows["steps done"] == ["4"] * 3
    assert rows["reconstruction error"][2] == "–", "a GAN rebuilds nothing"
    assert lines[-1] == "written: compare/curves.png and compare/grids.png"
    with Image.open("compare/grids.png") as grids, Image.open(runs / "one" / "samples" / "step_000004.png") as own:
        assert grids.width >= 3 * (own.width // 2)
        shown = np.asarray(grids.convert("RGB"))
        half = np.asarray(own.convert("RGB").reduce(2))
    assert np.array_equal(shown[30 : 30 + half.shape[0], : half.shape[1]], half)
    with Image.open("compare/curves.png") as curves:
        colours = {tuple(pixel) for pixel in np.asarray(curves.convert("RGB")).reshape(-1, 3)[::3]}
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours, "a colour for each run"


def test_an_earlier_step(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(compare.main, runs / "one", "--step", 3, "--out", "early") == 0
    assert "grids: one at step 2" in capsys.readouterr().out
    assert drawn(runs / "one" / "samples", 1) is None
    assert call(compare.main, runs / "one", "--step", 1, "--out", "none") == 0
    assert "one without one" in capsys.readouterr().out and not (tmp_path / "none" / "grids.png").exists()


def test_a_run_in_progress(runs, tmp_path, monkeypatch, capsys):
    """Without a summary, with one line of metrics and half of another."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "one", "begun")
    (tmp_path / "begun" / "summary.json").unlink()
    first = (tmp_path / "begun" / "metrics.jsonl").read_text().splitlines()[0]
    (tmp_path / "begun" / "metrics.jsonl").write_text(first + '\n{"step": 2, "li')
    assert call(compare.main, "begun", runs / "two") == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("steps done")] == [["1", "4"]]


def test_names_are_as_short_as_tells_them_apart(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs / "one", tmp_path / name / "run")
    assert [run.name for run in read_runs([str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")])] == ["a/run", "b/run"]
    assert [run.name for run in read_runs([str(runs / "one"), str(runs / "two")])] == ["one", "two"]


def test_columns_are_aligned(runs):
    lines = lines_of(table(read_runs([str(runs / "one"), str(runs / "gan")])))
    assert len({len(line) for line in lines}) == 1


def test_nothing_is_replaced_unasked(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(compare.main, runs / "one") == 0
    before = tree(tmp_path)
    assert call(compare.main, runs / "two") == 2
    assert "curves.png exists already" in capsys.readouterr().err
    assert tree(tmp_path) == before
    assert call(compare.main, runs / "two", "--overwrite") == 0


@pytest.mark.parametrize(
    "case", ["nothing", "no run", "no metrics", "damaged config", "damaged summary", "twice", "too many", "step", "out"]
)
def test_bad_input(case, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "one", "run")
    run = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    if case == "no metrics":
        (run / "metrics.jsonl").write_text("")
    if case == "damaged config":
        (run / "config.json").write_text("{")
    if case == "damaged summary":
        (run / "summary.json").write_text("{")
    arguments, wrong = {
        "nothing": (["missing"], "no such run: missing"),
        "no run": (["empty"], "empty: is not a run's folder"),
        "no metrics": (["run"], "run: has no line of metrics yet"),
        "damaged config": (["run"], "config.json is not a readable JSON file"),
        "damaged summary": (["run"], "summary.json: cannot be read"),
        "twice": (["run", "./run"], "run: given twice"),
        "too many": ([f"run{i}" for i in range(9)], "got 9 runs, expected at most 8"),
        "step": (["run", "--step", "0"], "--step: got 0"),
        "out": (["run", "--out", "file"], "--out: file is a file"),
    }[case]
    before = tree(tmp_path)
    assert call(compare.main, *arguments) == 2
    assert wrong in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == before


def test_the_table_is_json_free_of_what_is_not_known(runs, tmp_path):
    """A summary with fewer figures, as an older version wrote it, has gaps and no error."""
    shutil.copytree(runs / "one", tmp_path / "old")
    (tmp_path / "old" / "summary.json").write_text(json.dumps({"step": 4}))
    rows = table(read_runs([str(tmp_path / "old"), str(runs / "two")]))
    assert next(row for row in rows if row[0] == "sample diversity")[1] == "–"


def test_the_table_says_what_could_not_be_measured(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "few")
    path = tmp_path / "few" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "diversity_ratio": None}))
    rows = table(read_runs([str(tmp_path / "few"), str(runs / "two")]))
    row = next(row for row in rows if row[0] == "  of the data's")
    assert row[1] == "not measured" and row[2].endswith("%")
