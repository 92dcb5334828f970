"""2-D convolution ("same" padding, odd kernels, stride 1 or 2) and its two gradients.

    y[n, i, j, co] = bias[co] + Σ_{kh, kw, ci} x[n, i·s + kh − p, j·s + kw − p, ci] · w[kh, kw, ci, co]

Axis letters: N images, H W input rows and columns, OH OW output rows and columns (ceil(H / s)), KH KW kernel, Ci Co
channels, p = (K − 1) // 2.
"""

from __future__ import annotations

from kernels.contract.checks import check_activation, check_conv, check_optional
from kernels.contract.operation import Array, Contract, operation
from kernels.contract.previous import Previous, check_previous


class Conv2d(Contract):
    """Operations of the contract."""

    @operation
    def conv2d_forward(
        self, y: Array, x: Array, w: Array, bias: Array | None = None, *, stride: int = 1, activation: str | None = None
    ) -> None:
        """y = activation(conv(x, w) + bias).

        Args:
            y: [N, OH, OW, Co], output.
            x: [N, H, W, Ci].
            w: [KH, KW, Ci, Co].
            bias: wide [Co] or None.
            stride: 1 or 2.
            activation: "relu", "tanh" or None.
        """
        check_conv("x", x, "y", y, w, stride, self.dtype)
        check_activation(activation)
        check_optional("bias", bias, (w.shape[3],), self.wide)

    @operation
    def conv2d_dgrad(self, dx: Array, dy: Array, w: Array, *, stride: int = 1, previous: Previous | None = None) -> None:
        """dx = ∂L/∂x from dy = ∂L/∂y: the convolution's transpose.

            dx[n, h, v, ci] = Σ_{kh, kw, co} dy[n, (h + p − kh)/s, (v + p − kw)/s, co] · w[kh, kw, ci, co]

        over the taps that divide.

        Args:
            dx: [N, H, W, Ci], output; H and W say which of the two possible sizes is meant where s = 2.
            dy: [N, OH, OW, Co].
            w: [KH, KW, Ci, Co].
            previous: the layer whose output is x, whose ReLU and batch-norm sums are then done here; or None.
        """
        check_conv("dx", dx, "dy", dy, w, stride, self.dtype)
        check_previous(previous, dx, self.wide)

    @operation
    def conv2d_wgrad(self, dw: Array, x: Array, dy: Array, *, stride: int = 1, dbias: Array | None = None) -> None:
        """dw = ∂L/∂w and dbias = ∂L/∂bias, summed over images and positions.

            dw[kh, kw, ci, co] = Σ_{n, i, j} x[n, i·s + kh − p, j·s + kw − p, ci] · dy[n, i, j, co]

        Args:
            dw: wide [KH, KW, Ci, Co], output.
            x: [N, H, W, Ci].
            dy: [N, OH, OW, Co].
            dbias: wide [Co], output, or None where it is not wanted.
        """
        check_conv("x", x, "dy", dy, dw, stride, self.dtype, weights="dw", w_dtype=self.wide)
        check_optional("dbias", dbias, (dw.shape[3],), self.wide)
