"""The stability experiment and the runs at once: verdicts, failures, Ctrl-C, the page of samples; and the plan of celeba."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest
from app_case import call, one_line, write_tiny
from PIL import Image

from vaegan_kernels.experiments import celeba, common, parallel, stability, stability_figure
from vaegan_kernels.experiments.parallel import Job, Pool
from vaegan_kernels.experiments.results import read_json
from vaegan_kernels.runs.metrics import append_metrics
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.shell.errors import UserError

FLAGS = ("--batch-size", "4", "--device", "cpu", "--quiet")
PLAIN = ("--", "--no-curves", "--no-animation", "--draw-every", "100", "--save-every", "100", "--log-every", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny packed data set."""
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


@pytest.fixture
def judged(monkeypatch):
    """Judge without a regressor: the verdict is that of the list, and the images that were judged are kept."""
    seen = []

    def diverse_faces(images, test_images, regressor):
        seen.append((images, test_images, regressor))
        return {"diverse_faces": len(seen) != 2, "faces": 0.75, "diversity": 0.5}

    monkeypatch.setitem(sys.modules, "vaegan_kernels.measures.quality", types.SimpleNamespace(diverse_faces=diverse_faces))
    monkeypatch.setattr("vaegan_kernels.measures.quality", sys.modules["vaegan_kernels.measures.quality"], raising=False)
    monkeypatch.setattr(stability, "regressor_of", lambda arguments, dataset: "regressor")
    monkeypatch.setattr(stability, "SAMPLES", 16)
    return seen


def test_stability_judges_every_run_once_and_draws(tmp_path, data, judged, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ("--data", data, "--out", out, "--steps", "2", *FLAGS, "--threads", "1", "--seeds", "1", "--conditions", "default,no-gate")
    assert call(stability.main, *command, *PLAIN) == 0
    printed = capsys.readouterr().out
    results = read_json(out / "stability.json")
    assert [images.shape for images, _, _ in judged] == [(16, 32, 32, 3)] * 2 and judged[0][1].dtype == np.uint8
    config = json.loads((out / "runs" / "vaegan-no-gate-seed0" / "config.json").read_text())
    assert config["gate"] is False and json.loads((out / "runs" / "vaegan-seed0" / "config.json").read_text())["gate"] is True
    assert "| default | 1 | 1 of 1 |" in printed and "| no-gate | 1 | 0 of 1 |" in results["tables"]["stability"]
    run = results["conditions"]["no-gate"]["0"]
    assert run["diverse_faces"] is False and run["step"] == 2 and 0 <= run["dec_update_rate"] <= 1 and run["losses"]["like"] > 0
    assert set(results["runs"]) == {"vaegan-seed0", "vaegan-no-gate-seed0"}
    for condition in ("default", "no-gate"):
        with Image.open(out / f"stability-{condition}.png") as picture:
            picture.load()
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))  # runs that are there are only judged
    assert call(stability.main, *command, "--conditions", "no-gate") == 0
    assert len(judged) == 3 and len(read_json(out / "stability.json")["conditions"]) == 2


def test_stability_table():
    runs = {
        "0": {"diverse_faces": True, "measures": {"faces": 0.5, "enough": True}, "dec_update_rate": 1.0},
        "1": {"diverse_faces": False, "failed": "became nan"},
    }
    runs["2"] = {"diverse_faces": True, "measures": {"faces": 0.7}, "dec_update_rate": 0.5, "dis_update_rate": 0.25}
    lines = stability.table({"default": runs}).splitlines()
    assert lines[0] == "| condition | runs | diverse faces | faces | Dec updated | Dis updated |"
    assert lines[2] == "| default | 3 | 2 of 3 | 0.60 ± 0.14 | 75 % | 25 % |"


def test_a_run_whose_loss_is_no_number_has_failed_and_the_others_go_on(tmp_path, data, judged, monkeypatch, capsys):
    own = Trainer.check_finite

    def check_finite(trainer):
        if trainer.config.seed == 0 and trainer.step == 2:
            trainer.model.losses[:] = np.nan
        own(trainer)

    monkeypatch.setattr(Trainer, "check_finite", check_finite)
    command = ("--data", data, "--out", tmp_path, "--steps", "2", *FLAGS, "--threads", "1", "--seeds", "2", "--conditions", "default")
    for attempt in range(2):
        assert call(stability.main, *command, *PLAIN) == 0
        runs = read_json(tmp_path / "stability.json")["conditions"]["default"]
        assert "became nan at step 2" in runs["0"]["failed"] and runs["0"]["diverse_faces"] is False
        assert "failed" not in runs["1"] and len(judged) == 1 + attempt
    assert "| default | 2 | 1 of 2 |" in capsys.readouterr().out


