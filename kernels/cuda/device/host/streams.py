"""Streams and events of the emulated GPU: what a stream is given is done as late as events allow, so that a missing wait is seen."""

from __future__ import annotations

import threading
from collections.abc import Callable

LOCK = threading.RLock()  # of all streams: the launches' thread and one that copies share them


class HostEvent:
    """A place in a stream: ``stream`` has come to it when it has done ``place`` items."""

    def __init__(self) -> None:
        self.stream: HostStream | None = None
        self.place = 0

    def reach(self) -> None:
        """Do what lies before it. An event that was never recorded has nothing before it."""
        if self.stream is not None:
            self.stream.advance(self.place)

    def synchronize(self) -> None:
        with LOCK:
            self.reach()


class HostStream:
    """Items that are done in order, none before somebody waits for it."""

    def __init__(self) -> None:
        self.items: list[Callable[[], None]] = []  # not done yet
        self.done = 0

    def add(self, item: Callable[[], None]) -> None:
        with LOCK:
            self.items.append(item)

    def advance(self, place: int) -> None:
        """Do items until ``place`` of them are done."""
        while self.items and self.done < place:
            self.done += 1
            self.items.pop(0)()

    def wait_event(self, event: HostEvent) -> None:
        """What is added from here on comes after what ``event`` marks now: a later record changes nothing."""
        with LOCK:
            marked = HostEvent()
            marked.stream, marked.place = event.stream, event.place
            self.add(marked.reach)

    def record(self, event: HostEvent) -> None:
        with LOCK:
            event.stream, event.place = self, self.done + len(self.items)

    def synchronize(self) -> None:
        with LOCK:
            self.advance(self.done + len(self.items))


class LaunchStream(HostStream):
    """The stream of the launches, which are made at once: so is what they wait for."""

    def add(self, item: Callable[[], None]) -> None:
        super().add(item)
        self.synchronize()
