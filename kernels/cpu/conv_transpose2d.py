"""Fractional-strided convolution by the operations of kernels.cpu.conv2d; contract: `kernels.contract.conv_transpose2d`."""

from __future__ import annotations

import numpy as np

from kernels.contract.previous import Previous
from kernels.cpu.activations import activate
from kernels.cpu.batch_norm import finish_previous
from kernels.cpu.conv2d import conv2d_dgrad, conv2d_forward, conv2d_wgrad
from kernels.cpu.reduce import column_sums
from kernels.cpu.threads import elementwise_rows


def conv_transpose2d_forward(
    y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, *, stride: int = 2, activation: str | None = None
) -> None:
    conv2d_dgrad(y, x, w, stride=stride)
    if bias is not None:
        elementwise_rows(lambda rows: np.add(rows, bias, out=rows), y.reshape(-1, y.shape[3]))
    activate(y, activation)


def conv_transpose2d_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, stride: int = 2, previous: Previous | None = None) -> None:
    conv2d_forward(dx, dy, w, stride=stride)
    finish_previous(dx, previous)


def conv_transpose2d_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, stride: int = 2, dbias: np.ndarray | None = None) -> None:
    conv2d_wgrad(dw, dy, x, stride=stride)
    if dbias is not None:
        column_sums(dbias, dy.reshape(-1, dy.shape[3]))
