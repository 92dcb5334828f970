"""Convolutions and the blocks made of them by conv2d.cpp, wgrad.cpp, winograd.cpp and fused.cpp; contracts: `kernels.contract.conv2d`,
`kernels.contract.conv_transpose2d`, `kernels.contract.fused`."""

from __future__ import annotations

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.previous import Previous
from kernels.cpu.batch_norm import move_running
from kernels.cpu.native.batch_norm import BatchNorm, Groups, Wanted, counts, previous_arguments
from kernels.cpu.native.elementwise import Elementwise


def extents(large: np.ndarray, small: np.ndarray, w: np.ndarray, stride: int) -> tuple[int, ...]:
    """The sizes that every convolution of the library is given: n, h, w, ci, oh, ow, co, kh, kw, stride."""
    return (*large.shape, *small.shape[1:], w.shape[0], w.shape[1], stride)


class Convolutions(BatchNorm, Elementwise):
    """Operations of the native engine."""

    def _conv2d_forward(
        self, y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: Wanted = None, *, stride: int = 1, activation: str | None = None
    ) -> None:
        self.library.conv2d_forward(y, x, w, bias, *extents(x, y, w, stride), activation == "relu")
        if activation == "tanh":
            self._tanh_forward(y, y)

    def _conv2d_dgrad(self, dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, stride: int = 1, previous: Previous | None = None) -> None:
        self.library.conv2d_dgrad(dx, dy, w, None, *extents(dx, dy, w, stride), 0, *previous_arguments(previous))

    def _conv2d_wgrad(self, dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, stride: int = 1, dbias: Wanted = None) -> None:
        self.library.conv2d_wgrad(dw, x, dy, *extents(x, dy, dw, stride))
        self._sum_columns(dbias, dy)

    def _conv_transpose2d_forward(
        self, y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: Wanted = None, *, stride: int = 2, activation: str | None = None
    ) -> None:
        relu = activation == "relu"
        self.library.conv2d_dgrad(y, x, w, bias, *extents(y, x, w, stride), relu, *previous_arguments(None))
        if activation == "tanh":
            self._tanh_forward(y, y)

    def _conv_transpose2d_dgrad(
        self, dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, stride: int = 2, previous: Previous | None = None
    ) -> None:
        self.library.conv_transpose2d_dgrad(dx, dy, w, *extents(dy, dx, w, stride), *previous_arguments(previous))

    def _conv_transpose2d_wgrad(self, dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, stride: int = 2, dbias: Wanted = None) -> None:
        self.library.conv2d_wgrad(dw, dy, x, *extents(dy, x, dw, stride))
        self._sum_columns(dbias, dy)

    # ---- with batch norm and ReLU ----

    def _conv2d_bn_relu_forward(
        self, y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray, x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
        beta: np.ndarray, groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        self.library.conv_bn_relu_forward(
            y, pre, mean, var, x, w, gamma, beta, *counts(groups), *extents(x, pre, w, stride), False, eps, batch_statistics
        )
        if y is not None:
            move_running(running, mean, var, groups)

    def _upconv_bn_relu_forward(
        self, y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray, x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
        beta: np.ndarray, groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        self.library.conv_bn_relu_forward(
            y, pre, mean, var, x, w, gamma, beta, *counts(groups), *extents(pre, x, w, stride), True, eps, batch_statistics
        )
        if y is not None:
            move_running(running, mean, var, groups)
