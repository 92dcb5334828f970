"""What this CPU can do: the rate of a large float32 matrix product, and of a copy that no cache holds. The roofline of `bench.report`.

(For a GPU: `bench.gpu.peaks`.)
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SIZE, COPY = 1536, 96 << 20  # rows of the matrices; bytes copied


def measure(threads: int, rounds: int = 5) -> dict[str, Any]:
    """{"gflop_per_s", "gb_per_s"}, each the best of ``rounds``, on ``threads`` threads that each work on a part, as our kernels do."""
    from kernels.cpu import threads as pool

    pool.configure(threads)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2))
    parts = np.array_split(np.arange(SIZE), threads)
    out = np.empty((SIZE, SIZE), np.float32)
    source, target = (np.ones(COPY // 4, np.float32) for _ in range(2))
    bounds = np.array_split(np.arange(0, len(source) + 1, max(1, len(source) // (4 * threads))), 1)[0]

    def product(rows: Any) -> None:
        np.matmul(a[rows[0] : rows[-1] + 1], b, out=out[rows[0] : rows[-1] + 1])

    def copy(k: int) -> None:
        target[bounds[k] : bounds[k + 1]] = source[bounds[k] : bounds[k + 1]]

    def best(work: Any, items: Any) -> float:
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            pool.parallel(work, items)
            times.append(time.perf_counter() - start)
        return min(times[1:])

    return {
        "gflop_per_s": round(2 * SIZE**3 / best(product, parts) / 1e9, 1),
        "gb_per_s": round(2 * COPY / best(copy, range(len(bounds) - 1)) / 1e9, 1),  # read and written
    }
