"""A run that is stopped, interrupted or killed resumes to the same bits as one that is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from app_case import TINY, argv, arrays_of, assert_same_run, call, command, environment, one_line, write_tiny

from vaegan_kernels import load_model
from vaegan_kernels.runs.metrics import append_metrics, read_metrics, truncate_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.train import main

STEPS = 9  # more than the 7 of one epoch, so that a shuffle lies within
SCHEDULE = ("--steps", STEPS, "--save-every", 2, "--draw-every", 4, "--no-animation", "--no-curves", *TINY)

# Code that runs before `train` and kills the process with SIGKILL at one exact place.
KILL = "import os, signal\ndef kill():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
POINTS = {
    "before the first step": KILL + "from vaegan_kernels.runs import trainer\ntrainer.Trainer.train_step = lambda self: kill()",
    "between two saves": KILL
    + "from vaegan_kernels.runs import trainer\nstep = trainer.Trainer.train_step\n"
    + "trainer.Trainer.train_step = lambda self: kill() if self.step == 5 else step(self)",
    "while the first checkpoint is written": KILL
    + "from vaegan_kernels.runs import checkpoint\nwrite, n = checkpoint.SafeFile.write, [0]\n"
    + "def counted(self, data):\n    n[0] += 1\n    return kill() if n[0] > 20 else write(self, data)\n"
    + "checkpoint.SafeFile.write = counted",
    "while a later checkpoint is written": KILL
    + "from vaegan_kernels.runs import checkpoint, trainer\nwrite, save, n = checkpoint.SafeFile.write, trainer.Trainer.save, [0]\n"
    + "def counted(self, data):\n    n[0] += now[0] == 6\n    return kill() if n[0] > 30 else write(self, data)\n"
    + "now = [0]\ndef noted(self):\n    now[0] = self.step\n    save(self)\n"
    + "checkpoint.SafeFile.write, trainer.Trainer.save = counted, noted",
    "before the rename": KILL
    + "from vaegan_kernels import files\nreplace, n = os.replace, [0]\n"
    + "def counted(a, b):\n    n[0] += str(b).endswith('checkpoint.h5')\n    return kill() if n[0] == 3 else replace(a, b)\n"
    + "files.os.replace = counted",
    "after the rename": KILL
    + "from vaegan_kernels import files\nreplace, n = os.replace, [0]\n"
    + "def counted(a, b):\n    replace(a, b)\n    n[0] += str(b).endswith('checkpoint.h5')\n    n[0] == 3 and kill()\n"
    + "files.os.replace = counted",
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")


@pytest.fixture(scope="module")
def whole(packed, tmp_path_factory):
    """The uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = command("--data", packed, "--out", out, *SCHEDULE)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point, packed, whole, tmp_path):
    out = tmp_path / "run"
    killed = command("--data", packed, "--out", out, *SCHEDULE, before=POINTS[point])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if (out / "checkpoint.h5").exists():
        step = load_model(out).header.step
        assert step >= read_metrics(out / "metrics.jsonl")[-1]["step"] - 2, "more is lost than since the last save"
    resumed = command("--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(out, whole)
    assert not list(out.rglob("*.tmp"))


def test_killed_at_random_moments(packed, whole, tmp_path):
    """The process is killed from outside, again and again, until the run is done."""
    out = tmp_path / "run"
    moments = random.Random(7)
    arguments = ("--data", packed, "--out", out, *SCHEDULE)
    for _ in range(4):
        process = subprocess.Popen(argv(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + moments.uniform(0.7, 1.6)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        _, errors = process.communicate()
        assert b"error" not in errors, errors
        arguments = ("--resume", out) if (out / "config.json").exists() else arguments
    last = command(*arguments)
    assert last.returncode == 0, last.stderr
    assert_same_run(out, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_exits(number, code, packed, whole, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        argv("--data", packed, "--out", out, *SCHEDULE), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step 1/"):
            break
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors == "" and f"--resume {out}" in printed
    assert 1 <= load_model(out).header.step < STEPS
    assert call(main, "--resume", out, "--quiet") == 0
    assert_same_run(out, whole)


def test_a_second_signal_stops_at_once(packed, tmp_path):
    slow = "import time\nfrom vaegan_kernels.runs import trainer\nstep = trainer.Trainer.train_step\n"
    slow += "def slowly(self):\n    step(self)\n    print('in step', flush=True)\n    time.sleep(30)\n"
    slow += "trainer.Trainer.train_step = slowly"
    process = subprocess.Popen(
        argv("--data", packed, "--out", tmp_path / "run", *SCHEDULE, before=slow),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("in step"):
            process.send_signal(signal.SIGINT)
        if line.startswith("stopping"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == "interrupted"


@pytest.mark.parametrize("options", [("--optimizer", "adam"), ("--precision", "float64", "--bn-groups", "authors")])
def test_stop_after_follows_the_schedule_of_steps(options, packed, tmp_path, capfd):
    """In the test's own process: three parts of one run, the middle one of one step, against the run in one piece."""
    a, b = tmp_path / "a", tmp_path / "b"
    flags = ("--data", packed, *SCHEDULE, *options, "--steps", 5, "--draw-every", 100, "--quiet")
    assert call(main, "--out", a, *flags) == 0
    assert call(main, "--out", b, *flags, "--stop-after", 3) == 0
    assert arrays_of(b / "checkpoint.h5").keys() == arrays_of(a / "checkpoint.h5").keys()
    capfd.readouterr()
    assert call(main, "--out", b, "--resume", "--stop-after", 3) == 2
    assert "--stop-after" in one_line(capfd.readouterr().err)
    assert call(main, "--out", b, "--resume", "--stop-after", 4, "--quiet") == 0
    assert call(main, "--resume", b / "checkpoint.h5", "--quiet") == 0
    assert_same_run(a, b)
    if "adam" in options:
        assert call(main, "--resume", b, "--quiet") == 0, "a finished run can be asked for again"
        assert_same_run(a, b)


def test_the_same_flags_are_accepted_on_resume(packed, tmp_path):
    out = tmp_path / "run"
    flags = ("--data", packed, *SCHEDULE, "--learning-rate", 4e-4, "--quiet")
    assert call(main, "--out", out, *flags, "--stop-after", 1) == 0
    assert call(main, "--out", out, *flags, "--resume", "--log-every", 5) == 0
    assert [line["step"] for line in read_metrics(out / "metrics.jsonl")] == [1, 5, 9]


def test_truncate_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert truncate_metrics(path, 3) == 0.0
    for step in range(1, 6):
        append_metrics(path, {"step": step, "seconds": step / 2})
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 6, "los')  # a kill in the middle of a line
    assert truncate_metrics(path, 3) == 1.5
    append_metrics(path, {"step": 4, "seconds": 2.0})
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, capfd):
    """A second one is refused in one line and leaves the run as it is; when the first has ended, it resumes."""
    pytest.importorskip("fcntl", reason="this system has no file locks")
    run = tmp_path / "run"
    assert call(main, *SCHEDULE, "--data", write_tiny(tmp_path / "tiny.h5"), "--out", run, "--stop-after", 3, "--quiet") == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capfd.readouterr()
    with RunFolder(run).held():
        assert call(main, "--resume", run) == 2
        assert "another process is training this run" in one_line(capfd.readouterr().err)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert call(main, "--resume", run, "--quiet") == 0
    assert load_model(run).header.step == STEPS
