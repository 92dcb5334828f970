"""The blocks that the networks are made of. The statistics come from the product's epilogue. Contract, and the backward:
`kernels.contract.fused`; the same in NumPy: kernels/cpu/fused.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels.contract import fused as contract
from kernels.contract.batch_norm import Running
from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.batch_norm import BatchNorm
from kernels.cuda.conv2d import Conv2d
from kernels.cuda.conv_transpose2d import ConvTranspose2d
from kernels.cuda.linear import Linear, matmul
from kernels.cuda.products.convolve import convolve, linear_splits
from kernels.cuda.products.epilogue import Epilogue, Statistics
from kernels.cuda.products.normed import at_load, normed
from kernels.cuda.products.wgrad import wgrad as weight_gradient

Groups = tuple[int, ...]


def _statistics(mean: Array, var: Array, groups: Groups, batch_statistics: bool) -> Epilogue:
    return Epilogue(statistics=Statistics(mean, var, groups) if batch_statistics else None)


class Fused(Conv2d, ConvTranspose2d, Linear, BatchNorm, contract.Fused):
    """Operations of the CUDA engine."""

    def _conv2d_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        epilogue = _statistics(mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="forward", stride=stride, epilogue=epilogue)
        if y is not None:
            self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)

    def _upconv_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, stride: int, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        epilogue = _statistics(mean, var, groups, batch_statistics)
        convolve(self.device, self.precision, pre, x, w, kind="dgrad", stride=stride, epilogue=epilogue)
        if y is not None:
            self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)

    def _linear_bn_relu_forward(
        self, y: Array | None, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, eps: float, batch_statistics: bool = True,
        running: Running | None = None,
    ) -> None:  # fmt: skip
        split = linear_splits(self.device, self.precision, len(x), *w.shape) > 1  # split sums have no epilogue
        epilogue = Epilogue() if split else _statistics(mean, var, groups, batch_statistics)
        matmul(self.device, self.precision, pre, x, w, "forward", epilogue)
        if split and batch_statistics:
            self._batch_norm_statistics(mean, var, pre, groups)
        if y is not None:
            self._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)

    def _block_backward(
        self, wgrad: Callable[..., None], dgrad: Callable[..., None], dx: Array | None, dw: Array | None, dgamma: Array | None,
        dbeta: Array | None, dy: Array, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, groups: Groups,
        eps: float, batch_statistics: bool, sums: Array | None, previous: Previous | None, **stride: int,
    ) -> None:  # fmt: skip
        """As the contract's; convolutions that take it so make the error at pre where they load dy, which is then left as it was."""
        takes = stride and batch_statistics and sums is not None
        if takes and at_load(self.device, self.precision, pre, dw, w, groups, **stride):
            made = normed(self.device, pre, mean, var, gamma, sums, eps, dgamma, dbeta)
            up = dgrad == self._conv_transpose2d_dgrad
            if dw is not None:
                operands = (dy, x) if up else (x, dy)
                weight_gradient(self.device, self.precision, dw, *operands, **stride, normed=made, of_x=up)
            if dx is not None:
                kind, epilogue = "forward" if up else "dgrad", Epilogue(previous=previous)
                convolve(self.device, self.precision, dx, dy, w, kind=kind, **stride, epilogue=epilogue, normed=made)
            return
        super()._block_backward(
            wgrad, dgrad, dx, dw, dgamma, dbeta, dy, y, pre, mean, var, x, w, gamma, groups, eps, batch_statistics, sums, previous, **stride
        )
