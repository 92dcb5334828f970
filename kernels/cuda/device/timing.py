"""Timing of launches: events on a GPU's stream, medians of rounds, launches recorded so that they can be repeated."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kernels.cuda.device.base import Device, Launch


class Span(NamedTuple):
    """Seconds of one call: median, least and largest of the rounds."""

    median: float
    least: float
    largest: float

    def as_dict(self, scale: float = 1.0) -> dict[str, float]:
        return {"median": scale * self.median, "least": scale * self.least, "largest": scale * self.largest}


def once(device: Device, work: Callable[[], None], calls: int) -> float:
    """Seconds of a call, of ``calls`` in a row: between two events on a GPU's stream, by the clock elsewhere."""
    if device.name != "gpu":
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls
    import cupy

    from kernels.cuda.device.gpu import CuPyDevice

    assert isinstance(device, CuPyDevice)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record(device.stream)
    for _ in range(calls):
        work()
    end.record(device.stream)
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3 / calls


def timed(device: Device, work: Callable[[], None], *, rounds: int = 7, seconds: float = 0.02, most: int = 1000) -> Span:
    """The time of ``work``, which must have run before (compiled, its memory allocated); each round takes about ``seconds``."""
    first = once(device, work, 1)
    calls = max(1, min(most, int(seconds / max(first, 1e-7))))
    values = [once(device, work, calls) for _ in range(rounds)]
    return Span(statistics.median(values), min(values), max(values))


def repeated(device: Device, work: Callable[[], None], times: int) -> Callable[[], None]:
    """``times`` calls as one graph where the device can capture: between the launches is then only the GPU's own time."""

    def body() -> None:
        for _ in range(times):
            work()

    graph: Callable[[], None] = device.record(body)
    for _ in range(3):  # allocates, has nothing left to allocate, captures
        graph()
    return graph


class Call(NamedTuple):
    """A launch that can be repeated: ``again()``, and the `Launch` that the device noted."""

    launch: Launch
    again: Callable[[], None]


@contextmanager
def recorded(device: Device, *, run: bool = True) -> Iterator[list[Call]]:
    """Every launch inside the block as a `Call`, in order; with ``run`` it is also executed. Calls hold their arrays, so memory stays."""
    calls: list[Call] = []
    methods: dict[str, Callable[..., None]] = {"triton": device.triton, "cuda": device.cuda}

    def wrap(name: str) -> Callable[..., None]:
        def launch(*args: Any, **kwargs: Any) -> None:
            kept, device.launches = device.launches, []
            try:
                methods[name](*args, **kwargs)
                noted = device.launches
            finally:
                device.launches = kept
            if kept is not None:
                kept.extend(noted)
            calls.append(Call(noted[-1], lambda: methods[name](*args, **kwargs)))

        return launch

    before = dict(vars(device))
    for name in methods:
        setattr(device, name, wrap(name))
    device.rehearsing |= not run
    try:
        yield calls
        device.settle()
    finally:
        device.rehearsing = before.get("rehearsing", False)
        for name in methods:
            if name in before:
                setattr(device, name, before[name])
            else:
                vars(device).pop(name, None)
