"""Activations and sums by elementwise.cpp; contracts: `kernels.contract.activations` and `kernels.contract.elementwise`.

Fills, copies and joins are the NumPy engine's: a step has small ones alone, and NumPy starts one in a tenth of a foreign call's time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.elementwise import number_of


class Elementwise:
    """Operations of the native engine."""

    library: Any

    def _relu_forward(self, y: np.ndarray, x: np.ndarray) -> None:
        self.library.relu_forward(y, x, x.size)

    def _relu_backward(self, dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
        self.library.relu_backward(dx, dy, y, y.size)

    def _tanh_forward(self, y: np.ndarray, x: np.ndarray) -> None:
        self.library.tanh_forward(y, x, x.size)

    def _tanh_backward(self, dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
        self.library.tanh_backward(dx, dy, y, y.size)

    def _sigmoid_forward(self, y: np.ndarray, x: np.ndarray) -> None:
        self.library.sigmoid_forward(y, x, x.size)

    def _sigmoid_backward(self, dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
        self.library.sigmoid_backward(dx, dy, y, y.size)

    def _add(self, out: np.ndarray, a: np.ndarray, b: np.ndarray, *, alpha: Any = 1.0, beta: float = 1.0) -> None:
        self.library.add(out, a, b, out.size, number_of(alpha), float(beta))

    def _scale(self, out: np.ndarray, x: np.ndarray, factor: float) -> None:
        self.library.scale(out, x, x.size, float(factor))
