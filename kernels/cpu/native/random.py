"""Random numbers by random.cpp; contract: `kernels.contract.random`."""

from __future__ import annotations

from typing import Any

import numpy as np


class Random:
    """Operations of the native engine."""

    library: Any

    def _normal(self, out: np.ndarray, *, seed: int, step: Any, stream: int, start: int = 0) -> None:
        self.library.normal(out, out.size, start, seed, int(step[0] if isinstance(step, np.ndarray) else step), stream)

    def _uniform_init(self, out: np.ndarray, bound: float, *, seed: int, index: int) -> None:
        self.library.uniform_init(out, out.size, float(bound), seed, index)
