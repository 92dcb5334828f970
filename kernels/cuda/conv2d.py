"""2-D convolution and its two gradients: launches of products/convolve.py and products/wgrad.py. Contract: `kernels.contract.conv2d`;
the same in NumPy: kernels/cpu/conv2d.py.
"""

from __future__ import annotations

from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.operations import Operations
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.wgrad import wgrad


class Conv2d(Operations):
    """Operations of the CUDA engine."""

    def _conv2d_forward(
        self, y: Array, x: Array, w: Array, bias: Array | None = None, *, stride: int = 1, activation: str | None = None
    ) -> None:
        convolve(self.device, self.precision, y, x, w, kind="forward", stride=stride, epilogue=Epilogue(bias, activation))

    def _conv2d_dgrad(self, dx: Array, dy: Array, w: Array, *, stride: int = 1, previous: Previous | None = None) -> None:
        convolve(self.device, self.precision, dx, dy, w, kind="dgrad", stride=stride, epilogue=Epilogue(previous=previous))

    def _conv2d_wgrad(self, dw: Array, x: Array, dy: Array, *, stride: int = 1, dbias: Array | None = None) -> None:
        wgrad(self.device, self.precision, dw, x, dy, stride=stride, dbias=dbias)
