"""The blocks that the networks are made of, each as one operation; contract: `kernels.contract.fused`, where their backward is, too."""

from __future__ import annotations

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.cpu.batch_norm import batch_norm_forward, batch_norm_statistics
from kernels.cpu.conv2d import conv2d_forward
from kernels.cpu.conv_transpose2d import conv_transpose2d_forward
from kernels.cpu.linear import linear_forward

Groups = tuple[int, ...]
Wanted = np.ndarray | None


def _bn_relu(y, pre, mean, var, gamma, beta, groups: Groups, eps: float, batch_statistics: bool, running: Running | None) -> None:
    if batch_statistics:
        batch_norm_statistics(mean, var, pre, groups)
    if y is not None:
        batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)


def conv2d_bn_relu_forward(
    y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, running: Running | None = None,
) -> None:  # fmt: skip
    conv2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics, running)


def upconv_bn_relu_forward(
    y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, running: Running | None = None,
) -> None:  # fmt: skip
    conv_transpose2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics, running)


def linear_bn_relu_forward(
    y: Wanted, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, eps: float, batch_statistics: bool = True, running: Running | None = None,
) -> None:  # fmt: skip
    linear_forward(pre, x, w)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics, running)
