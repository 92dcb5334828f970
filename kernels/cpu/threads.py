"""Work in pieces on all cores: a parallel loop, scratch memory for each thread, and BLAS kept to one thread.

Each piece of an operation copies what it needs into its thread's scratch and calls BLAS there, so that the copy, the
product and the element-wise work of a piece all run in parallel. BLAS must therefore not start
threads of its own. Pieces write to places of their own, or to numbered partial sums that are added in order:
no result depends on which thread ran which piece.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

_pool: ThreadPoolExecutor | None = None
_threads = 1
_local = threading.local()


def available_cores() -> int:
    """Cores that this process may run on (respects CPU affinity where the system has it)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure(threads: int | None) -> int:
    """Set the process-wide number of worker threads (None: every core) and return it."""
    global _pool, _threads
    # OpenBLAS, the BLAS of NumPy's wheels: others in the process (torch's MKL in the benchmarks) are left alone.
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    threads = threads or available_cores()
    if threads != _threads or _pool is None:
        if _pool is not None:
            _pool.shutdown()
        _threads = threads
        _pool = ThreadPoolExecutor(threads - 1, "vaegan-kernels") if threads > 1 else None
    return threads


def thread_count() -> int:
    """The number of threads that `parallel` uses."""
    return _threads


def parallel(work: Callable[[T], Any], pieces: Iterable[T]) -> None:
    """Call ``work(piece)`` for every piece, in any order, on all threads; the first exception is raised here."""
    pieces = list(pieces)
    pool = _pool
    if pool is None or len(pieces) < 2:
        for piece in pieces:
            work(piece)
        return
    queue = iter(pieces)  # next() on a list iterator is atomic under the GIL: threads take pieces as they get free

    def drain() -> None:
        for piece in queue:
            work(piece)

    futures = [pool.submit(drain) for _ in range(min(_threads, len(pieces)) - 1)]
    try:
        drain()
    finally:
        for future in futures:
            future.result()


def scratch(name: str, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An uninitialised array that lives until this thread asks for the same name again. Grows, never shrinks."""
    buffers: dict[str, np.ndarray] = _local.__dict__.setdefault("buffers", {})
    size = 1
    for extent in shape:
        size *= extent
    nbytes = size * np.dtype(dtype).itemsize
    buffer = buffers.get(name)
    if buffer is None or buffer.nbytes < nbytes:
        buffers[name] = buffer = np.empty(nbytes, np.uint8)
    return buffer[:nbytes].view(dtype).reshape(shape)


#: Largest and smallest element-wise piece, in elements. Large ones, although they leave the L2 cache: between two NumPy calls
#: a thread must take the interpreter's lock back, and pieces of 10 µs a call ran slower on two threads than on one.
LARGEST, SMALLEST = 1 << 19, 1 << 18


def piece_size(elements: int) -> int:
    """Elements of a piece: an even share for each thread, within LARGEST and SMALLEST."""
    return min(LARGEST, max(SMALLEST, -(-elements // _threads)))


def add_product(out: np.ndarray, a: np.ndarray, b: np.ndarray, *, first: bool) -> None:
    """out = a · b for the first piece of a sum, out += a · b for the later ones (BLAS's beta, which NumPy does not offer)."""
    if first:
        np.matmul(a, b, out=out)
    else:
        out += np.matmul(a, b, out=scratch("product", out.shape, out.dtype))


def ranges(n: int, step: int) -> list[tuple[int, int]]:
    """[0, n) cut into pieces of at most ``step``."""
    step = max(1, step)
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def elementwise(work: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Call ``work`` on matching flat pieces of ``arrays`` (C-contiguous, equal sizes), in parallel."""
    flat = [a.reshape(-1) for a in arrays]
    parallel(lambda r: work(*(a[r[0] : r[1]] for a in flat)), ranges(flat[0].size, piece_size(flat[0].size)))


def elementwise_rows(work: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Call ``work`` on matching pieces of rows of 2-D ``arrays`` with equal row counts, in parallel."""
    columns = max(1, max(a.shape[1] for a in arrays))
    step = piece_size(len(arrays[0]) * columns) // columns
    parallel(lambda r: work(*(a[r[0] : r[1]] for a in arrays)), ranges(len(arrays[0]), step))
