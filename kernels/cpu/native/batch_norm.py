"""Batch norm by batch_norm.cpp, and what other files hand to the library of groups and of the previous layer; contracts:
`kernels.contract.batch_norm`, `kernels.contract.previous`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.previous import Previous
from kernels.cpu.batch_norm import move_running

Groups = tuple[int, ...]
Wanted = np.ndarray | None


@functools.lru_cache(256)
def counts(groups: Groups) -> tuple[np.ndarray, int]:
    """Image counts as the library takes them: int32 [G], and G."""
    return np.array(groups, np.int32), len(groups)


_NOTHING = (None, None, None, None, 0.0, None, 0, 0, None)


def previous_arguments(previous: Previous | None) -> tuple[Any, ...]:
    """The last arguments of the library's dgrads."""
    if previous is None:
        return _NOTHING
    y, pre, mean, var, gamma, _, eps, groups, sums = previous
    c = y.shape[-1] if pre is None else len(gamma)
    return y, pre, mean, var, eps, *counts(groups), c, np.empty(c, np.float32) if sums is None else sums


class BatchNorm:
    """Operations of the native engine."""

    library: Any

    def _batch_norm_statistics(self, mean: np.ndarray, var: np.ndarray, x: np.ndarray, groups: Groups) -> None:
        self.library.batch_norm_statistics(mean, var, x, *counts(groups), *_rows(x))

    def _batch_norm_forward(
        self, y: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: Groups, *,
        eps: float, relu: bool = False, running: Running | None = None,
    ) -> None:  # fmt: skip
        self.library.batch_norm_forward(y, x, mean, var, gamma, beta, *counts(groups), *_rows(x), eps, relu)
        move_running(running, mean, var, groups)

    def _batch_norm_backward(
        self, dx: np.ndarray, dy: np.ndarray, x: np.ndarray, y: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray,
        groups: Groups, *, eps: float, relu: bool = False, batch_statistics: bool = True, dgamma: Wanted = None, dbeta: Wanted = None,
        sums: Wanted = None,
    ) -> None:  # fmt: skip
        self.library.batch_norm_backward(
            dx, dy, x, y, mean, var, gamma, *counts(groups), *_rows(x), eps, relu, batch_statistics, dgamma, dbeta, sums
        )

    def _sum_columns(self, out: Wanted, x: np.ndarray) -> None:
        """Σ over all axes but the last, where it is wanted."""
        if out is not None:
            self.library.column_sums(out, x, x.size // x.shape[-1], x.shape[-1])

    def _finish_previous(self, dx: np.ndarray, previous: Previous | None) -> None:
        """Of the contract; None: nothing is owed."""
        if previous is not None:
            arguments = previous_arguments(previous)
            self.library.finish_previous(dx, len(dx), dx.size // (len(dx) * arguments[7]), *arguments)


def _rows(x: np.ndarray) -> tuple[int, int, int]:
    """Images, rows of an image, channels."""
    n, c = len(x), x.shape[-1]
    return n, x.size // max(1, n * c), c
