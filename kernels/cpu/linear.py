"""Linear layer and its two gradients: y = x · w + bias.

Axis letters: N rows (images), I inputs, O outputs. The weights are cut among the threads; each element of them is read
once from memory, which is what these products cost at small batches.
"""

from __future__ import annotations

import numpy as np

from kernels.below import Below
from kernels.cpu.batch_norm import finish_below
from kernels.cpu.reduce import column_sums
from kernels.cpu.threads import parallel, ranges, thread_count
from kernels.shapes import check_array, check_float


def _check(x: np.ndarray, y: np.ndarray, w: np.ndarray, names: tuple[str, str]) -> None:
    check_float(names[0], x, 2)
    check_float("w", w, 2)
    if w.shape[0] != x.shape[1]:
        raise ValueError(f"w: got shape {w.shape}, expected {x.shape[1]} rows, the columns of {names[0]} {x.shape}")
    check_array("w", w, None, x.dtype)
    check_array(names[1], y, (len(x), w.shape[1]), x.dtype)


def _cut(n: int, work: int) -> list[tuple[int, int]]:
    """[0, n) in a piece a thread; one piece where the product is too small to repay the threads' start."""
    return ranges(n, -(-n // thread_count()) if work > 1 << 20 else n)


def linear_forward(y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> None:
    """y = x · w + bias. Args: y [N, O], output; x [N, I]; w [I, O]; bias [O] or None.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    _check(x, y, w, ("x", "y"))
    if bias is not None:
        check_array("bias", bias, (w.shape[1],), x.dtype)

    def work(cut: tuple[int, int]) -> None:
        out = y[:, cut[0] : cut[1]]
        np.matmul(x, w[:, cut[0] : cut[1]], out=out)
        if bias is not None:
            out += bias[cut[0] : cut[1]]

    parallel(work, _cut(w.shape[1], len(x) * w.size))


def linear_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, below: Below | None = None) -> None:
    """dx = dy · wᵀ. Args: dx [N, I], output; dy [N, O]; w [I, O]; below as in `conv2d_dgrad`. Raises as `linear_forward`."""
    _check(dx, dy, w, ("dx", "dy"))
    parallel(lambda c: np.matmul(dy, w[c[0] : c[1]].T, out=dx[:, c[0] : c[1]]), _cut(len(w), len(dx) * w.size))
    finish_below(dx, below)


def linear_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, dbias: np.ndarray | None = None) -> None:
    """dw = xᵀ · dy, dbias = Σ_n dy. Args: dw [I, O], output; x [N, I]; dy [N, O]; dbias [O], output, or None.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    _check(x, dy, dw, ("x", "dy"))
    parallel(lambda c: np.matmul(x[:, c[0] : c[1]].T, dy, out=dw[c[0] : c[1]]), _cut(len(dw), len(x) * dw.size))
    if dbias is not None:
        check_array("dbias", dbias, (dw.shape[1],), x.dtype)
        column_sums(dbias, dy)
