"""The blocks that the networks are made of, each as one operation: convolution, fractional-strided convolution or linear layer, then
batch norm over the batch and ReLU.

    pre = op(x, w),   mean, var = statistics(pre) for each group,   y = relu(γ (pre − mean) rstd + β)

Axis letters as in `kernels.contract.conv2d` and `kernels.contract.linear`; G groups of images that share statistics.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels.contract.batch_norm import BatchNorm, Running
from kernels.contract.checks import check_array, check_conv, check_optional
from kernels.contract.linear import check_linear
from kernels.contract.operation import Array, operation
from kernels.contract.previous import Previous, check_previous

Groups = tuple[int, ...]


class Fused(BatchNorm):
    """Operations of the contract. ``eps``: of the batch norm."""

    def _check_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None, dy: Array, y: Array, pre: Array,
        mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, sums: Array | None, previous: Previous | None,
    ) -> None:  # fmt: skip
        self._check_batch_norm(pre, mean, var, groups, "pre")
        check_array("dy", dy, pre.shape, self.dtype)
        if sums is None:
            check_array("y", y, pre.shape, self.dtype)
        for name, array in (("gamma", gamma), ("dgamma", dgamma), ("dbeta", dbeta)):
            check_optional(name, array, pre.shape[-1:], self.wide)
        check_optional("sums", sums, (2, *mean.shape), self.wide)
        check_optional("dx", dx, x.shape, self.dtype)
        check_optional("dw", dw, w.shape, self.wide)
        if dx is not None:
            check_previous(previous, dx, self.wide)

    @operation
    def conv2d_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        """y = relu(BN(conv(x, w))).

        Args:
            y, pre: [N, OH, OW, Co], outputs: the activation, and the convolution's result for the backward pass. y None: pre and its
                statistics alone are made, and ``running`` is not moved: others are to have a part in them (`kernels.ranks`).
            mean, var: wide [G, Co], outputs; inputs where ``batch_statistics`` is False (running statistics: G = 1).
            x: [N, H, W, Ci]. w: [KH, KW, Ci, Co]. gamma, beta: wide [Co].
            groups: image counts that sum to N.
            running: as in `batch_norm_forward`.
        """
        check_conv("x", x, "pre", pre, w, stride, self.dtype)
        self._check_forward(y, pre, mean, var, gamma, beta, groups, running, "pre")

    @operation
    def conv2d_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `conv2d_bn_relu_forward`; ``dy`` is consumed: it may be overwritten.

        Args:
            dx: [N, H, W, Ci]; dw: wide, like w; dgamma, dbeta: wide [Co]: outputs, each None where it is not wanted.
            dy: [N, OH, OW, Co]; the rest as in the forward.
            sums: wide [2, G, Co], of this block, where the next layer has masked and summed dy already (`Previous`); or None.
            previous: the layer whose output is x, which is served so in turn; or None.
        """
        check_conv("x", x, "dy", dy, w, stride, self.dtype)
        self._check_backward(dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups, sums, previous)

    @operation
    def upconv_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        """y = relu(BN(convᵀ(x, w))). As `conv2d_bn_relu_forward` with y, pre [N, OH, OW, Co] and w [KH, KW, Co, Ci]."""
        check_conv("pre", pre, "x", x, w, stride, self.dtype)
        self._check_forward(y, pre, mean, var, gamma, beta, groups, running, "pre")

    @operation
    def upconv_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `upconv_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`."""
        check_conv("dy", dy, "x", x, w, stride, self.dtype)
        self._check_backward(dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups, sums, previous)

    @operation
    def linear_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        """y = relu(BN(x · w)). As `conv2d_bn_relu_forward` with x [N, I], w [I, O], y and pre [N, O]; statistics a unit."""
        check_linear(("x", "pre", "w"), x, pre, w, self.dtype, self.dtype, (self.dtype,))
        self._check_forward(y, pre, mean, var, gamma, beta, groups, running, "pre")

    @operation
    def linear_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        """Gradients of `linear_bn_relu_forward`; arguments as in `conv2d_bn_relu_backward`; ``dy`` becomes the error at ``pre``."""
        check_linear(("x", "dy", "w"), x, dy, w, self.dtype, self.dtype, (self.dtype,))
        self._check_backward(dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups, sums, previous)

    # ---- the backward of a block is other operations in turn, on every engine: their unchecked forms ----

    _batch_norm_backward: Callable[..., None]
    _conv2d_dgrad: Callable[..., None]
    _conv2d_wgrad: Callable[..., None]
    _conv_transpose2d_dgrad: Callable[..., None]
    _conv_transpose2d_wgrad: Callable[..., None]
    _linear_dgrad: Callable[..., None]
    _linear_wgrad: Callable[..., None]

    def _conv2d_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._block_backward(
            self._conv2d_wgrad, self._conv2d_dgrad, dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups,
            eps, batch_statistics, sums, previous, stride=stride,
        )  # fmt: skip

    def _upconv_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._block_backward(
            self._conv_transpose2d_wgrad, self._conv_transpose2d_dgrad, dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups,
            eps, batch_statistics, sums, previous, stride=stride,
        )  # fmt: skip

    def _linear_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._block_backward(
            self._linear_wgrad, self._linear_dgrad, dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups,
            eps, batch_statistics, sums, previous,
        )  # fmt: skip

    def _block_backward(
        self, wgrad: Callable[..., None], dgrad: Callable[..., None], dx: Array | None, dw: Array | None, dgamma: Array | None,
        dbeta: Array | None, dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups,
        eps: float, batch_statistics: bool, sums: Array | None, previous: Previous | None, **stride: int,
    ) -> None:  # fmt: skip
        """dy at y becomes the error at pre, in place; then the gradients of the product that made pre."""
        self._batch_norm_backward(
            dy, dy, pre, y, mean, var, gamma, groups, eps=eps, relu=True, batch_statistics=batch_statistics,
            dgamma=dgamma, dbeta=dbeta, sums=sums,
        )  # fmt: skip
        if dw is not None:
            wgrad(dw, x, dy, **stride)
        if dx is not None:
            dgrad(dx, dy, w, previous=previous, **stride)
