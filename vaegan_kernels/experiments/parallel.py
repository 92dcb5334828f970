"""Several training runs: one after the other in this process, or a few at once in processes of their own.

On a machine with C cores, C runs of one thread at once are done sooner than one after the other with C threads each. Ctrl-C (or SIGTERM)
lets every run finish its step and save; the same command resumes all of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vaegan_kernels
from kernels.processes import own_group
from vaegan_kernels.experiments.common import run_arguments, run_flags, run_folder, run_state, train_flags, train_here
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import EXIT_INTERRUPTED, EXIT_TERMINATED, whole_number
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import StopRequest
from vaegan_kernels.shell.progress import duration

POLL = 0.2  # seconds between looks at the processes
SECONDS_BETWEEN_LINES = 10.0  # of progress, where it is not a terminal


@dataclass(frozen=True)
class Job:
    """A run that is wanted: its folder, its settings, train's words for all of them, and the runs that must be finished before."""

    folder: Path
    system: str
    seed: int
    words: tuple[str, ...]
    after: tuple[Path, ...] = ()


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs."""
    parser.add_argument(
        "--jobs", type=whole_number, default=1, metavar="J",
        help="runs at once, each a process with one thread (default: 1, in this process, with --threads)",
    )  # fmt: skip


def check_jobs(arguments: argparse.Namespace) -> None:
    """Check --jobs; with more than one, a run has one thread unless --threads says otherwise."""
    check_count("--jobs", arguments.jobs, 256)
    if arguments.jobs > 1 and arguments.threads is None:
        arguments.threads = 1


def job_of(arguments: argparse.Namespace, system: str, seed: int, *, name: str = "", **settings: Any) -> Job:
    """The job of a system and seed with the experiment's flags; a "vae-dis" comes after the "gan" of its seed and takes its Dis.

    ``name`` is put behind the system's in the folder's name, for runs with other settings than the experiment's.
    """
    after: tuple[Path, ...] = ()
    if system == "vae-dis":
        after = (run_folder(arguments.out, "gan", seed=seed).absolute(),)
        settings = {"gan": after[0], **settings}
    folder = run_folder(arguments.out, f"{system}-{name}" if name else system, seed=seed)
    return Job(folder, system, seed, tuple(run_flags(system, False, seed, train_flags(arguments), settings)), after)


def train_all(
    jobs: Sequence[Job], *, workers: int = 1, quiet: bool = False,
    done: Callable[[Job], None] = lambda job: None, failed: Callable[[Job, str], bool] = lambda job, error: False,
    skip: Callable[[Job], bool] = lambda job: False,
) -> None:  # fmt: skip
    """Train every job to its end.

    Args:
        done: called with each job as soon as it is finished, at once for those that are finished already.
        failed: called with a job whose training gave up and the error's line; true means that the others continue.
        skip: true for a job that is not to be trained although it is not finished.

    Raises `UserError` before any training if a folder holds a run with other settings; SystemExit with the trainer's code after a signal.
    """
    states = [run_state(job.folder, job.words) for job in jobs]
    for job, state in zip(jobs, states, strict=True):
        if state == "finished":
            done(job)
    pending = [job for job, state in zip(jobs, states, strict=True) if state != "finished" and not skip(job)]
    if workers > 1:
        Pool(pending, workers, quiet, done, failed).run()
        return
    for number, job in enumerate(pending, len(jobs) - len(pending) + 1):
        if not quiet:
            print(f"run {number} of {len(jobs)}", flush=True)
        try:
            train_here(job.folder, job.words, quiet=quiet)
        except UserError as error:
            if not failed(job, str(error)):
                raise
        else:
            done(job)


class Pool:
    """Runs at most ``workers`` jobs at once, each as ``python -m vaegan_kernels.train`` with its output in ``<folder>.log``."""

    def __init__(self, jobs: Sequence[Job], workers: int, quiet: bool, done: Any, failed: Any) -> None:
        self.pending, self.count, self.workers, self.quiet = list(jobs), len(jobs), workers, quiet
        self.done, self.failed = done, failed
        self.running: dict[Job, subprocess.Popen[bytes]] = {}
        self.problem: UserError | None = None
        self.ended = 0
        self.start = time.monotonic()
        self.shown = 0.0

    def run(self) -> None:
        """Until all are done. Raises as `train_all` does; no process outlives it."""
        told = False
        with StopRequest(self) as request:
            try:
                while self.running or (self.pending and not told):
                    if (request.signal or self.problem) and not told:
                        self.stop()
                        told = True
                    if not told:
                        self.begin()
                    self.look()
                    self.show()
                    time.sleep(POLL)
            finally:
                for process in self.running.values():  # only after a second Ctrl-C or an error of our own
                    process.kill()
                    process.wait()
        if self.problem is not None:
            raise self.problem
        if request.signal is not None:
            print("saved; run the same command again to resume", flush=True)
            raise SystemExit(EXIT_INTERRUPTED if request.signal == signal.SIGINT else EXIT_TERMINATED)

    def begin(self) -> None:
        """Start jobs whose forerunners are finished while there are free workers."""
        waiting = {job.folder.absolute() for job in [*self.pending, *self.running]}
        for job in list(self.pending):
            if len(self.running) < self.workers and not waiting.intersection(job.after):
                self.pending.remove(job)
                self.running[job] = self.launch(job)

    def launch(self, job: Job) -> subprocess.Popen[bytes]:
        words = run_arguments(job.folder, job.words, run_state(job.folder, job.words))
        source = str(Path(vaegan_kernels.__file__).resolve().parents[1])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(log_of(job), "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "vaegan_kernels.train", *words, "--quiet"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                **own_group(),  # a terminal's Ctrl-C reaches this process alone, which passes it on once
            )  # fmt: skip

    def stop(self) -> None:
        """Ask every running job to save and end."""
        number = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)  # the one that Windows sends to a group
        for process in self.running.values():
            process.send_signal(number)

    def look(self) -> None:
        """Take note of the jobs that have ended."""
        for job, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[job]
            if code in (EXIT_INTERRUPTED, EXIT_TERMINATED, -signal.SIGINT):
                log_of(job).unlink(missing_ok=True)  # it saved, because we asked for it
                continue
            self.ended += 1
            if code == 0:
                log_of(job).unlink(missing_ok=True)
                self.done(job)
                continue
            error = last_error(log_of(job)) or f"ended with code {code}; see {log_of(job)}"
            if not self.failed(job, error) and self.problem is None:
                self.problem = UserError(f"{job.folder.name}: {error}")

    def show(self) -> None:
        """A line of progress now and then."""
        now = time.monotonic()
        live = sys.stdout.isatty()
        if self.quiet or now - self.shown < (1.0 if live else SECONDS_BETWEEN_LINES):
            return
        self.shown = now
        parts = {job.folder.name: last_step(job.folder) for job in self.running}
        text = status(self.ended, self.count, parts)
        print(f"\r\033[K{text}  {duration(now - self.start)}" if live else text, end="" if live else "\n", flush=True)

    def note(self, text: str) -> None:
        """Print a line (`StopRequest` calls it)."""
        if not self.quiet:
            print(f"\n{text}" if sys.stdout.isatty() else text, flush=True)


def status(ended: int, count: int, steps: dict[str, int]) -> str:
    """``"3 of 10 runs done; vaegan-seed3 at step 1,200"``."""
    running = ", ".join(f"{name} at step {step:,}" for name, step in steps.items())
    return f"{ended} of {count} runs done{'; ' + running if running else ''}"


def last_step(folder: Path) -> int:
    """The last logged step of a run; 0 before the first."""
    lines = read_metrics(RunFolder(folder).metrics)
    return int(lines[-1]["step"]) if lines else 0


def log_of(job: Job) -> Path:
    """Where a process of `Pool` writes."""
    return job.folder.with_name(job.folder.name + ".log")


def last_error(log: Path) -> str:
    """The text of the last ``error: ...`` line of a log, else an empty string."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else ""
