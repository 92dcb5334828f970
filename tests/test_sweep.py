"""Sweeps: every combination of settings and seeds once, by tasks of an array or in one call; one table; failures; bad words."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from app_case import call, environment, one_line, tree, write_tiny

from vaegan_kernels.experiments import celeba, share, stability, sweep
from vaegan_kernels.experiments.parallel import Job
from vaegan_kernels.experiments.results import read_json
from vaegan_kernels.experiments.tables import mean_and_deviation
from vaegan_kernels.files import write_atomically, write_json
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.shell.errors import UserError

FLAGS = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--threads", "1", "--quiet")
PLAIN = ("--", "--no-curves", "--no-animation", "--draw-every", "100", "--save-every", "100", "--log-every", "1")
SETS = ("--set", "gamma=0.1,0.5", "--set", "gate=on,off")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny packed data set."""
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


@pytest.fixture(autouse=True)
def no_array(monkeypatch):
    for name in ("ID", "COUNT", "MIN", "STEP"):
        monkeypatch.delenv(share.SLURM + name, raising=False)


def run(data, out, *words, sets=SETS, seeds="0,3"):
    return call(sweep.main, "--data", data, "--out", out, *FLAGS, *sets, "--seeds", seeds, *words, *PLAIN)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, data):
    """A sweep of four combinations and two seeds, in one call."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    assert run(data, out) == 0
    return out


def test_every_combination_and_one_table(swept):
    names = [f"vaegan-gamma={g},gate={w}-seed{s}" for g in ("0.1", "0.5") for w in ("off", "on") for s in (0, 3)]
    assert sorted(path.name for path in (swept / "runs").iterdir()) == names
    config = read_json(swept / "runs" / names[0] / "config.json")
    assert (config["gamma"], config["gate"], config["seed"]) == (0.1, False, 0)
    found = read_json(swept / "sweep.json")
    assert found["settings"] == {"gamma": [0.1, 0.5], "gate": [True, False]} and set(found["runs"]) == set(names)
    cell = found["cells"]["gamma=0.5,gate=on"]
    values = [read_json(swept / "runs" / f"vaegan-gamma=0.5,gate=on-seed{s}" / "summary.json")["sharpness_ratio"] for s in (0, 3)]
    assert [run["sharpness_ratio"] for run in cell["runs"].values()] == values and list(cell["runs"]) == ["0", "3"]
    over = cell["over_seeds"]["sharpness_ratio"]
    assert over == {"mean": np.mean(values), "deviation": pytest.approx(np.std(values, ddof=1)), "runs": 2}
    lines = (swept / "sweep.md").read_text().splitlines()
    assert found["tables"]["sweep"].splitlines() == lines and len(lines) == 6
    assert lines[0].startswith("| gamma | gate | runs | failed | reconstruction mse |") and "mean image" not in lines[0]
    assert lines[2].startswith("| 0.1 | on | 2 | 0 | ") and lines[2].count(" ± ") >= 6


def test_finished_runs_are_not_trained_again(swept, data, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    assert run(data, swept) == 0
    assert run(data, swept, sets=("--set", "gamma=0.5,0.1", "--set", "gate=off")) == 0, "a part of it, in another order"
    assert "2 of 2 runs" not in capsys.readouterr().out
    assert len(read_json(swept / "sweep.json")["cells"]) == 2
    assert run(data, swept) == 0


def test_tasks_of_an_array_share_the_runs_and_the_last_makes_the_same_table(swept, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    for number in (7, 5, 9):  # --array=5-9:2, in any order
        for name, value in {"ID": number, "COUNT": 3, "MIN": 5, "STEP": 2}.items():
            monkeypatch.setenv(share.SLURM + name, str(value))
        before = len(list((out / "runs").iterdir())) if out.exists() else 0
        assert not (out / "sweep.json").exists()
        assert run(data, out) == 0
        assert len(list((out / "runs").iterdir())) - before == {5: 3, 7: 3, 9: 2}[number]
        printed = capsys.readouterr().out
        assert f"task {(number - 5) // 2 + 1} of 3 is done; of all 8 runs" in printed
        if number == 7:
            monkeypatch.delenv(share.SLURM + "ID")
            assert run(data, out, "--report") == 0 and "3 of 8 runs" in capsys.readouterr().out
            (out / "sweep.json").unlink()
    one, other = read_json(out / "sweep.json"), read_json(swept / "sweep.json")
    timed = ("seconds", "images_per_second")
    for found in (one, other):
        for cell in found["cells"].values():
            for run_ in cell["runs"].values():
                [run_.pop(name, None) for name in timed]
    assert [cell["runs"] for cell in one["cells"].values()] == [cell["runs"] for cell in other["cells"].values()]


def test_a_run_that_diverges_is_counted_and_not_tried_again(data, tmp_path, monkeypatch, capsys):
    own, begun = Trainer.check_finite, []

    def check_finite(trainer):
        if trainer.step == 1:
            begun.append(trainer.config.seed)
        if trainer.config.seed == 3 and trainer.step == 2:
            trainer.model.losses[:] = np.nan
        own(trainer)

    monkeypatch.setattr(Trainer, "check_finite", check_finite)
    for _ in range(2):
        assert run(data, tmp_path / "out", "--task", "1/1", sets=("--set", "gamma=0.1")) == 0
    assert sorted(set(begun)) == [0, 3] and len(begun) == 2
    found = read_json(tmp_path / "out" / "sweep.json")
    assert "became nan at step 2" in found["cells"]["gamma=0.1"]["runs"]["3"]["failed"]
    assert found["tables"]["sweep"].splitlines()[2].startswith("| 0.1 | 2 | 1 | ")
    assert "of all 2 runs 0 are left" in capsys.readouterr().out


def test_two_tasks_at_once_and_jobs_at_once(data, tmp_path):
    words = ["--data", data, "--out", tmp_path / "out", *FLAGS, "--set", "gamma=0.1,0.5", "--seeds", "0,1"]
    tasks = [[sys.executable, "-m", "vaegan_kernels.experiments.sweep", *map(str, words), "--task", f"{i}/2", *PLAIN] for i in (1, 2)]
    tasks[0][-len(PLAIN) : -len(PLAIN)] = ["--jobs", "2"]
    processes = [subprocess.Popen(task, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for task in tasks]
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0 and not errors, output + errors
    assert len(json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]) == 4
    assert not list((tmp_path / "out").rglob("*.tmp")) and not list((tmp_path / "out").rglob("*.log"))


def test_shares():
    jobs = [Job(share.Path(f"{system}{seed}"), system, seed, ()) for seed in range(3) for system in ("vae", "gan")]
    jobs += [Job(share.Path(f"dis{seed}"), "vae-dis", seed, (), (share.Path(f"gan{seed}").absolute(),)) for seed in range(3)]
    for count in (1, 2, 4, 9):
        parts = [share.share_of(jobs, (i + 1, count)) for i in range(count)]
        assert sorted(str(job.folder) for part in parts for job in part) == sorted(str(job.folder) for job in jobs)
        for part in parts:
            names = [str(job.folder) for job in part]
            assert all(name.replace("dis", "gan") in names for name in names), "a vae-dis needs the gan of its seed"
    assert share.share_of(jobs, None) == jobs


def test_two_tasks_may_write_one_file_at_once(tmp_path):
    def write(file):
        write_json(tmp_path / "a.json", {"by": "another"}, shared=True)
        file.write(b"mine")

    write_atomically(tmp_path / "a.json", write, shared=True)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"mine")]


def test_numbers_of_few_runs():
    assert mean_and_deviation([None, float("nan")]) == (None, None, 0)
    assert mean_and_deviation([2.0, None]) == (2.0, None, 1)
    assert mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5), 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--set: missing"),
        (("--set", "gamma"), "--set: got 'gamma', expected a setting and its values"),
        (("--set", "gama=1"), "did you mean gamma"),
        (("--set", "seed=1"), "--set: got 'seed'"),
        (("--set", "gamma=0.1,high"), "--set: gamma: got 'high', expected a number"),
        (("--set", "gate=maybe"), "expected on or off"),
        (("--set", "gamma=0.1,0.10"), "a value twice"),
        (("--set", "gamma=1", "--set", "gamma=2"), "given twice"),
        (("--set", "gamma=-1"), "--gamma: got -1"),
        (("--set", "network=small32,small64"), "images of another size"),
        ((*SETS, "--seeds", "0,0"), "--seeds"),
        ((*SETS, "--seeds", "a"), "--seeds"),
        ((*SETS, "--jobs", "0"), "--jobs"),
        ((*SETS, "--task", "0/4"), "--task: got '0/4'"),
        ((*SETS, "--task", "5/4"), "--task: got '5/4'"),
        ((*SETS, "--task", "1/4", "--report"), "--report: trains nothing"),
        ((*SETS, "--report"), "is finished; train them first"),
    ],
)
def test_bad_words_are_one_line_and_train_nothing(tmp_path, data, capsys, words, expected):
    assert call(sweep.main, "--data", data, "--out", tmp_path / "out", *FLAGS, *words) == 2
    assert expected in one_line(capsys.readouterr().err)
    assert tree(tmp_path) in ({}, {"out": -1})


@pytest.mark.parametrize("lacking", [{"COUNT": ""}, {"ID": "9"}, {"STEP": "0"}, {"MIN": "x"}])
def test_an_array_that_cannot_be_understood_is_one_line(lacking):
    environment = {share.SLURM + name: value for name, value in ({"ID": "2", "COUNT": "4", "MIN": "1", "STEP": "1"} | lacking).items()}
    arguments = type("A", (), {"task": None, "report": False})
    with pytest.raises(UserError, match="--task I/N|leave some out"):
        share.task_of(arguments, environment)
    assert share.task_of(
        arguments, {**environment, **{share.SLURM + k: v for k, v in zip(("ID", "COUNT", "MIN", "STEP"), "2411", strict=True)}}
    ) == (2, 4)


# ---- the same of the other experiments ----


@pytest.fixture
def judged(monkeypatch):
    """Measures that need no regressor."""
    from vaegan_kernels.measures import quality

    monkeypatch.setattr(quality, "diverse_faces", lambda *a: {"diverse_faces": True, "faces": 0.75})
    monkeypatch.setattr(quality, "measure", lambda model, *a, **k: {"mean_image_mse": 0.25, "metric": k["metric"] is not None})
    for module in (stability, celeba):
        monkeypatch.setattr(module, "regressor_of", lambda arguments, dataset: "regressor")
    monkeypatch.setattr(stability, "SAMPLES", 16)


def test_stability_in_tasks(data, tmp_path, judged, monkeypatch, capsys):
    own = Trainer.check_finite

    def check_finite(trainer):
        if trainer.config.seed == 1 and trainer.config.gate:
            trainer.model.losses[:] = np.nan
        own(trainer)

    monkeypatch.setattr(Trainer, "check_finite", check_finite)
    words = ("--data", data, "--out", tmp_path, *FLAGS, "--seeds", "2", "--conditions", "default,no-gate")
    assert call(stability.main, *words, "--report") == 2
    assert "is finished; train them first" in one_line(capsys.readouterr().err)
    for task in ("1/2", "2/2"):
        assert call(stability.main, *words, "--task", task, *PLAIN) == 0
        assert "--report makes the tables" in capsys.readouterr().out and not (tmp_path / "stability.json").exists()
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    assert call(stability.main, *words, "--report", *PLAIN) == 0
    printed = capsys.readouterr().out
    assert "| default | 2 | 1 of 2 |" in printed and "| no-gate | 2 | 2 of 2 |" in printed
    assert "became nan" in read_json(tmp_path / "stability.json")["conditions"]["default"]["1"]["failed"]


def test_celeba_in_tasks(data, tmp_path, judged, monkeypatch, capsys):
    words = ("--data", data, "--out", tmp_path, *FLAGS, "--seeds", "2", "--systems", "vae,gan")
    assert call(celeba.main, *words, "--report", *PLAIN) == 2
    assert "no run of seed 0" in one_line(capsys.readouterr().err)
    assert call(celeba.main, *words, "--task", "1/4", *PLAIN) == 0
    assert call(celeba.main, *words, "--report", *PLAIN) == 2
    assert "taken in its Dis" in one_line(capsys.readouterr().err)
    for task in ("2/4", "3/4"):
        assert call(celeba.main, *words, "--task", task, *PLAIN) == 0
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    assert call(celeba.main, *words, "--report", *PLAIN) == 0
    found = read_json(tmp_path / "celeba.json")
    assert {system: list(runs) for system, runs in found["systems"].items()} == {"vae": ["0", "1"], "gan": ["0"]}
