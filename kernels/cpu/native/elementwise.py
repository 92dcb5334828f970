"""Activations, sums and copies by elementwise.cpp; contracts: `kernels.contract.activations` and `kernels.contract.elementwise`."""

from __future__ import annotations

from typing import Any

import numpy as np


class Elementwise:
    """Operations of the native engine."""

    library: Any

    def _relu_forward(self, y: np.ndarray, x: np.ndarray) -> None:
        self.library.relu_forward(y, x, x.size)

    def _relu_backward(self, dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
        self.library.relu_backward(dx, dy, y, y.size)
