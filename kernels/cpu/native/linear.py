"""Linear layers and the blocks made of them by linear.cpp; contracts: `kernels.contract.linear`, `kernels.contract.fused`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.previous import Previous
from kernels.cpu.elementwise import number_of
from kernels.cpu.native.batch_norm import BatchNorm, Groups, Wanted


class Linear(BatchNorm):
    """Operations of the native engine."""

    def _linear_forward(self, y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: Wanted = None) -> None:
        self.library.linear_forward(y, x, w, bias, len(x), *w.shape)

    def _linear_dgrad(self, dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, previous: Previous | None = None) -> None:
        self.library.linear_dgrad(dx, dy, w, len(dy), *w.shape)
        self._finish_previous(dx, previous)

    def _linear_wgrad(self, dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, dbias: Wanted = None) -> None:
        self.library.linear_wgrad(dw, x, dy, len(x), *dw.shape)
        self._sum_columns(dbias, dy)

    def _linear_wgrad_rmsprop(
        self, w: np.ndarray, ms: np.ndarray, copy: Wanted, x: np.ndarray, dy: np.ndarray, *, lr: Any, decay: float = 0.9,
        eps: float = 1e-8, weight_decay: float = 0.0, enabled: Wanted = None,
    ) -> None:  # fmt: skip
        if enabled is None or enabled[0]:
            self.library.linear_wgrad_rmsprop(w, ms, x, dy, len(x), *w.shape, number_of(lr), decay, eps, weight_decay)
            if copy is not None and copy is not w:
                np.copyto(copy, w)

    def _linear_bn_relu_forward(
        self, y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray, x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
        beta: np.ndarray, groups: Groups, *, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        self._linear_forward(pre, x, w)
        if batch_statistics:
            self._batch_norm_statistics(mean, var, pre, groups)
        if y is not None:
            self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)
