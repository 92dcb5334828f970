"""Linear layer: convolutions of one pixel with a 1x1 kernel, which is what a matrix product of rows is to `convolve`, and the launches
of products/wgrad.py. Contract: `kernels.contract.linear`; the same in NumPy: kernels/cpu/linear.py.
"""

from __future__ import annotations

from typing import Any

from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.device.base import Device
from kernels.cuda.operations import Operations
from kernels.cuda.products import wgrad
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.wgrad_rmsprop import wgrad_rmsprop


def matmul(dev: Device, precision: str, out: Array, src: Array, w: Array, kind: str, epilogue: Epilogue) -> None:
    """out = src · w (``kind`` "forward") or src · wᵀ ("dgrad"), then ``epilogue``. Args: out, src two axes; w [I, O]."""
    image = (len(src), 1, 1, -1)
    convolve(dev, precision, out.reshape(image), src.reshape(image), w.reshape(1, 1, *w.shape), kind=kind, stride=1, epilogue=epilogue)


class Linear(Operations):
    """Operations of the CUDA engine."""

    def _linear_forward(self, y: Array, x: Array, w: Array, bias: Array | None = None) -> None:
        matmul(self.device, self.precision, y, x, w, "forward", Epilogue(bias, later=True))

    def _linear_dgrad(self, dx: Array, dy: Array, w: Array, *, previous: Previous | None = None) -> None:
        matmul(self.device, self.precision, dx, dy, w, "dgrad", Epilogue(previous=previous))

    def _linear_wgrad(self, dw: Array, x: Array, dy: Array, *, dbias: Array | None = None) -> None:
        wgrad.linear_wgrad(self.device, self.precision, dw, x, dy, dbias=dbias)

    def _linear_wgrad_rmsprop(
        self, w: Array, ms: Array, copy: Array | None, x: Array, dy: Array, *, lr: Any, decay: float = 0.9, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: Array | None = None,
    ) -> None:  # fmt: skip
        wgrad_rmsprop(
            self.device, self.precision, w, ms, copy, x, dy, lr=lr, decay=decay, eps=eps, weight_decay=weight_decay, enabled=enabled
        )