def jobs(tmp_path, data, steps, count=2):
    flags = ["--data", str(data), "--steps", str(steps), "--batch-size", "4", "--device", "cpu", "--threads", "1", *PLAIN[1:]]
    words = [tuple(common.run_flags("vae", False, seed, flags, {})) for seed in range(count)]
    return [Job(tmp_path / "runs" / f"vae-seed{seed}", "vae", seed, words[seed]) for seed in range(count)]


def test_ctrl_c_stops_all_runs_at_once_and_each_has_saved(tmp_path, data, capsys):
    both = jobs(tmp_path, data, 100_000)
    pool = Pool(both, 2, False, lambda job: pytest.fail("finished"), lambda job, error: pytest.fail(error))
    processes = []

    def interrupt():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all(parallel.last_step(job.folder) > 2 for job in both):
            time.sleep(0.05)
        processes.extend(pool.running.values())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        pool.run()
    thread.join()
    assert stop.value.code == 130 and "run the same command again" in capsys.readouterr().out
    assert [process.poll() for process in processes] == [130, 130] and not pool.running
    for job in both:
        assert (job.folder / "checkpoint.h5").exists() and common.run_state(job.folder, job.words) == "interrupted"


def test_runs_at_once_wait_for_those_they_need_and_tell_a_failure(tmp_path, data):
    first, second = jobs(tmp_path, data, 2)
    second = Job(second.folder, "vae", 1, (*second.words, "--limit", "30"), (first.folder.absolute(),))
    third = Job(tmp_path / "runs" / "bad", "vae", 2, first.words)
    third.folder.mkdir(parents=True)
    (third.folder / "something").write_text("in the way")
    with pytest.raises(UserError, match="bad: .*not empty"):
        parallel.train_all([third], workers=2, quiet=True)
    done = []
    parallel.train_all([second, first], workers=2, quiet=True, done=lambda job: done.append(job.seed))
    assert done == [0, 1]
    assert common.finished(first.folder) and common.finished(second.folder)
    assert not list((tmp_path / "runs").glob("vae*.log"))


def test_a_pool_starts_nothing_before_what_it_needs(tmp_path):
    gan, dis = Job(tmp_path / "gan", "gan", 0, ()), Job(tmp_path / "dis", "vae-dis", 0, (), ((tmp_path / "gan").absolute(),))
    pool = Pool([dis, gan], 2, True, print, print)
    launched = []
    pool.launch = lambda job: launched.append(job.system) or object()
    pool.begin()
    assert launched == ["gan"] and pool.pending == [dis]
    pool.running.clear()
    pool.begin()
    assert launched == ["gan", "vae-dis"]


def test_status_and_last_error(tmp_path):
    assert parallel.status(1, 3, {"a": 1200}) == "1 of 3 runs done; a at step 1,200"
    log = tmp_path / "a.log"
    log.write_text("noise\nerror: first\nerror: the last one\n")
    assert parallel.last_error(log) == "the last one"


def test_final_numbers_are_means_of_the_last_lines(tmp_path):
    for step in range(1, 11):
        append_metrics(
            tmp_path / "metrics.jsonl", {"step": step, "like": float(step), "dec_update_rate": step / 10, "dis_update_rate": 1.0}
        )
    numbers = stability.final_numbers(tmp_path)
    assert numbers["losses"] == {"like": 8.0} and numbers["step"] == 10
    assert numbers["dec_update_rate"] == pytest.approx(0.55) and numbers["dis_update_rate"] == 1.0


def test_only_a_loss_that_is_no_number_counts_as_a_failed_run(tmp_path, monkeypatch):
    study = stability.Study.__new__(stability.Study)
    study.arguments = types.SimpleNamespace(quiet=True)
    noted = []
    study.note = lambda job, result: noted.append(result)
    job = Job(tmp_path, "vaegan", 0, ())
    assert not study.give_up(job, "the disk is full") and not noted
    assert study.give_up(job, "the loss 'like' became inf at step 9; no checkpoint had been written yet") and noted[0]["failed"].endswith(
        "step 9"
    )
    assert study.give_up(job, "parameters/x is not finite after step 3; ...")


