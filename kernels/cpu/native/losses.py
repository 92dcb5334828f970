"""The losses of Algorithm 1 by losses.cpp; contract: `kernels.contract.losses`. The gate and a classifier's loss are the NumPy engine's."""

from __future__ import annotations

from typing import Any

import numpy as np


class Losses:
    """Operations of the native engine."""

    library: Any

    def _feature_likelihood(self, loss: np.ndarray, dpred: np.ndarray, pred: np.ndarray, target: np.ndarray) -> None:
        self.library.feature_likelihood(loss, dpred, pred, target, pred.size)

    def _gan_loss(
        self, losses: np.ndarray, dlogits: np.ndarray | None, logits: np.ndarray, n_real: int, weights: tuple[float, float],
        *, log_eps: float = 0.0,
    ) -> None:  # fmt: skip
        self.library.gan_loss(losses, dlogits, logits, logits.size, n_real, *map(float, weights), float(log_eps))

    def _generator_loss(self, loss: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, n_real: int, *, log_eps: float = 0.0) -> None:
        self.library.generator_loss(loss, dlogits, logits, logits.size, n_real, float(log_eps))
