"""The blocks that the networks are made of. The statistics come from the product's epilogue; in the backward the sums come from the next
layer (``sums``), and dx leaves masked and summed for the previous one (``previous``). Contract: `kernels.contract.fused`; the same in
NumPy: kernels/cpu/fused.py.
"""

from __future__ import annotations

from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.batch_norm import BatchNorm
from kernels.cuda.conv2d import Conv2d
from kernels.cuda.conv_transpose2d import ConvTranspose2d
from kernels.cuda.linear import Linear, matmul
from kernels.cuda.products.convolve import convolve, linear_splits
from kernels.cuda.products.epilogue import Epilogue, Statistics

Groups = tuple[int, ...]


def _statistics(mean: Array, var: Array, groups: Groups, batch_statistics: bool) -> Epilogue:
    return Epilogue(statistics=Statistics(mean, var, groups) if batch_statistics else None)


class Fused(Conv2d, ConvTranspose2d, Linear, BatchNorm):
    """Operations of the CUDA engine."""

    def _conv2d_bn_relu_forward(
        self, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        epilogue = _statistics(mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="forward", stride=stride, epilogue=epilogue)
        self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def _conv2d_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self._conv2d_wgrad(dw, x, dy, stride=stride)
        if dx is not None:
            self._conv2d_dgrad(dx, dy, w, stride=stride, previous=previous)

    def _upconv_bn_relu_forward(
        self, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        epilogue = _statistics(mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="dgrad", stride=stride, epilogue=epilogue)
        self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def _upconv_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        stride: int, eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self._conv_transpose2d_wgrad(dw, x, dy, stride=stride)
        if dx is not None:
            self._conv_transpose2d_dgrad(dx, dy, w, stride=stride, previous=previous)

    def _linear_bn_relu_forward(
        self, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, eps: float, batch_statistics: bool = True,
    ) -> None:  # fmt: skip
        split = linear_splits(self.device, self.precision, len(x), *w.shape) > 1  # split sums have no epilogue
        epilogue = Epilogue() if split else _statistics(mean, var, groups, batch_statistics)
        matmul(self.device, self.precision, pre, x, w, "forward", epilogue)
        if split and batch_statistics:
            self._batch_norm_statistics(mean, var, pre, groups)
        self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True)

    def _linear_bn_relu_backward(
        self, dx: Array | None, dw: Array | None, dgamma: Array | None, dbeta: Array | None,
        dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups, *,
        eps: float, batch_statistics: bool = True, sums: Array | None = None, previous: Previous | None = None,
    ) -> None:  # fmt: skip
        self._bn_relu_backward(dgamma, dbeta, dy, y, pre, mean, var, gamma, groups, eps, batch_statistics, sums)
        if dw is not None:
            self._linear_wgrad(dw, x, dy)
        if dx is not None:
            self._linear_dgrad(dx, dy, w, previous=previous)

    def _bn_relu_backward(
        self, dgamma: Array | None, dbeta: Array | None, dy: Array, y: Array, pre: Array, mean: Array, var: Array, gamma: Array,
        groups: Groups, eps: float, batch_statistics: bool, sums: Array | None,
    ) -> None:  # fmt: skip
        """dy at y becomes the error at pre, in place."""
        self._batch_norm_backward(
            dy, dy, pre, y, mean, var, gamma, groups, eps=eps, relu=True, batch_statistics=batch_statistics,
            dgamma=dgamma, dbeta=dbeta, sums=sums,
        )  # fmt: skip
