"""Fractional-strided (transposed) convolution: the transpose of kernels.cuda.conv2d, with the same weight array. Its twin in NumPy:
kernels/cpu/conv_transpose2d.py.

Axis letters: N images, H W input, OH OW output (ceil(OH / s) = H), KH KW kernel, Ci channels of x, Co of y.
"""

from __future__ import annotations

from typing import Any

from kernels.below import Below
from kernels.cuda.conv2d import Conv2d, check_activation, check_below
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.partials import column_sums
from kernels.shapes import check_array


class ConvTranspose2d(Conv2d):
    """Operations of the CUDA engine."""

    def conv_transpose2d_forward(self, y: Any, x: Any, w: Any, bias: Any = None, *, stride: int = 2, activation: str | None = None) -> None:
        """y = activation(convᵀ(x, w) + bias).

        Args:
            y: [N, OH, OW, Co], output.
            x: [N, H, W, Ci].
            w: [KH, KW, Co, Ci], the compute copy.
            bias: float32 [Co] or None.
            activation: "relu", "tanh" or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check_conv("y", y, "x", x, w, stride)
        check_activation(activation)
        if bias is not None:
            check_array("bias", bias, (w.shape[2],), self.wide)
        convolve(self.device, self.precision, y, x, w, kind="dgrad", stride=stride, epilogue=Epilogue(bias, activation))

    def conv_transpose2d_dgrad(self, dx: Any, dy: Any, w: Any, *, stride: int = 2, below: Below | None = None) -> None:
        """dx = ∂L/∂x. Args: dx [N, H, W, Ci], output; dy [N, OH, OW, Co]; w [KH, KW, Co, Ci]; below as in `Conv2d.conv2d_dgrad`.
        Raises as the forward."""
        self._check_conv("dy", dy, "dx", dx, w, stride)
        check_below(below, dx, self.wide)
        convolve(self.device, self.precision, dx, dy, w, kind="forward", stride=stride, epilogue=Epilogue(previous=below))

    def conv_transpose2d_wgrad(self, dw: Any, x: Any, dy: Any, *, stride: int = 2, dbias: Any = None) -> None:
        """dw = ∂L/∂w. Args: dw float32 [KH, KW, Co, Ci], output; x [N, H, W, Ci]; dy [N, OH, OW, Co]; dbias float32 [Co] or None, output.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        if dbias is not None:
            check_array("dbias", dbias, dw.shape[2:3], self.wide)
        self.conv2d_wgrad(dw, dy, x, stride=stride)
        if dbias is not None:
            column_sums(self.device, dbias, dy.reshape(-1, dy.shape[3]))
