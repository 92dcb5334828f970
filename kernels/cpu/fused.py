"""The blocks that the networks are made of: convolution, fractional-strided convolution or linear layer, then batch norm
over the batch and ReLU, forward and backward, each as one operation.

    pre = op(x, w),   mean, var = statistics(pre) for each group,   y = relu(γ (pre − mean) rstd + β)

Axis letters as in kernels.cpu.conv2d and kernels.cpu.batch_norm; G groups of images that share statistics.
"""

from __future__ import annotations

import numpy as np

from kernels.below import Below
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
    """y = relu(BN(conv(x, w))).

    Args:
        y, pre: [N, OH, OW, Co], outputs: the activation, and the convolution's result for the backward pass.
        mean, var: [G, Co], outputs; inputs where ``batch_statistics`` is False (running statistics: G = 1).
        x: [N, H, W, Ci]. w: [KH, KW, Ci, Co]. gamma, beta: [Co].
        groups: image counts that sum to N.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    conv2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def conv2d_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Wanted = None, below: Below | None = None,
) -> None:  # fmt: skip
    """Gradients of `conv2d_bn_relu_forward`; ``dy`` is overwritten with the error at ``pre``.

    Args:
        dx: [N, H, W, Ci]; dw: like w; dgamma, dbeta: [Co]: outputs, each None where it is not wanted.
        dy: [N, OH, OW, Co]; the rest as in the forward.
        sums: [2, G, Co], of this block, where the layer above has masked and summed dy already (`kernels.below.Below`); or None.
        below: the layer whose output is x, which is served so in turn; or None.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        conv2d_wgrad(dw, x, dy, stride=stride)
    if dx is not None:
        conv2d_dgrad(dx, dy, w, stride=stride, below=below)


def upconv_bn_relu_forward(
    y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
) -> None:  # fmt: skip
    """y = relu(BN(convᵀ(x, w))). As `conv2d_bn_relu_forward` with y, pre [N, OH, OW, Co] and w [KH, KW, Co, Ci]."""
    conv_transpose2d_forward(pre, x, w, stride=stride)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def upconv_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Wanted = None, below: Below | None = None,
) -> None:  # fmt: skip
    """Gradients of `upconv_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`."""
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        conv_transpose2d_wgrad(dw, x, dy, stride=stride)
    if dx is not None:
        conv_transpose2d_dgrad(dx, dy, w, stride=stride, below=below)


def linear_bn_relu_forward(
    y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: Groups, *, eps: float, batch_statistics: bool = True,
) -> None:  # fmt: skip
    """y = relu(BN(x · w)). As `conv2d_bn_relu_forward` with x [N, I], w [I, O], y and pre [N, O]; statistics a unit."""
    linear_forward(pre, x, w)
    _bn_relu(y, pre, mean, var, gamma, beta, groups, eps, batch_statistics)


def linear_bn_relu_backward(
    dx: Wanted, dw: Wanted, dgamma: Wanted, dbeta: Wanted,
    dy: np.ndarray, y: np.ndarray, pre: np.ndarray, mean: np.ndarray, var: np.ndarray,
    x: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    groups: Groups, *, eps: float, batch_statistics: bool = True, sums: Wanted = None, below: Below | None = None,
) -> None:  # fmt: skip
    """Gradients of `linear_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`."""
    _bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
    if dw is not None:
        linear_wgrad(dw, x, dy)
    if dx is not None:
        linear_dgrad(dx, dy, w, below=below)
