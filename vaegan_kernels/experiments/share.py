"""An experiment's runs as the tasks of a job array: each trains its share, on machines that have the experiment's folder in common.

``--task I/N`` trains the I-th of N shares; in a Slurm job array (``#SBATCH --array=1-8``) I and N are the array's. ``--report`` trains
nothing and makes the tables of what is there. A run whose loss became no number is marked beside its folder, and is not tried again.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaegan_kernels.experiments.common import finished
from vaegan_kernels.experiments.parallel import Job, train_all
from vaegan_kernels.shell.errors import UserError

SLURM = "SLURM_ARRAY_TASK_"


def add_share(parser: argparse.ArgumentParser) -> None:
    """Add --task and --report."""
    parser.add_argument("--task", metavar="I/N", help="train the I-th of N shares of the runs, I from 1 on (default: a Slurm array's)")
    parser.add_argument("--report", action="store_true", help="train nothing: make the tables of the runs that are finished")


def task_of(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(I, N) of --task, else of Slurm's job array; None: all runs, or --report. Raises `UserError`."""
    if arguments.report:
        if arguments.task is not None:
            raise UserError("--report: trains nothing, so there is no share of it; leave --task out")
        return None
    if arguments.task is not None:
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", arguments.task)
        task = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= task[0] <= task[1]:
            raise UserError(f"--task: got {arguments.task!r}, expected I/N with I from 1 to N, such as 1/4")
        return task
    if SLURM + "ID" not in environment:
        return None
    try:
        number, count, first, step = (int(environment[SLURM + name]) for name in ("ID", "COUNT", "MIN", "STEP"))
        task = ((number - first) // step + 1, count)
    except (KeyError, ValueError, ZeroDivisionError):
        raise UserError(f"{SLURM}ID is set, but not all of COUNT, MIN and STEP beside it; give --task I/N") from None
    if not 1 <= task[0] <= count:
        raise UserError(f"the array's numbers leave some out ({SLURM}ID {number}, COUNT {count}); give such as --array=1-{count}")
    return task


def share_of(jobs: Sequence[Job], task: tuple[int, int] | None) -> list[Job]:
    """The jobs of a task, all for None. One that takes another's result is in the same share as that."""
    if task is None:
        return list(jobs)
    roots: dict[Path, Path] = {}
    for job in sorted(jobs, key=lambda job: len(job.after)):
        folder = job.folder.absolute()
        roots[folder] = roots.get(job.after[0], job.after[0]) if job.after else folder
    order = {root: place for place, root in enumerate(dict.fromkeys(roots[job.folder.absolute()] for job in jobs))}
    return [job for job in jobs if order[roots[job.folder.absolute()]] % task[1] == task[0] - 1]


def diverged(error: str) -> bool:
    """Whether the trainer gave up because a number is none any more: it would do so again."""
    return re.search(r"became -?(nan|inf)|is not finite", error) is not None


def mark(job: Job, error: str) -> bool:
    """Note beside the run's folder that its training diverged; false for any other error."""
    if diverged(error):
        _marker(job).write_text(error.split(";")[0] + "\n", encoding="utf-8")
    return diverged(error)


def failure_of(job: Job) -> str:
    """What `mark` noted; "" for a run that did not fail."""
    try:
        return _marker(job).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _marker(job: Job) -> Path:
    return job.folder.with_name(job.folder.name + ".failed")


def left(jobs: Sequence[Job]) -> int:
    """How many of ``jobs`` are neither finished nor failed."""
    return sum(not finished(job.folder) and not failure_of(job) for job in jobs)


def check_some(jobs: Sequence[Job]) -> None:
    """Raise `UserError` where no run is there to be reported of."""
    if left(jobs) == len(jobs):
        raise UserError(f"--report: no run in {jobs[0].folder.parent} is finished; train them first")


def train_share(arguments: argparse.Namespace, jobs: Sequence[Job], task: tuple[int, int] | None) -> int:
    """Train what is not done of a task's share, and say what is left of all; returns how many runs that are."""
    train_all(
        share_of(jobs, task), workers=arguments.jobs, quiet=arguments.quiet, failed=mark, skip=lambda job: bool(failure_of(job))
    )  # fmt: skip
    count = left(jobs)
    if task is not None:
        print(f"task {task[0]} of {task[1]} is done; of all {len(jobs)} runs {count} are left", flush=True)
    return count


def only_train(arguments: argparse.Namespace, jobs: Sequence[Job]) -> bool:
    """Of an experiment whose tables take more than its runs: in a task, train its share, say how the tables are made, and return true."""
    task = task_of(arguments)
    if task is None:
        return False
    train_share(arguments, jobs, task)
    print("when none are left: the same command with --report makes the tables", flush=True)
    return True
