"""One thread that computes, one thing after another: engines are not made for several at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from typing import Any

WAITING = 32  # calls that may wait; more are refused, not remembered
PATIENCE = 60.0  # seconds until a caller is told that it takes too long


class Busy(Exception):
    """Too much is waiting already, or it took too long."""


class Worker:
    """``call(f)`` is f() on the worker's thread, with its result or its exception."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._calls: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue(waiting)
        threading.Thread(target=self._work, name="explorer", daemon=True).start()

    def call(self, function: Callable[[], Any], patience: float | None = PATIENCE) -> Any:
        """The result of ``function``; ``patience`` None waits for ever. Raises `Busy`, or what ``function`` raises."""
        future: Future[Any] = Future()
        try:
            self._calls.put_nowait((future, function))
        except queue.Full:
            raise Busy(f"{self._calls.maxsize} requests wait already; try again in a moment") from None
        try:
            return future.result(patience)
        except LateError:
            if not future.cancel() and future.done():  # it was the function's own, or came just now
                return future.result()
            raise Busy(f"no answer within {patience:.0f} s; try again in a moment") from None

    def _work(self) -> None:
        while True:
            future, function = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
