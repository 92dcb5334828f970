"""The blocks that the networks are made of, each as one operation; contract: `kernels.contract.fused`."""

from __future__ import annotations

import numpy as np

from kernels.contract.previous import Previous
from kernels.cpu.batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_statistics
from kernels.cpu.conv2d import conv2d_dgrad, conv2d_forward, conv2d_wgrad
from kernels.cpu.conv_transpose2d import conv_transpose2d_dgrad, conv_transpose2d_forward, conv_transpose2d_wgrad
from kernels.cpu.linear import linear_dgrad, linear_forward, linear_wgrad

Groups = tuple[int, ...]
Wanted = np.ndarray | None


def _bn_relu(y, pre, mean, var, gamma, beta, groups: Groups, eps: float, batch_statistics: bool) -> None:
    if batch_statistics:
        batch_norm_statistics(mean, var, pre, groups)
    batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)


def _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups: Groups, eps: float, batch_statistics: bool, sums) -> None:
    """dy at y becomes the error at pre, in place."""
    batch_norm_backward(
        dy, dy, pre, y, mean, var, gamma, groups, eps=eps, relu=True, batch_statistics=batch_statistics,
        dgamma=dgamma, dbeta=dbeta, sums=sums,
    )  # fmt: skip


def conv2d_bn_relu_forward(
    y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
) -> None:  # fmt: skip
    conv2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def conv2d_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Wanted = None, previous: Previous | None = None,
) -> None:  # fmt: skip
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        conv2d_wgrad(dw, x, dy, stride=stride)
    if dx is not None:
        conv2d_dgrad(dx, dy, w, stride=stride, previous=previous)


def upconv_bn_relu_forward(
    y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
) -> None:  # fmt: skip
    conv_transpose2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def upconv_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Wanted = None, previous: Previous | None = None,
) -> None:  # fmt: skip
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        conv_transpose2d_wgrad(dw, x, dy, stride=stride)
    if dx is not None:
        conv_transpose2d_dgrad(dx, dy, w, stride=stride, previous=previous)


def linear_bn_relu_forward(
    y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, eps: float, batch_statistics: bool = True,
) -> None:  # fmt: skip
    linear_forward(pre, x, w)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def linear_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, eps: float, batch_statistics: bool = True, sums: Wanted = None, previous: Previous | None = None,
) -> None:  # fmt: skip
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        linear_wgrad(dw, x, dy)
    if dx is not None:
        linear_dgrad(dx, dy, w, previous=previous)
