"""Ctrl-C in every phase of a command, in short (tests/interrupt_runs.py does it at more moments), and scripts without a main guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque

import interrupt_runs
import pytest
from app_case import TINY, environment
from PIL import Image

from kernels.processes import outcomes
from vaegan_kernels.data.parallel import map_chunks
from vaegan_kernels.shell import cli, interrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a group of processes is interrupted")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored it would be in the commands
    yield interrupt_runs.make_inputs(tmp_path_factory.mktemp("place") / "in")
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", ["train", "pack", "edit"])
def test_ctrl_c_at_events(inputs, tmp_path, name):
    """While modules are imported, pictures decoded by processes, files looked at by another, trained, drawn, saved."""
    words = interrupt_runs.commands(inputs)[name]
    status, errors = interrupt_runs.run(words, tmp_path / "whole", count_to=tmp_path / "count")
    assert status == 0, errors
    events = int((tmp_path / "count").read_text())
    for at in (1, *(events * k // 8 for k in (1, 3, 6))):
        status, errors = interrupt_runs.run(words, tmp_path / f"at-{at}", at=at)
        interrupt_runs.check(status, errors, tmp_path / f"at-{at}")
        assert status == 130, (at, errors)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6])
def test_ctrl_c_at_times(inputs, tmp_path, seconds):
    status, errors = interrupt_runs.run(interrupt_runs.commands(inputs)["train"], tmp_path / "out", seconds=seconds)
    interrupt_runs.check(status, errors, tmp_path / "out", early=True)


# ---- what becomes of it within a command ----


def send():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def turned_into_another():
    try:
        send()
    except KeyboardInterrupt:
        raise ImportError("a module of C could not be imported") from None


def lost():
    class Holder:
        def __del__(self):
            send()

    Holder()
    time.sleep(0.1)


def swallowed():
    try:
        send()
    except BaseException:
        return 0


@pytest.mark.parametrize("work", [send, turned_into_another, lost, swallowed])
def test_ctrl_c_is_not_lost(work, capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.run_main(work) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "interrupted\n"


def test_an_impatient_user_does_not_stop_the_clearing_away(capfd):
    done = []

    def work():
        try:
            send()
        finally:
            send()
            done.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.run_main(work) == 130 and done
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_done_in_no_time_is_done(capfd):
    done = []

    def work():
        with interrupt.held():
            send()
            done.append("whole")
        done.append("more")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.run_main(work) == 130 and done == ["whole"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "interrupted\n"


def test_a_program_around_this_one_keeps_its_own(monkeypatch):
    taken = []
    before = signal.signal(signal.SIGINT, lambda number, frame: taken.append(number))
    try:
        assert cli.run_main(send) == 0 and taken == [signal.SIGINT]
        monkeypatch.setattr(sys, "argv", ["-m"])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "vaegan_kernels.train"])
        interrupt.begin()
        assert signal.getsignal(signal.SIGINT) is not interrupt._leave
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("words, expected", [
    (["python", "-m", "vaegan_kernels.train"], True), (["python", "-mvaegan_kernels"], True), (["python", "-m", "pytest"], False),
])  # fmt: skip
def test_what_is_a_command(monkeypatch, words, expected):
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.setattr(sys, "argv", ["-m"])
    assert interrupt.is_command() == expected
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vaegan"])
    assert interrupt.is_command()
    monkeypatch.setattr(sys, "argv", ["mine.py"])
    assert not interrupt.is_command()


# ---- scripts without a main guard ----

SCRIPT = """
import pathlib, sys
with open("started", "a") as file:
    file.write("once ")
import vaegan_kernels
from vaegan_kernels import train
from vaegan_kernels.data import load_dataset

data = load_dataset("photos", image_size=32, channels=3, workers=2, cache_dir=False)
assert load_dataset(None, image_size=32, channels=3, limit=300, workers=2, cache_dir=False).images.shape == (300, 32, 32, 3)
words = sys.argv[1].split()
assert train.main(["--data", "photos", "--out", "run", "--steps", "2", "--threads", "1", "--quiet", *words]) == 0
assert vaegan_kernels.load_model("run").sample(2).shape == (2, 32, 32, 3)
assert not set(sys.modules) & {"multiprocessing.spawn", "concurrent.futures.process"}
print(len(data))
"""


def test_a_script_without_a_main_guard(tmp_path):
    """Its pictures are decoded by other processes, which do not run it again."""
    (tmp_path / "photos").mkdir()
    for i in range(300):
        Image.new("RGB", (20, 20), (i % 250, 90, 30)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", " ".join(TINY)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "" and done.stdout.split()[-1] == "300", done.stdout + done.stderr
    assert (tmp_path / "started").read_text() == "once "


# ---- processes ----


def squares(numbers):
    return [number**2 for number in numbers]


def squares_of_a_script(numbers):
    return [number**2 for number in numbers]


squares_of_a_script.__module__ = "__main__"  # no other process knows it


@pytest.mark.parametrize("function", [squares, squares_of_a_script])
def test_results_in_order_whatever_becomes_of_the_processes(function):
    seen = []
    chunks = list(map_chunks(function, range(1000), workers=2, progress=lambda done, total: seen.append((done, total))))
    assert [value for chunk in chunks for value in chunk] == [number**2 for number in range(1000)]
    assert seen[-1] == (1000, 1000) and seen == sorted(seen)


def fail_on_one(number):
    if number == 1:
        os._exit(3)
    return -number


def test_what_a_process_died_of_is_left():
    waiting = deque([1, 2, 3, 4])
    found = dict(outcomes(fail_on_one, waiting, 2))
    assert found == {2: -2, 3: -3, 4: -4} and list(waiting) == [1]
