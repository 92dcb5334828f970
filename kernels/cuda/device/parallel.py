"""Compiling many launches at once, in processes of their own.

They are started as plain commands: `multiprocessing` would run the caller's script again in each, which fails where that has no main
guard. They end with the process that started them, whose Ctrl-C is not theirs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from kernels.cuda.device.base import Launch
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.compile import Code, compile_launch, key_of
from kernels.engine import CompilationError

PROGRAM = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from kernels.cuda.device.parallel import serve; serve()"

#: One compilation's launches, and a result for each: its code, or why it has none.
Group = list[Launch]
Outcome = tuple[Group, "list[Code | str]"]
Worker = subprocess.Popen[bytes]


def compile_many(
    launches: Iterable[Launch], chip: Chip, jobs: int, progress: Callable[[int, int], None] | None = None
) -> dict[tuple[Any, ...], Code]:
    """The code of all launches by `key_of`, compiled once each in ``jobs`` processes.

    This process compiles what those do not: all with one job, or where none can be started; what is left where they were killed for
    memory. They do not interpret, even where this one does. ``progress`` is told (done, of), (0, of) at once.

    Raises:
        CompilationError: what did not compile, by name, the first five.
    """
    wanted = {key_of(launch): launch for launch in launches}
    groups: dict[Any, Group] = {}
    for key, launch in wanted.items():  # a file's functions are one compilation
        groups.setdefault((launch.source, launch.defines) if launch.kind == "cuda" else key, []).append(launch)
    slow_first = deque(sorted(groups.values(), key=lambda group: -group[0].cost.flops))
    show = progress or (lambda done, of: None)
    show(0, len(wanted))
    found: dict[tuple[Any, ...], Code | str] = {}
    with contextlib.closing(_outcomes(slow_first, chip, jobs)) as outcomes:
        for group, codes in outcomes:
            found |= zip(map(key_of, group), codes, strict=True)
            show(len(found), len(wanted))
    errors = [code for code in found.values() if isinstance(code, str)]
    if errors:
        text = f"{len(errors)} of {len(found)} kernels do not compile for {chip.name}: {' | '.join(errors[:5])}"
        raise CompilationError(text)
    return {key: code for key, code in found.items() if isinstance(code, Code)}


def _outcomes(waiting: deque[Group], chip: Chip, jobs: int) -> Generator[Outcome, None, None]:
    if jobs > 1 and sys.executable and not getattr(sys, "frozen", False):
        yield from _in_processes(waiting, chip, min(jobs, len(waiting)))
    while waiting:
        group = waiting.popleft()
        yield group, _compile(group, chip)


def _in_processes(waiting: deque[Group], chip: Chip, jobs: int) -> Generator[Outcome, None, None]:
    """Takes from ``waiting``; what a process was given that ended, or that cannot be started, is left there."""
    done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    workers: list[Worker] = []
    threads: list[threading.Thread] = []
    try:
        for _ in range(jobs):
            with contextlib.suppress(OSError):
                workers.append(_start())
                threads.append(threading.Thread(target=_feed, args=(workers[-1], waiting, chip, done), daemon=True))
                threads[-1].start()
        serving = len(workers)
        while serving:
            outcome = done.get()
            if outcome is None:
                serving -= 1
            else:
                yield outcome
    finally:
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in workers:
            _end(worker)


def _start() -> Worker:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,
    )  # fmt: skip


def _end(worker: Worker) -> None:
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):  # what was not sent yet cannot be
            assert pipe is not None
            pipe.close()


def _feed(worker: Worker, waiting: deque[Group], chip: Chip, done: queue.SimpleQueue[Outcome | None]) -> None:
    """Give ``worker`` what waits, one group after the other; None to ``done`` at the end."""
    assert worker.stdin is not None and worker.stdout is not None
    group: Group = []
    try:
        pickle.dump(sys.path, worker.stdin)
        while True:
            group = waiting.popleft()
            pickle.dump(([_portable(launch) for launch in group], chip), worker.stdin)
            worker.stdin.flush()
            done.put((group, pickle.load(worker.stdout)))
            group = []
    except IndexError:  # nothing waits any more
        pass
    except (OSError, EOFError, pickle.UnpicklingError):  # it has ended
        if group:
            waiting.append(group)
    finally:
        done.put(None)


def serve() -> None:
    """A worker: compiles what comes in by its standard input and answers on its standard output, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what compilers print is no answer
    while True:
        try:
            launches, chip = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_compile(launches, chip), answers)
        answers.flush()


def _portable(launch: Launch) -> Launch:
    """A launch that can be sent to another process: a Triton function becomes the name of its module and its own."""
    return launch if launch.kind == "cuda" else dataclasses.replace(launch, source=(launch.source.fn.__module__, launch.source.fn.__name__))


def _compile(launches: Group, chip: Chip) -> list[Code | str]:
    codes: list[Code | str] = []
    for launch in launches:
        try:
            if isinstance(launch.source, tuple):
                module, name = launch.source
                launch = dataclasses.replace(launch, source=getattr(importlib.import_module(module), name))
            codes.append(compile_launch(launch, chip))
        except Exception as error:
            codes.append(_line(str(error)))
    return codes


def _line(text: str) -> str:
    """An error as one short line: its begin says which kernel, its end what is wrong."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:100]} ... {text[-195:]}"
