"""Many small pictures on all cores: worker processes (Pillow holds the interpreter's lock for most of a small picture's time)."""

from __future__ import annotations

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

_CHUNK = 128  # items sent at a time
_WORTHWHILE = 600  # with fewer items, starting processes takes longer than they save


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """No warnings about odd files: they are decoded or counted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def map_chunks(
    function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[Sequence[R]]:
    """``function`` over ``items`` in chunks, results in order; the same results however many workers there are.

    Args:
        function: of a module; from a chunk of items to as many results.
        items: picklable items.
        workers: processes; None: one a core, or this process alone where the items are few; 1: this process alone.
        progress: called as progress(done, total) after each chunk.
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

    if workers > 1 and len(items) > _CHUNK:
        waiting = deque(range(0, len(items), _CHUNK))
        with closing(outcomes(function, waiting, workers, sent=lambda start: items[start : start + _CHUNK])) as results:
            for start, result in results:
                found[start] = result
                while done in found:
                    yield passed(found.pop(done))
    with quiet_pillow():  # no processes to be had, or they were killed for memory: the rest alone
        while done < len(items):
            yield passed(found.pop(done) if done in found else function(items[done : done + _CHUNK]))
