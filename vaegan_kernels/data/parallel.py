"""Many small pictures on all cores: worker processes (Pillow holds the interpreter's lock for most of a small picture's time)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TypeVar

from PIL import Image

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


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle; and a worker must not outlive a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def map_chunks(
    function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[Sequence[R]]:
    """``function`` over ``items`` in chunks, results in order; the same results however many workers there are.

    Args:
        function: picklable; from a chunk of items to as many results.
        items: picklable items.
        workers: processes; None: one a core, or this process alone where the items are few; 1: this process alone.
        progress: called as progress(done, total) after each chunk.
    """
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    if workers is None:
        workers = cores() if len(items) >= _WORTHWHILE else 1
    workers = min(workers, len(chunks), 60)
    done = 0
    if workers > 1:
        # spawn: this process may hold threads (BLAS), which a forked child must not inherit half-way
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
        try:
            for result in pool.map(function, chunks):
                done += len(result)
                if progress is not None:
                    progress(done, len(items))
                yield result
        except (BrokenProcessPool, OSError):
            pass  # no processes to be had (or killed for memory): continue alone from where it stopped
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    with quiet_pillow():
        while done < len(items):
            result = function(items[done : done + _CHUNK])
            done += len(result)
            if progress is not None:
                progress(done, len(items))
            yield result
