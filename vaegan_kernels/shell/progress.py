"""What a person sees while it trains: a live bar on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import math
import shutil
import sys
import time
from typing import Any, TextIO

WIDE = 116  # columns that the bar with all its texts needs
SECONDS_BETWEEN_LINES = 2.0  # plain lines: a log file needs no more


def duration(seconds: float) -> str:
    """``3725`` → ``"1:02:05"``."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def losses_text(line: dict[str, Any], *, short: bool = False) -> str:
    """The part of a metrics line that fits beside a bar; ``short``: in half the room."""
    parts = [f"like {line['like']:.4g}  KL {line['prior']:.3g}"] if "like" in line else []
    if "gan_real" in line:
        parts.append(f"GAN {line['gan_real']:.2f}/{line['gan_generated']:.2f}")
        parts += [] if short else [f"updates dec {line['dec_update_rate']:.0%} dis {line['dis_update_rate']:.0%}"]
    return "  ".join(parts)


class Progress:
    """Use as a context: ``advance`` after every step, ``log`` with every line of metrics, ``note`` for anything else."""

    def __init__(self, steps: int, start: int, *, quiet: bool = False, live: bool | None = None) -> None:
        self.steps, self.start, self.quiet = steps, start, quiet
        self.live = sys.stdout.isatty() if live is None else live
        self.bar: Any = None
        self.task: Any = None
        self.last_line = 0.0
        self.narrow = False

    def __enter__(self) -> Progress:
        if self.live and not self.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.narrow = shutil.get_terminal_size().columns < WIDE
            self.bar = Bar(
                TextColumn("step"), MofNCompleteColumn(), *([] if self.narrow else [BarColumn(bar_width=16)]),
                TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[losses]}"), TimeRemainingColumn(compact=True),
                TextColumn("left"), refresh_per_second=4,
            )  # fmt: skip
            self.task = self.bar.add_task("train", total=self.steps, completed=self.start, losses="", speed="")
            self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def advance(self, step: int) -> None:
        """``step`` steps are done."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def log(self, line: dict[str, Any], seconds_left: float) -> None:
        """Show a line of metrics. Plain lines come at most every two seconds, the first and the last always."""
        if self.quiet:
            return
        speed = f"{line['images_per_second']:.0f} img/s"
        if self.bar is not None:
            self.bar.update(self.task, losses=losses_text(line, short=self.narrow), speed=speed)
            return
        now = time.monotonic()
        if self.last_line == 0.0 or now - self.last_line >= SECONDS_BETWEEN_LINES or line["step"] == self.steps:
            print(f"step {line['step']}/{self.steps}  {losses_text(line)}  {speed}  {duration(seconds_left)} left", flush=True)
            self.last_line = now

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)


class Counter:
    """Progress of reading or drawing the data: called with (done, total), prints a line that overwrites itself on a terminal.

    ``late``: nothing is printed in the first seconds. ``stream``: stdout, unless another is given.
    """

    def __init__(self, what: str, *, quiet: bool = False, late: bool = True, stream: TextIO | None = None) -> None:
        self.what, self.quiet, self.stream = what, quiet, stream or sys.stdout
        self.live = self.stream.isatty()
        self.last = time.monotonic() if late else -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.quiet or (now - self.last < (0.2 if self.live else 5.0) and not (self.live and done == total)):
            return
        self.last = now
        end = "\n" if done == total or not self.live else ""
        print(f"{chr(13) if self.live else ''}{self.what}: {done}/{total}", end=end, file=self.stream, flush=True)
