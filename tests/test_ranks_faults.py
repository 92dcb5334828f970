"""A job of several processes ends when one of them does, hangs, fails or has something else: in a stated time, with one line, and with the
last checkpoint to go on from."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import h5py
import pytest
from app_case import argv, call, command, environment, write_tiny
from ranks_case import ended, mpiexec, processes, python, run, start, start_parts, train
from test_ranks import apart

from vaegan_kernels.train import main

SMALL = (
    "--network", "small32", "--batch-size", 6, "--log-every", 2, "--draw-every", 10**6, "--no-curves", "--no-animation", "--device", "cpu",
    "--engine", "numpy", "--threads", 1, "--quiet",
)  # fmt: skip
ENDLESS = (*SMALL, "--steps", 10**6, "--save-every", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("faults") / "discs.h5")


def own(err):
    """The lines that are the program's own: not the launcher's, which says more."""
    return [line for line in err.splitlines() if line.startswith(("error:", "process", "interrupted", "Traceback"))]


def running(folder, data, *flags):
    """A job of three that has saved once; it is the test's to end."""
    job = start(3, *train("--data", data, "--out", folder, *ENDLESS, *flags))
    deadline = time.monotonic() + 60
    while not (folder / "checkpoint.h5").exists() or len(processes(str(folder))) < 3:
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.1)
    return job


def step_of(folder):
    with h5py.File(folder / "checkpoint.h5") as file:
        return int(file.attrs["step"])


def goes_on(folder, count=1):
    """The last checkpoint is whole, and so is what comes of it; on ``count`` processes, of which one costs a tenth of three."""
    step = step_of(folder)
    words = ("--resume", folder, "--stop-after", step + 3, "--quiet")
    if count == 1:
        assert call(main, *words) == 0
    else:
        run(count, *train(*words))
    assert step_of(folder) == step + 3


@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed(tmp_path, data, rank):
    """The three that go on make the bits of a run that was not disturbed."""
    folder = tmp_path / "run"
    job = running(folder, data)
    began = time.monotonic()
    os.kill(processes(str(folder))[rank], signal.SIGKILL)
    code, _, _ = ended(job, 30)
    assert code != 0 and time.monotonic() - began < 20
    assert not processes(str(folder))
    goes_on(folder, 3)
    if rank == 0:
        return
    again = tmp_path / "undisturbed"
    run(3, *train("--data", data, "--out", again, *ENDLESS, "--stop-after", step_of(folder)))
    assert apart(folder, again) == 0


@pytest.mark.parametrize("rank", [0, 2])
def test_one_hangs(tmp_path, data, rank):
    folder = tmp_path / "run"
    job = running(folder, data, "--rank-timeout", 3)
    hung = processes(str(folder))[rank]
    began = time.monotonic()
    os.kill(hung, signal.SIGSTOP)
    try:
        code, _, err = ended(job, 40)
    finally:
        for number in processes(str(folder)).values():
            os.kill(number, signal.SIGKILL)
    assert code != 0 and 3 <= time.monotonic() - began < 20
    speaker = "" if rank else "process 1 of 3: "
    late = "waited 3 s for the other processes, of which one hangs, is gone or is slow (--rank-timeout)"
    line = f"error: {speaker}{late}; --resume goes on from the last checkpoint"
    assert own(err) == [line]
    goes_on(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_launcher_is_told_to_end(tmp_path, data, number):
    """As Slurm and a person at the keyboard do: all stop after the same step, and the first one saves."""
    folder = tmp_path / "run"
    job = running(folder, data)
    job.send_signal(number)
    code, out, _ = ended(job, 40)
    assert code != 0
    step = step_of(folder)
    assert out.strip().splitlines()[-1] == f"saved at step {step} of {10**6}; resume with: python -m vaegan_kernels.train --resume {folder}"
    goes_on(folder)


def test_one_is_told_to_end(tmp_path, data):
    folder = tmp_path / "run"
    job = running(folder, data)
    os.kill(processes(str(folder))[2], signal.SIGTERM)
    _, out, _ = ended(job, 40)
    assert f"saved at step {step_of(folder)} of" in out


@pytest.mark.parametrize("flags", [(), ("--log-every", 50, "--draw-every", 3, "--save-every", 50)], ids=["logged", "drawn"])
def test_one_sees_no_number(tmp_path, data, flags):
    """A loss that is NaN on one process is NaN on all: they end at the same step, and the checkpoint is the last good one."""
    folder = tmp_path / "run"
    code, _, err = ended(start(3, *train("--data", data, "--out", folder, *SMALL, *flags, "--steps", 60, "--learning-rate", 1e30)))
    assert code == 2
    assert len(own(err)) == 1 and "became nan at step" in own(err)[0]
    assert not (folder / "checkpoint.h5").exists()


WRONG = """
from vaegan_kernels.runs.trainer import Trainer
step = Trainer.train_step
def train_step(self):
    step(self)
    if self.job.rank == 1 and self.step == 7:
        {}
Trainer.train_step = train_step
"""


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("self.model.parameters[0].data.reshape(-1)[0] += 1e-3", "error: process 1 of 2 has weights with the checksum"),
        ("raise OSError(28, 'No space left on device')", "error: process 1 of 2: the disk is full"),
        ("raise ValueError('oh')", "Traceback"),
    ],
    ids=["other weights", "an error", "a mistake of ours"],
)
def test_one_goes_wrong(tmp_path, data, what, line):
    folder = tmp_path / "run"
    words = argv("--data", data, "--out", folder, *SMALL, "--steps", 40, "--save-every", 5, before=WRONG.format(what))
    code, _, err = ended(start(2, *words[1:]), 40)
    assert code != 0
    assert len(own(err)) == 1 and own(err)[0].startswith(line), err
    assert step_of(folder) == 5


