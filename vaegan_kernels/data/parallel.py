"""Many small pictures on all cores: worker processes (Pillow holds the interpreter's lock for most of a small picture's time)."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar

from PIL import Image

from kernels.cpu.threads import available_cores
from kernels.processes import outcomes
from vaegan_kernels.data.dataset import Progress

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 128  # items sent at a time, or fewer where they are large
_AHEAD = 4  # chunks that a process may be ahead of what has been passed on: with memory bounded, whoever is slow
_PATIENCE = 10.0  # seconds after which one that waits goes on: the one that it waits for may have been killed
_WORTHWHILE = 600  # with fewer items, starting processes takes longer than they save


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """No warnings about odd files: they are decoded or counted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def map_chunks(
    function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], *, workers: int | None = None, progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Iterator[Sequence[R]]:  # fmt: skip
    """``function`` over ``items`` in chunks, results in order; the same results however many workers there are.

    Args:
        function: of a module; from a chunk of items to as many results.
        items: picklable items.
        workers: processes; None: one a core, or this process alone where the items are few; 1: this process alone.
        progress: called as progress(done, total) after each chunk.
        chunk: items sent at a time.
    """
    if workers is None:
        workers = available_cores() if len(items) >= _WORTHWHILE else 1
    done = 0
    found: dict[int, Sequence[R]] = {}  # whose results were passed on; results that came before their turn

    def passed(result: Sequence[R]) -> Sequence[R]:
        nonlocal done
        done += len(result)
        if progress is not None:
            progress(done, len(items))
        return result

    def sent(start: int) -> Sequence[T]:
        patience = time.monotonic() + _PATIENCE
        while start > done + _AHEAD * workers * chunk and not ended and time.monotonic() < patience:
            time.sleep(0.005)
        return items[start : start + chunk]

    ended = False
    if workers > 1 and len(items) > chunk:
        waiting = deque(range(0, len(items), chunk))
        with closing(outcomes(function, waiting, workers, sent=sent)) as results:
            try:
                for start, result in results:
                    found[start] = result
                    while done in found:
                        yield passed(found.pop(done))
            finally:
                ended = True
    with quiet_pillow():  # no processes to be had, or they were killed for memory: the rest alone
        while done < len(items):
            yield passed(found.pop(done) if done in found else function(items[done : done + chunk]))
