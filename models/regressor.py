"""The attribute regressor of section 4.2: almost Enc. It says how well the attributes of generated faces can be read off them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import Array
from models.blocks import Linear
from models.encoder import trunk
from models.layer import Context
from models.supervised import Supervised


class Regressor(Supervised):
    """Enc's convolutions and FC layer, then one linear head: images → ``outputs`` numbers, trained on their squared error.

    Args: see `models.supervised.Supervised`. Its ``loss`` is ½ Σ (ŷ − y)² over the last batch; targets y are wide [N, outputs].
    """

    def networks(self, context: Context) -> tuple[Any, Linear]:
        head = Linear(context, "regressor/output", self.spec.encoder_units, self.outputs)
        return trunk(context, "regressor", self.spec), head

    def check_targets(self, targets: Array, n: int) -> None:
        if tuple(targets.shape) != (n, self.outputs):
            raise ValueError(f"targets: got shape {tuple(targets.shape)}, expected ({n}, {self.outputs})")

    def compare(self, error: Array, predicted: Array, targets: Array) -> None:
        wide = self.pool.take(predicted.shape, self.engine.wide)
        self.engine.feature_likelihood(self.loss, wide, predicted, targets)
        self.engine.copy(error, wide)
        self.pool.give(wide)

    def gradients(self, x: Array, targets: Array) -> tuple[dict[str, np.ndarray], float]:
        return super().gradients(x, self.engine.asarray(targets, self.engine.wide))
