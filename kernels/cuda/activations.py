"""ReLU, tanh and sigmoid: launchers of elementwise.cu. Each gradient is a function of the output y, as in kernels/cpu/activations.py.

All arrays have one shape, any, and one dtype, the engine's or float32; the output may be the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import cost
from kernels.shapes import check_array

FILE = "elementwise.cu"
PER_BLOCK = 16 * THREADS  # elements


def launch_map(dev: Device, function: str, out: Any, inputs: list[Any], *scalars: Any, defines: tuple[str, ...]) -> None:
    """Launch ``function`` of elementwise.cu on the elements of ``out`` and ``inputs``; nothing where there are none."""
    if out.size:
        dev.cuda(
            FILE, function, blocks(out.size, PER_BLOCK), THREADS, out, *inputs, *scalars, np.int64(out.size),
            cost=cost(0, inputs, [out]), defines=defines,
        )  # fmt: skip


class Activations:
    """Operations of the CUDA engine; ``device`` is the engine's."""

    device: Device

    def _map(self, function: str, names: str, *arrays: Any) -> None:
        first = arrays[1]
        check_values(names.split()[1], first)
        for name, array in zip(names.split(), arrays, strict=True):
            check_array(name, array, first.shape, first.dtype)
        launch_map(self.device, function, arrays[0], list(arrays[1:]), defines=defines_of(first))

    def relu_forward(self, y: Any, x: Any) -> None:
        """y = max(x, 0). Raises `ValueError` for shapes or dtypes that differ."""
        self._map("relu_forward", "y x", y, x)

    def relu_backward(self, dx: Any, dy: Any, y: Any) -> None:
        """dx = dy · [y > 0]."""
        self._map("relu_backward", "dx dy y", dx, dy, y)

    def tanh_forward(self, y: Any, x: Any) -> None:
        """y = tanh(x)."""
        self._map("tanh_forward", "y x", y, x)

    def tanh_backward(self, dx: Any, dy: Any, y: Any) -> None:
        """dx = dy · (1 − y²)."""
        self._map("tanh_backward", "dx dy y", dx, dy, y)

    def sigmoid_forward(self, y: Any, x: Any) -> None:
        """y = 1 / (1 + exp(−x))."""
        self._map("sigmoid_forward", "y x", y, x)

    def sigmoid_backward(self, dx: Any, dy: Any, y: Any) -> None:
        """dx = dy · y (1 − y)."""
        self._map("sigmoid_backward", "dx dy y", dx, dy, y)
