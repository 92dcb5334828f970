"""Fractional-strided (transposed) convolution: the transpose of kernels.cpu.conv2d, with the same weight array.

Its forward is a convolution's dgrad, its dgrad a convolution's forward, and its wgrad a convolution's wgrad with the two
images in exchanged roles. ``y`` gives the output size: both 2·H and 2·H − 1 are possible for H input rows
(``ConvTranspose2d(5, stride=2, padding=2, output_padding=1)`` in PyTorch is the former).

Axis letters: N images, H W input, OH OW output (ceil(OH / s) = H), KH KW kernel, Ci channels of x, Co of y.
"""

from __future__ import annotations

import numpy as np

from kernels.below import Below
from kernels.cpu.activations import activate
from kernels.cpu.batch_norm import finish_below
from kernels.cpu.conv2d import conv2d_dgrad, conv2d_forward, conv2d_wgrad
from kernels.cpu.reduce import column_sums
from kernels.cpu.threads import elementwise_rows
from kernels.shapes import check_array


def conv_transpose2d_forward(
    y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, *, stride: int = 2, activation: str | None = None
) -> None:
    """y = activation(convᵀ(x, w) + bias). Args: y [N, OH, OW, Co], output; x [N, H, W, Ci]; w [KH, KW, Co, Ci]; bias [Co] or None;
    activation "relu", "tanh" or None.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    if bias is not None:
        check_array("bias", bias, (w.shape[2],), x.dtype)
    conv2d_dgrad(y, x, w, stride=stride)
    if bias is not None:
        elementwise_rows(lambda rows: np.add(rows, bias, out=rows), y.reshape(-1, y.shape[3]))
    activate(y, activation)


def conv_transpose2d_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, stride: int = 2, below: Below | None = None) -> None:
    """dx = ∂L/∂x. Args: dx [N, H, W, Ci], output; dy [N, OH, OW, Co]; w [KH, KW, Co, Ci]; below as in `conv2d_dgrad`. Raises as the
    forward."""
    conv2d_forward(dx, dy, w, stride=stride)
    finish_below(dx, below)


def conv_transpose2d_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, stride: int = 2, dbias: np.ndarray | None = None) -> None:
    """dw = ∂L/∂w. Args: dw [KH, KW, Co, Ci], output; x [N, H, W, Ci]; dy [N, OH, OW, Co]; dbias [Co] or None, output.

    Raises:
        ValueError: a shape, dtype or layout that does not fit.
    """
    conv2d_wgrad(dw, dy, x, stride=stride)
    if dbias is not None:
        check_array("dbias", dbias, (dw.shape[2],), dy.dtype)
        column_sums(dbias, dy.reshape(-1, dy.shape[3]))