@pytest.mark.parametrize(
    ("flags", "others", "line"),
    [
        ((), ("--data-seed", 3), "error: process 1 of 2 has images with the checksum"),
        ((), ("--seed", 3), "error: process 1 of 2 has seed 3, process 0 has 0; they must be the same"),
        ((), ("--threads", 2), "error: process 1 of 2 has engine's threads 2, process 0 has 1; they must be the same"),
        (("--gamma", -3), ("--gamma", -3), "error: --gamma: got -3"),
        (("--nonsense",), ("--nonsense",), "error: unknown argument --nonsense"),
        ((), ("--data", "nowhere"), "error: process 1 of 2: "),
        (("--batch-size", 1), ("--batch-size", 1), "error: --batch-size: got 1, expected at least 2, an image for each process"),
    ],
    ids=str,
)
def test_before_the_first_step(tmp_path, flags, others, line):
    words = ("--limit", 60, "--out", tmp_path / "run", *SMALL, "--steps", 3)
    job = start_parts((1, train(*words, *flags)), (1, train(*words, *others)), cwd=tmp_path)
    code, out, err = ended(job)
    assert code == 2, err
    assert len(own(err)) == 1 and own(err)[0].startswith(line), err
    assert not (tmp_path / "run" / "checkpoint.h5").exists()


def test_other_software(tmp_path, data):
    words = ("--data", data, "--out", tmp_path / "run", *SMALL, "--steps", 3)
    other = "from vaegan_kernels import train\nown = train.software\ntrain.software = lambda: {**own(), 'the version of numpy': '0.9'}"
    ending, _, err = ended(start_parts((1, train(*words)), (1, tuple(argv(*words, before=other)[1:]))))
    assert ending == 2 and own(err)[0].startswith("error: process 1 of 2 has the version of numpy 0.9, process 0 has ")


def test_without_mpi4py(tmp_path):
    """Under a launcher: the first process says what to install, and all end."""
    for rank, lines in ((0, 1), (1, 0)):
        variables = {**environment(), "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": str(rank)}
        line = argv(before="import sys; sys.modules['mpi4py'] = None")
        found = subprocess.run(line, env=variables, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert found.returncode == 2
        assert len(found.stderr.splitlines()) == lines
        assert "pip install mpi4py" in found.stderr or not lines


def test_other_commands_are_alone():
    mpiexec()
    code, out, err = ended(start(3, "-m", "vaegan_kernels.sample", "faces"))
    assert code == 2 and not out
    assert len(own(err)) == 1 and " says so), and only train shares its work among them; leave mpiexec or srun out, or unset" in own(err)[0]


def test_a_variable_that_was_left_over(tmp_path, data):
    """One launcher within the job of another: MPI's own number of processes counts."""
    words = ("--data", data, "--out", tmp_path / "run", *SMALL, "--steps", 2)
    line = [*mpiexec(), "-n", "2", *python(*train(*words))]
    done = subprocess.run(line, env={**environment(), "SLURM_STEP_NUM_TASKS": "4"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    variables = {**environment(), "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
    alone = subprocess.run(python(*train(*words)), env=variables, capture_output=True, text=True, check=False)
    assert alone.returncode == 2 and "if this is to be one process, unset SLURM_STEP_NUM_TASKS" in alone.stderr


def test_one_process_does_not_know_of_mpi(tmp_path, data):
    unknown = "import atexit, os, sys\natexit.register(lambda: 'mpi4py' in sys.modules and os._exit(9))"
    done = command("--data", data, "--out", tmp_path / "run", *SMALL, "--steps", 2, before=unknown)
    assert done.returncode == 0, done.stderr
