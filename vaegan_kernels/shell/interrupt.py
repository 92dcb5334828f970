"""Ctrl-C, from a command's first import to its end: one line, exit status 130. Imported before all else: the standard library alone.

What Python itself does before it imports this package, some hundredths of a second, still answers with a traceback of its own.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, ClassVar

EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells expect
PATIENCE = 1.0  # seconds after a Ctrl-C in which others are ignored: files and processes are being cleared away
SCRIPTS = ("vaegan", "vaegan.exe")


def begin() -> None:
    """Where this package is imported for a command of its own, `python -m` or a script's, let Ctrl-C end the process at once."""
    if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def is_command() -> bool:
    """Whether this process was started for one of the package's commands. While Python looks for the module of ``-m`` it is argv[0]."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":
        return any(word.removeprefix("-m").split(".")[0] == "vaegan_kernels" for word in sys.orig_argv)
    return os.path.basename(first) in SCRIPTS


def tell() -> None:
    """The line."""
    with contextlib.suppress(OSError, ValueError):
        print("interrupted", file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")  # a print may be what was interrupted
    os._exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What is done in no time, and must not be left half done: a Ctrl-C meanwhile comes after it."""
    work = Interruptible.current
    if work is not None:
        work.holding = True
    try:
        yield
    finally:
        if work is not None:
            work.holding = False
    if work is not None and work.hit and work.since is None:
        work.interrupt()


class Interruptible:
    """A command's work, as a context: the first Ctrl-C raises KeyboardInterrupt, ``hit`` says that there was one, whatever became of that.

    A later one than `PATIENCE` ends the process at once. After the work of a command of this package nothing is interrupted any more.
    """

    current: ClassVar[Interruptible | None] = None

    def __init__(self) -> None:
        self.hit = self.holding = False
        self.since: float | None = None
        self.previous: Any = None
        self.unraisable = sys.unraisablehook

    def __enter__(self) -> Interruptible:
        if signal.getsignal(signal.SIGINT) in (_leave, signal.default_int_handler):  # otherwise someone else's
            with contextlib.suppress(ValueError):  # not the main thread
                self.previous = signal.signal(signal.SIGINT, self._handle)
                sys.unraisablehook = self._lost
                Interruptible.current = self
        return self

    def __exit__(self, *error: Any) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if self.previous is _leave else self.previous)
            sys.unraisablehook = self.unraisable
            Interruptible.current = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.hit = True
        if self.since is not None and time.monotonic() - self.since > PATIENCE:
            _leave(number, frame)
        if self.since is None and not self.holding:
            self.interrupt()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt."""
        self.since = time.monotonic()
        raise KeyboardInterrupt

    def _lost(self, args: Any) -> None:
        """Called where an exception cannot be raised, in a finaliser: a Ctrl-C there comes again, a little later."""
        if args.exc_type is KeyboardInterrupt:
            self.since = None
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            self.unraisable(args)


class StopRequest:
    """Remembers a first Ctrl-C, SIGTERM or SIGHUP (Windows: or Ctrl-Break) so that the step in hand can end; a second interrupts at once.

    A SIGHUP that is ignored, as under nohup, stays so.
    """

    def __init__(self, progress: Any) -> None:
        self.signal: int | None = None
        self.progress = progress
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and signal.getsignal(hangup) == signal.SIG_IGN:
            hangup = None
        for number in (signal.SIGINT, signal.SIGTERM, *filter(None, [hangup, getattr(signal, "SIGBREAK", None)])):
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: the program around this one handles signals
                break
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if callable(around := self.previous.get(signal.SIGINT)):  # the command's own, which keeps count
                around(number, frame)
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(OSError, RuntimeError):  # a reader that is gone; a print that was itself interrupted
            self.progress.note("stopping after this step and saving (Ctrl-C once more stops at once)")
