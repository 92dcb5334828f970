"""Reparametrisation and KL by latent.cpp; contract: `kernels.contract.latent`."""

from __future__ import annotations

from typing import Any

import numpy as np


class Latent:
    """Operations of the native engine."""

    library: Any

    def _reparametrize_forward(self, z: np.ndarray, kl: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> None:
        self.library.reparametrize_forward(z, kl, mu, logvar, eps, z.size)

    def _reparametrize_backward(
        self, dmu: np.ndarray, dlogvar: np.ndarray, dz: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray
    ) -> None:
        self.library.reparametrize_backward(dmu, dlogvar, dz, mu, logvar, eps, mu.size)
