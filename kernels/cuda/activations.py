"""ReLU, tanh and sigmoid: launchers of elementwise.cu. Contract: `kernels.contract.activations`; the same in NumPy:
kernels/cpu/activations.py.
"""

from __future__ import annotations

from kernels.contract.operation import Array
from kernels.cuda.device.launch import defines_of
from kernels.cuda.elementwise import Added, launch_map
from kernels.cuda.operations import Operations


class Activations(Operations):
    """Operations of the CUDA engine."""

    def _map(self, function: str, out: Array, *inputs: Array) -> None:
        launch_map(self.device, function, out, list(inputs), defines=defines_of(out))

    def _relu_forward(self, y: Array, x: Array) -> None:
        self._map("relu_forward", y, x)

    def _relu_backward(self, dx: Array, dy: Array, y: Array) -> None:
        self._map("relu_backward", dx, dy, y)

    def _tanh_forward(self, y: Array, x: Array) -> None:
        self._map("tanh_forward", y, x)

    def _tanh_backward(self, dx: Array, dy: Array, y: Array) -> None:
        added = self.device.taken(Added, dy) if dx is dy else None
        if added is None:
            return self._map("tanh_backward", dx, dy, y)
        launch_map(self.device, "add_tanh_backward", dx, [added.a, added.b, y], *added.numbers, defines=defines_of(dx))

    def _sigmoid_forward(self, y: Array, x: Array) -> None:
        self._map("sigmoid_forward", y, x)

    def _sigmoid_backward(self, dx: Array, dy: Array, y: Array) -> None:
        self._map("sigmoid_backward", dx, dy, y)
