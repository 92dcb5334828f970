"""Fractional-strided convolution: launches of the convolution's transpose. Contract: `kernels.contract.conv_transpose2d`; the same in
NumPy: kernels/cpu/conv_transpose2d.py.
"""

from __future__ import annotations

from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.operations import Operations
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.partials import column_sums
from kernels.cuda.products.wgrad import wgrad


class ConvTranspose2d(Operations):
    """Operations of the CUDA engine."""

    def _conv_transpose2d_forward(
        self, y: Array, x: Array, w: Array, bias: Array | None = None, *, stride: int = 2, activation: str | None = None
    ) -> None:
        convolve(self.device, self.precision, y, x, w, kind="dgrad", stride=stride, epilogue=Epilogue(bias, activation))

    def _conv_transpose2d_dgrad(self, dx: Array, dy: Array, w: Array, *, stride: int = 2, previous: Previous | None = None) -> None:
        convolve(self.device, self.precision, dx, dy, w, kind="forward", stride=stride, epilogue=Epilogue(previous=previous))

    def _conv_transpose2d_wgrad(self, dw: Array, x: Array, dy: Array, *, stride: int = 2, dbias: Array | None = None) -> None:
        wgrad(self.device, self.precision, dw, dy, x, stride=stride)
        if dbias is not None:
            column_sums(self.device, dbias, dy.reshape(-1, dy.shape[3]))
