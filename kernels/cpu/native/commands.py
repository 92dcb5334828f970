"""Commands of a build: several at once, all ended in time, with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kernels.cpu.threads import available_cores
from kernels.processes import own_group

PATIENCE = 10.0  # seconds for a question, such as a compiler's version


class Unavailable(RuntimeError):
    """There is no native engine here; one line that says why, and what helps where that is known."""


class Failed(Unavailable):
    """A command that failed. ``line``: the line of its messages that says why."""

    def __init__(self, name: str, line: str):
        super().__init__(f"{name} failed: {line}")
        self.line = line


class Commands:
    """Runs commands for ``seconds`` in all; ``name`` is what errors call them, ``folder`` is for their messages."""

    def __init__(self, name: str, folder: Path, seconds: float):
        self.name, self.folder, self.seconds = name, folder, seconds
        self.deadline = time.monotonic() + seconds

    def run(self, commands: Iterable[Sequence[str]]) -> None:
        """Run them, as many at once as there are cores. All are ended when one fails, when time is up and on Ctrl-C.

        Raises:
            Failed: one of them failed.
            Unavailable: time is up.
        """
        waiting = list(commands)
        running: list[tuple[subprocess.Popen[bytes], Path]] = []
        try:
            while waiting or running:
                while waiting and len(running) < available_cores():
                    log = self.folder / f"{len(waiting)}.log"
                    running.append((_start(waiting.pop(0), log), log))
                for process, log in list(running):
                    if process.poll() is not None:
                        running.remove((process, log))
                        if process.returncode:
                            raise Failed(self.name, _why(process.returncode, log))
                if time.monotonic() > self.deadline:
                    raise Unavailable(f"{self.name} did not finish in {self.seconds:g} s")
                time.sleep(0.01)
        finally:
            for process, _ in running:
                _end(process)


def output(*command: str) -> str | None:
    """What a command prints; None where it fails or takes longer than `PATIENCE`."""
    try:
        process = _popen(command, subprocess.PIPE, subprocess.DEVNULL)
    except (OSError, ValueError):
        return None
    with process:
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
    return printed.decode(errors="replace").strip() if process.returncode == 0 else None


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        return _popen(command, file, file)


def _popen(command: Sequence[str], out: Any, err: Any) -> subprocess.Popen[bytes]:
    english = {**os.environ, "LC_ALL": "C"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=english, **own_group())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # a compiler's own children, too
        process.wait()


def _why(code: int, log: Path) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "rror:" in line] or lines
    return one_line(errors[0]) if errors else f"exit code {code}"


def one_line(text: str) -> str:
    """The text in one line that is not too long."""
    return " ".join(text.split())[:200]
