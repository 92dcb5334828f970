"""Linear layer and its two gradients; contract: `kernels.contract.linear`. The weights are cut among the threads; each element of them
is read once from memory, which is what these products cost at small batches.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.previous import Previous
from kernels.cpu.batch_norm import finish_previous
from kernels.cpu.reduce import column_sums
from kernels.cpu.threads import parallel, ranges, thread_count


def _cut(n: int, work: int) -> list[tuple[int, int]]:
    """[0, n) in a piece a thread; one piece where the product is too small to repay the threads' start."""
    return ranges(n, -(-n // thread_count()) if work > 1 << 20 else n)


def linear_forward(y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> None:

    def work(cut: tuple[int, int]) -> None:
        out = y[:, cut[0] : cut[1]]
        np.matmul(x, w[:, cut[0] : cut[1]], out=out)
        if bias is not None:
            out += bias[cut[0] : cut[1]]

    parallel(work, _cut(w.shape[1], len(x) * w.size))


def linear_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, previous: Previous | None = None) -> None:
    parallel(lambda c: np.matmul(dy, w[c[0] : c[1]].T, out=dx[:, c[0] : c[1]]), _cut(len(w), len(dx) * w.size))
    finish_previous(dx, previous)


def linear_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, dbias: np.ndarray | None = None) -> None:
    parallel(lambda c: np.matmul(x[:, c[0] : c[1]].T, dy, out=dw[c[0] : c[1]]), _cut(len(dw), len(x) * dw.size))
    if dbias is not None:
        column_sums(dbias, dy)
