"""The blocks that the networks are made of, each as one operation: convolution, fractional-strided convolution or linear layer, then
batch norm over the batch and ReLU. The statistics come from the product's epilogue; in the backward the sums come from the layer above
(``sums``), and dx leaves masked and summed for the layer below (``below``). The twin in NumPy: kernels/cpu/fused.py.

    pre = op(x, w),   mean, var = statistics(pre) for each group,   y = relu(γ (pre − mean) rstd + β)

Axis letters as in kernels.cuda.conv2d and kernels.cuda.linear; G groups of images that share statistics.
"""

from __future__ import annotations

from typing import Any

from kernels.below import Below
from kernels.cuda.batch_norm import BatchNorm
from kernels.cuda.conv_transpose2d import ConvTranspose2d
from kernels.cuda.linear import Linear, product
from kernels.cuda.products.convolve import convolve, linear_splits
from kernels.cuda.products.epilogue import Epilogue, Statistics
from kernels.shapes import check_array, check_groups

Groups = tuple[int, ...]


class Fused(ConvTranspose2d, Linear, BatchNorm):
    """Operations of the CUDA engine."""

    def _epilogue(self, pre: Any, mean: Any, var: Any, groups: Groups, batch_statistics: bool) -> Epilogue:
        check_groups(groups, len(pre))
        for name, array in (("mean", mean), ("var", var)):
            check_array(name, array, (len(groups), pre.shape[-1]), self.wide)
        return Epilogue(statistics=Statistics(mean, var, groups) if batch_statistics else None)

    def conv2d_bn_relu_forward(
        self, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any, beta: Any,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        """y = relu(BN(conv(x, w))).

        Args:
            y, pre: [N, OH, OW, Co], outputs: the activation, and the convolution's result for the backward pass.
            mean, var: float32 [G, Co], outputs; inputs where ``batch_statistics`` is False (running statistics: G = 1).
            x: [N, H, W, Ci]. w: [KH, KW, Ci, Co], the compute copy. gamma, beta: float32 [Co].
            groups: image counts that sum to N.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check_conv("x", x, "pre", pre, w, stride)
        epilogue = self._epilogue(pre, mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="forward", stride=stride, epilogue=epilogue)
        self.batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def conv2d_bn_relu_backward(
        self, dx: Any, dw: Any, dgamma: Any, dbeta: Any,
        dy: Any, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Any = None, below: Below | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `conv2d_bn_relu_forward`; ``dy`` is overwritten with the error at ``pre``.

        Args:
            dx: [N, H, W, Ci]; dw: float32, like w; dgamma, dbeta: float32 [Co]: outputs, each None where it is not wanted.
            dy: [N, OH, OW, Co]; the rest as in the forward.
            sums: float32 [2, G, Co], of this block, where the layer above has masked and summed dy already (`Below`); or None.
            below: the layer whose output is x, which is served so in turn; or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self.conv2d_wgrad(dw, x, dy, stride=stride)
        if dx is not None:
            self.conv2d_dgrad(dx, dy, w, stride=stride, below=below)

    def upconv_bn_relu_forward(
        self, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any, beta: Any,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        """y = relu(BN(convᵀ(x, w))). As `conv2d_bn_relu_forward` with y, pre [N, OH, OW, Co] and w [KH, KW, Co, Ci]."""
        self._check_conv("pre", pre, "x", x, w, stride)
        epilogue = self._epilogue(pre, mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="dgrad", stride=stride, epilogue=epilogue)
        self.batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def upconv_bn_relu_backward(
        self, dx: Any, dw: Any, dgamma: Any, dbeta: Any,
        dy: Any, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True, sums: Any = None, below: Below | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `upconv_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`."""
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self.conv_transpose2d_wgrad(dw, x, dy, stride=stride)
        if dx is not None:
            self.conv_transpose2d_dgrad(dx, dy, w, stride=stride, below=below)

    def linear_bn_relu_forward(
        self, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any, beta: Any,
        groups: Groups, *, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        """y = relu(BN(x · w)). As `conv2d_bn_relu_forward` with x [N, I], w [I, O], y and pre [N, O]; statistics a unit."""
        self._check_linear(("x", "pre"), x, pre, w, self.dtype, (self.dtype,))
        epilogue = self._epilogue(pre, mean, var, groups, batch_statistics)
        split = linear_splits(self.device, self.precision, len(x), *w.shape) > 1
        product(self.device, self.precision, pre, x, w, "forward", Epilogue() if split else epilogue)
        if split and batch_statistics:
            self.batch_norm_statistics(mean, var, pre, groups)
        self.batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def linear_bn_relu_backward(
        self, dx: Any, dw: Any, dgamma: Any, dbeta: Any,
        dy: Any, y: Any, pre: Any, mean: Any, var: Any, x: Any, w: Any, gamma: Any,
        groups: Groups, *, eps: float, batch_statistics: bool = True, sums: Any = None, below: Below | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `linear_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`."""
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self.linear_wgrad(dw, x, dy)
        if dx is not None:
            self.linear_dgrad(dx, dy, w, below=below)

    def _bn_relu_backward(
        self, dgamma: Any, dbeta: Any, dy: Any, y: Any, pre: Any, mean: Any, var: Any, gamma: Any,
        groups: Groups, eps: float, batch_statistics: bool, sums: Any,
    ) -> None:  # fmt: skip
        """dy at y becomes the error at pre, in place."""
        self.batch_norm_backward(
            dy, dy, pre, y, mean, var, gamma, groups, eps=eps, relu=True, batch_statistics=batch_statistics,
            dgamma=dgamma, dbeta=dbeta, sums=sums,
        )  # fmt: skip
