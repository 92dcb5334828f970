"""2-D convolution ("same" padding, odd kernels, stride 1 or 2) and its two gradients: launches of kernels.cuda.products.convolve and
kernels.cuda.products.wgrad. Equations and the twin in NumPy: kernels/cpu/conv2d.py.

Axis letters: N images, H W input rows and columns, OH OW output rows and columns (ceil(H / s)), KH KW kernel, Ci Co channels.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from kernels.below import Below
from kernels.cuda.device.base import Device
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.wgrad import wgrad
from kernels.shapes import check_array, check_conv, check_groups

#: Kernel rows or columns whose boundary checks fit a word.
LARGEST = 31


def check_activation(activation: str | None) -> None:
    """Raise `ValueError` unless ``activation`` is None, "relu" or "tanh"."""
    if activation not in (None, "relu", "tanh"):
        raise ValueError(f"activation: got {activation!r}, expected 'relu', 'tanh' or None")


def check_below(below: Below | None, dx: Any, wide: np.dtype[Any]) -> None:
    """Raise `ValueError` unless ``below`` fits a gradient ``dx`` and its dtype; see `Below`."""
    if below is None:
        return
    check_array("below.y", below.y, dx.shape, dx.dtype)
    if below.mean is None:
        return check_array("below.sums", below.sums, (1, 1, below.y.shape[-1]), wide)
    check_groups(below.groups, len(dx))
    check_array("below.pre", below.pre, dx.shape, dx.dtype)
    c, g = len(below.gamma), len(below.groups)
    if dx.shape[-1] % c:
        raise ValueError(f"below: got {c} channels, expected a divisor of dx's last axis, {dx.shape[-1]}")
    for name, array, shape in (
        ("gamma", below.gamma, (c,)), ("beta", below.beta, (c,)), ("mean", below.mean, (g, c)), ("var", below.var, (g, c)),
        ("sums", below.sums, (2, g, c)),
    ):  # fmt: skip
        check_array(f"below.{name}", array, shape, wide)


def _operand(dw: Any, dtype: np.dtype[Any]) -> Any:
    """What `check_conv` looks at, of the weights that ``dw`` is a gradient of: their dtype is the operands'."""
    return SimpleNamespace(shape=dw.shape, ndim=dw.ndim, dtype=dtype, flags=dw.flags, strides=dw.strides)


class Conv2d:
    """Operations of the CUDA engine; ``device``, ``precision``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    precision: str
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def _check_conv(self, large: str, x: Any, small: str, y: Any, w: Any, stride: int) -> None:
        check_conv(large, x, small, y, w, stride)
        check_array(large, x, None, self.dtype)
        if max(w.shape[:2]) > LARGEST:
            raise ValueError(f"w: got a {w.shape[0]}x{w.shape[1]} kernel, expected at most {LARGEST}x{LARGEST}")

    def conv2d_forward(self, y: Any, x: Any, w: Any, bias: Any = None, *, stride: int = 1, activation: str | None = None) -> None:
        """y = activation(conv(x, w) + bias).

        Args:
            y: [N, OH, OW, Co], output.
            x: [N, H, W, Ci].
            w: [KH, KW, Ci, Co], the compute copy.
            bias: float32 [Co] or None.
            stride: 1 or 2.
            activation: "relu", "tanh" or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check_conv("x", x, "y", y, w, stride)
        check_activation(activation)
        if bias is not None:
            check_array("bias", bias, (w.shape[3],), self.wide)
        convolve(self.device, self.precision, y, x, w, kind="forward", stride=stride, epilogue=Epilogue(bias, activation))

    def conv2d_dgrad(self, dx: Any, dy: Any, w: Any, *, stride: int = 1, below: Below | None = None) -> None:
        """dx = ∂L/∂x from dy = ∂L/∂y: the convolution's transpose.

        Args:
            dx: [N, H, W, Ci], output; H and W say which of the two possible sizes is meant where s = 2.
            dy: [N, OH, OW, Co].
            w: [KH, KW, Ci, Co], the compute copy.
            below: the layer whose output is x, whose ReLU and batch-norm sums are then done here; or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check_conv("dx", dx, "dy", dy, w, stride)
        check_below(below, dx, self.wide)
        convolve(self.device, self.precision, dx, dy, w, kind="dgrad", stride=stride, epilogue=Epilogue(previous=below))

    def conv2d_wgrad(self, dw: Any, x: Any, dy: Any, *, stride: int = 1, dbias: Any = None) -> None:
        """dw = ∂L/∂w and dbias = ∂L/∂bias, summed over images and positions.

        Args:
            dw: float32 [KH, KW, Ci, Co], output.
            x: [N, H, W, Ci].
            dy: [N, OH, OW, Co].
            dbias: float32 [Co], output, or None where it is not wanted.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        check_array("dw", dw, None, self.wide)
        self._check_conv("x", x, "dy", dy, _operand(dw, self.dtype), stride)
        if dbias is not None:
            check_array("dbias", dbias, (dw.shape[3],), self.wide)
        wgrad(self.device, self.precision, dw, x, dy, stride=stride, dbias=dbias)
