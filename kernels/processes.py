"""Work in other processes of this Python, which are started as plain commands.

`multiprocessing` would run the caller's script again in each, which fails where that has no main guard. They end with the process that
started them, whose Ctrl-C is not theirs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Worker = subprocess.Popen[bytes]

PROGRAM = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from kernels.processes import serve; serve()"


def own_group() -> dict[str, Any]:
    """Options of `subprocess.Popen` for a process that a terminal's Ctrl-C does not reach, on Windows neither."""
    return {"start_new_session": True, "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


def signal_group(process: subprocess.Popen[Any], kill: bool) -> None:
    """Ask a process of its `own_group` and all that it started to end, or end them; Windows ends the process alone."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and hasattr(signal, "SIGKILL"):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        else:
            process.kill()


def outcomes(
    function: Callable[[Any], R], waiting: deque[T], jobs: int, *, sent: Callable[[T], Any] = lambda item: item, without: str = ""
) -> Generator[tuple[T, R], None, None]:
    """(item, ``function(sent(item))``) of the items in ``waiting``, as they get done in ``jobs`` processes.

    What is not done is left in ``waiting`` for the caller: where no process can be started, none knows the function, one was killed or the
    function raised. ``without``: a variable of the environment that they are not given.
    """
    done: queue.SimpleQueue[tuple[T, R] | None] = queue.SimpleQueue()
    workers: list[Worker] = []
    threads: list[threading.Thread] = []
    able = bool(sys.executable) and not getattr(sys, "frozen", False)
    try:
        for _ in range(min(jobs, len(waiting)) if able else 0):
            with contextlib.suppress(OSError):
                workers.append(_start(without))
                threads.append(threading.Thread(target=_feed, args=(workers[-1], function, waiting, sent, done), daemon=True))
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


def _start(without: str) -> Worker:
    environment = {name: value for name, value in os.environ.items() if name != without}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        **own_group(),
    )  # fmt: skip


def _end(worker: Worker) -> None:
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):  # what was not sent yet cannot be
            assert pipe is not None
            pipe.close()


def _feed(worker: Worker, function: Any, waiting: deque[Any], sent: Callable[[Any], Any], done: queue.SimpleQueue[Any]) -> None:
    """Give ``worker`` what waits, one item after the other; None to ``done`` at the end."""
    assert worker.stdin is not None and worker.stdout is not None
    held: list[Any] = []
    try:
        pickle.dump(sys.path, worker.stdin)
        pickle.dump(function, worker.stdin)
        while True:
            held.append(waiting.popleft())
            pickle.dump(sent(held[0]), worker.stdin)
            worker.stdin.flush()
            done.put((held[0], pickle.load(worker.stdout)))
            held.clear()
    except Exception:  # nothing waits any more, it has ended, or what it should do cannot be sent
        waiting.extend(held)
    finally:
        done.put(None)


def serve() -> None:
    """A worker: does what comes in by its standard input and answers on its standard output, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what others print is no answer
    warnings.simplefilter("ignore")
    function = pickle.load(sys.stdin.buffer)
    while True:
        try:
            item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(function(item), answers)
        answers.flush()
