"""Fractional-strided (transposed) convolution: the transpose of `kernels.contract.conv2d`, with the same weight array.

Its forward is a convolution's dgrad, its dgrad a convolution's forward, and its wgrad a convolution's wgrad with the two
images in exchanged roles. ``y`` gives the output size: both 2·H and 2·H − 1 are possible for H input rows
(``ConvTranspose2d(5, stride=2, padding=2, output_padding=1)`` in PyTorch is the former).

Axis letters: N images, H W input, OH OW output (ceil(OH / s) = H), KH KW kernel, Ci channels of x, Co of y.
"""

from __future__ import annotations

from kernels.contract.checks import check_activation, check_conv, check_optional
from kernels.contract.operation import Array, Contract, operation
from kernels.contract.previous import Previous, check_previous


class ConvTranspose2d(Contract):
    """Operations of the contract."""

    @operation
    def conv_transpose2d_forward(
        self, y: Array, x: Array, w: Array, bias: Array | None = None, *, stride: int = 2, activation: str | None = None
    ) -> None:
        """y = activation(convᵀ(x, w) + bias).

        Args:
            y: [N, OH, OW, Co], output.
            x: [N, H, W, Ci].
            w: [KH, KW, Co, Ci].
            bias: wide [Co] or None.
            activation: "relu", "tanh" or None.
        """
        check_conv("y", y, "x", x, w, stride, self.dtype)
        check_activation(activation)
        check_optional("bias", bias, (w.shape[2],), self.wide)

    @operation
    def conv_transpose2d_dgrad(self, dx: Array, dy: Array, w: Array, *, stride: int = 2, previous: Previous | None = None) -> None:
        """dx = ∂L/∂x. Args: dx [N, H, W, Ci], output; dy [N, OH, OW, Co]; w [KH, KW, Co, Ci]; previous as in `conv2d_dgrad`."""
        check_conv("dy", dy, "dx", dx, w, stride, self.dtype)
        check_previous(previous, dx, self.wide)

    @operation
    def conv_transpose2d_wgrad(self, dw: Array, x: Array, dy: Array, *, stride: int = 2, dbias: Array | None = None) -> None:
        """dw = ∂L/∂w, dbias = ∂L/∂bias. Args: dw wide [KH, KW, Co, Ci], output; x [N, H, W, Ci]; dy [N, OH, OW, Co]; dbias wide [Co],
        output, or None."""
        check_conv("dy", dy, "x", x, dw, stride, self.dtype, weights="dw", w_dtype=self.wide)
        check_optional("dbias", dbias, (dw.shape[2],), self.wide)
