"""ReLU, tanh and sigmoid. Each gradient is a function of the output y, so that no input has to be kept.

All arrays have one shape, any, and one dtype, either; the output may be the input.
"""

from __future__ import annotations

from kernels.contract.checks import check_array, check_float
from kernels.contract.operation import Array, Contract, operation


class Activations(Contract):
    """Operations of the contract."""

    def _check_alike(self, name: str, first: Array, **others: Array) -> None:
        """``first``, called ``name``, is of either dtype; ``others`` have its shape and dtype."""
        check_float(name, first, None, self.dtype, self.wide)
        for other, array in others.items():
            check_array(other, array, first.shape, first.dtype)

    @operation
    def relu_forward(self, y: Array, x: Array) -> None:
        """y = max(x, 0)."""
        self._check_alike("x", x, y=y)

    @operation
    def relu_backward(self, dx: Array, dy: Array, y: Array) -> None:
        """dx = dy · [y > 0]."""
        self._check_alike("dy", dy, dx=dx, y=y)

    @operation
    def tanh_forward(self, y: Array, x: Array) -> None:
        """y = tanh(x)."""
        self._check_alike("x", x, y=y)

    @operation
    def tanh_backward(self, dx: Array, dy: Array, y: Array) -> None:
        """dx = dy · (1 − y²)."""
        self._check_alike("dy", dy, dx=dx, y=y)

    @operation
    def sigmoid_forward(self, y: Array, x: Array) -> None:
        """y = 1 / (1 + exp(−x))."""
        self._check_alike("x", x, y=y)

    @operation
    def sigmoid_backward(self, dx: Array, dy: Array, y: Array) -> None:
        """dx = dy · y (1 − y)."""
        self._check_alike("dy", dy, dx=dx, y=y)
