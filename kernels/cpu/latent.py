"""Reparametrisation and KL; contract and equations: `kernels.contract.latent`."""

from __future__ import annotations

import numpy as np


def reparametrize_forward(z: np.ndarray, kl: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> None:
    np.multiply(np.exp(0.5 * logvar), eps, out=z)
    z += mu
    kl[0] = 0.5 * np.sum(mu * mu + np.expm1(logvar) - logvar, dtype=np.float64)


def reparametrize_backward(
    dmu: np.ndarray, dlogvar: np.ndarray, dz: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray
) -> None:
    np.add(dz, mu, out=dmu)
    dlogvar[...] = 0.5 * (dz * np.exp(0.5 * logvar) * eps + np.expm1(logvar))