def test_the_page_shows_rows_labels_and_verdicts():
    images = np.full((10, 32, 32, 3), 200, np.uint8)
    words = stability_figure.lines_of({"diverse_faces": True, "measures": {"a_b": 0.5}, "dec_update_rate": 1.0, "dis_update_rate": 0.25})
    assert words[0] == ("diverse faces", stability_figure.GOOD) and [text for text, _ in words[1:]] == [
        "a b 0.50",
        "updated: Dec 100%, Dis 25%",
    ]
    assert stability_figure.lines_of({"failed": "the loss 'like' became nan"})[0] == ("failed", stability_figure.BAD)
    picture = np.asarray(stability_figure.page("title", [("seed 0", images, words), ("seed 1", None, words)], 32))
    for colour in (200, stability_figure.EMPTY):  # ten tiles; a few points of the letters may have the same colour
        assert 1 <= (picture == colour).all(axis=2).sum() / (10 * 64 * 64) < 1.02


def test_the_plan_is_fixed(tmp_path):
    plan = {"systems": ["vae"], "seeds": [0, 1], "settings": {"steps": 2, "gamma": 0.2}}
    celeba.keep_plan(tmp_path / "plan.json", plan)
    celeba.keep_plan(tmp_path / "plan.json", {**plan, "seeds": (0, 1)})
    with pytest.raises(UserError, match=r"with steps 2, asked for is 3"):
        celeba.keep_plan(tmp_path / "plan.json", {**plan, "settings": {"steps": 3, "gamma": 0.2}})
    with pytest.raises(UserError, match=r"with seeds \[0, 1\]"):
        celeba.keep_plan(tmp_path / "plan.json", {**plan, "seeds": [0]})


def test_celeba_keeps_to_its_plan_and_measures_every_run(tmp_path, data, judged, monkeypatch, capsys):
    asked = []

    def measure(model, dataset, regressor, *, metric=None, seed=0):
        asked.append((model.system, model.header.config.seed, metric.system, metric.header.config.seed))
        return {
            "mean_image_mse": 0.25 + model.header.config.seed if model.system == "vae" else None,
            "rebuilt": {"ssim": 7.0},
            "unlisted": 3.0,
        }

    sys.modules["vaegan_kernels.measures.quality"].measure = measure
    monkeypatch.setattr(celeba, "regressor_of", lambda arguments, dataset: "regressor")
    out = tmp_path / "out"
    command = ("--data", data, "--out", out, *FLAGS, "--threads", "1", "--seeds", "2", "--systems", "vae,gan")
    assert call(celeba.main, *command, "--steps", "2", *PLAIN) == 0
    assert asked == [("vae", 0, "gan", 0), ("vae", 1, "gan", 0), ("gan", 0, "gan", 0), ("gan", 1, "gan", 0)]
    results = read_json(out / "celeba.json")
    table = results["tables"]["celeba"]
    assert f"| {celeba.MEASURES['mean_image_mse']} | 0.750 ± 0.707 | – |" in table
    assert f"| {celeba.MEASURES['rebuilt ssim']} | 7.00 ± 0.00 | 7.00 ± 0.00 |" in table
    assert len(table.splitlines()) == 4, "measures that are not listed, or that nobody has, take no line"
    assert results["plan"]["settings"]["steps"] == 2 and results["runs"]["gan-seed1"]["steps"] == 2
    assert results["data"]["fingerprint"] and results["command"].startswith("python -m vaegan_kernels.experiments.celeba --data")
    for name in ("samples", "reconstructions", "reconstructions-only"):
        assert (out / f"{name}.png").stat().st_size > 1000
    capsys.readouterr()
    assert call(celeba.main, *command, "--steps", "3", *PLAIN) == 2
    assert "plan.json: the plan was fixed with steps 2" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "words", [("--jobs", "0"), ("--seeds", "0"), ("--conditions", "gateless"), ("--conditions", "default,non-saturating")]
)
def test_bad_flags_are_one_line(tmp_path, data, capsys, words):
    assert call(stability.main, "--data", data, "--out", tmp_path / "out", *words) == 2
    assert words[0] in one_line(capsys.readouterr().err)
