"""The processes of a job that `mpiexec` or `srun` has started: what they must agree on, who speaks, and how all end when one does.

A command that is alone is a job of one process, and notices nothing of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from kernels import Engine
from kernels.cpu.threads import available_cores
from kernels.ranks import mpi
from kernels.ranks.engine import RankedEngine
from kernels.ranks.nccl import of_device
from kernels.ranks.ranks import shards
from vaegan_kernels.shell.cli import EXIT_USER_ERROR, described, fail
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import EXIT_INTERRUPTED

Made = TypeVar("Made")
EXIT_LATE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong with the job itself
PASS_ON = 0.5  # seconds in which a launcher takes what was printed: MPICH's drops it where it comes together with the end
TURN = 2.0  # seconds by which each process lets the one before it speak first: what ends all of them is said once
LAST_TURN = 10.0  # seconds that the last ones wait, however many there are


class Agreed(UserError):
    """One that every process knows of."""


class Job:
    """This process among the others, as a context around all that a command does. What fails within it on one process ends all of them.

    Attributes: ``rank``, this process's number, ``size``, how many there are, and ``speaks``, whether it is the one (number 0) that
    prints, draws and writes files; ``threads``, how many of its cores' a process has, or None where it has them all.
    """

    def __init__(self) -> None:
        try:
            self.ranks: mpi.MPIRanks | None = mpi.find()
        except RuntimeError as error:
            if mpi.rank_of_launch() == 0:
                raise UserError(str(error)) from None
            raise SystemExit(EXIT_USER_ERROR) from None
        self.rank, self.size = (self.ranks.rank, self.ranks.size) if self.ranks else (0, 1)
        self.speaks = self.rank == 0
        self.threads: int | None = None
        if self.ranks is not None:  # those that have the same cores share them
            own = self.ranks.machine, sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            share = max(1, available_cores() // self.ranks.exchange(own).count(own))
            self.threads = min(self.ranks.exchange(share))  # as many on each, for the bits of NumPy's products depend on them
        self.heard = sys.stderr
        self.turn = min(self.rank * TURN, LAST_TURN)

    def __enter__(self) -> Job:
        if not self.speaks:
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """An exception of this process alone ends the others too; `SystemExit` is what all have agreed on."""
        if self.ranks is None or error is None or isinstance(error, SystemExit | Agreed):
            return
        time.sleep(self.turn)  # where all fail alike, the first one has ended the others by now
        sys.stderr = self.heard
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=self.heard, flush=True)
            self.leave(EXIT_INTERRUPTED)
        problem = described(error)
        if problem is None and type(error).__module__.startswith("mpi4py"):
            problem = f"MPI: {str(error).splitlines()[0]}; --resume goes on from the last checkpoint"
        if problem is None:
            traceback.print_exception(error, file=self.heard)
        else:
            fail(self.named(self.rank, problem))
        self.leave(EXIT_USER_ERROR)

    def leave(self, code: int) -> NoReturn:
        """End this process and, with it, all others: that is what launchers do when one ends without a word to MPI."""
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        assert self.ranks is not None
        time.sleep(PASS_ON)
        self.ranks.abort(code)
        os._exit(code)

    def named(self, rank: int, text: str) -> str:
        """``text``, with the number of the process that it is of, unless that is the first."""
        return text if rank == 0 else f"process {rank} of {self.size}: {text}"

    # ---- what all agree on ----

    def agreed(self, make: Callable[[], Made]) -> Made:
        """What ``make`` gives on this process. Where it fails on one of them, all end, and the first one says why."""
        if self.ranks is None:
            return make()
        made: Made | None = None
        left: SystemExit | None = None
        problem: str | None = None
        try:
            made = make()
        except SystemExit as error:
            left = error
        except Exception as error:
            problem = described(error)
            if problem is None:
                raise
        found = self.ranks.exchange((problem, left is not None))
        if left is not None:
            raise left
        for rank, (text, gone) in enumerate(found):
            if text is not None or gone:
                self.give_up(self.named(rank, str(text)) if text else "")
        return made  # type: ignore[return-value]

    def give_up(self, text: str) -> NoReturn:
        """To be called on every process: the first one raises `UserError`, the others end without a word."""
        if not self.speaks or not text:
            raise SystemExit(EXIT_USER_ERROR)
        raise Agreed(text)

    def shared(self, make: Callable[[], Made]) -> Made:
        """What ``make`` gives on the first process, on all of them; the others do not call it."""
        if self.ranks is None:
            return make()
        return self.ranks.exchange(self.agreed(make if self.speaks else lambda: None))[0]

    def one_by_one(self, make: Callable[[], Made]) -> Made:
        """``make`` on the first process of each machine, and then, when what it leaves in caches is there, on the others."""
        if self.ranks is None or self.ranks.local == 0:
            made = self.agreed(make)
            self.agreed(lambda: None)
            return made
        self.agreed(lambda: None)
        return self.agreed(make)

    def check_same(self, facts: Callable[[], dict[str, Any]]) -> None:
        """End all where one process has another value than the first; what differs is said. Alone there are no ``facts`` to make."""
        if self.ranks is None:
            return
        found = self.ranks.exchange(facts())
        for rank, theirs in enumerate(found):
            for name, value in found[0].items():
                if theirs.get(name) != value:
                    self.give_up(
                        f"process {rank} of {self.size} has {name} {theirs.get(name)}, process 0 has {value}; they must be the same"
                    )

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return number if self.ranks is None else self.ranks.largest(number)

    # ---- a batch that they share ----

    def share_batch(self, engine: Engine, images: int, *, sync: bool) -> Engine:
        """``engine`` for this process's images of a batch of ``images``."""
        if self.ranks is None:
            return engine
        try:
            return RankedEngine(engine, of_device(self.ranks, engine.device), images, sync=sync)
        except RuntimeError as error:
            raise UserError(f"--{error}") from None

    def describe(self, images: int) -> str:
        """A line for the user, "" where there is one process."""
        if self.size == 1:
            return ""
        counts = shards(images, self.size)
        each = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} or {counts[-1]}"
        return f"{self.size} processes, each with {each} of a batch's {images} images"

    # ---- one that does not answer ----

    @contextlib.contextmanager
    def watch(self, seconds: float) -> Iterator[None]:
        """Within it no process waits longer than ``seconds`` for the others: it says so, and ends all."""
        if self.ranks is None:
            yield
            return
        ended = threading.Event()
        ranks = self.ranks

        def look() -> None:
            while not ended.wait(min(1.0, seconds / 10)):
                since = ranks.waiting
                if since is not None and time.monotonic() - since > seconds + self.turn:
                    sys.stderr = self.heard
                    late = self.named(self.rank, f"waited {seconds:g} s for the other processes, of which one hangs, is gone or is slow")
                    fail(f"{late} (--rank-timeout); --resume goes on from the last checkpoint")
                    self.leave(EXIT_LATE)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()


def software() -> dict[str, Any]:
    """What of this process's software a step's bits depend on: each package's version, and a checksum of this program's own files."""
    from vaegan_kernels.runs.checkpoint import versions

    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for floor in ("kernels", "models", "vaegan_kernels"):
        for path in sorted((root / floor).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh", ".cpp", ".h"):
                digest.update(path.read_bytes())
    return {
        **{f"the version of {name}": version for name, version in versions().items()},
        "program files with the checksum": digest.hexdigest()[:12],
    }
