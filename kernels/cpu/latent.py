"""The latent layer: reparametrisation and the KL divergence to N(0, I) (paper, equations 2 to 4; Kingma & Welling 2014).

    z = μ + exp(½ log σ²) · ε,      KL = ½ Σ (μ² + σ² − 1 − log σ²)

All arrays [N, L]: N images, L latent units.
"""

from __future__ import annotations

import numpy as np

from kernels.shapes import check_array, check_float


def _check(first: str, arrays: dict[str, np.ndarray]) -> None:
    check_float(first, arrays[first], 2)
    for name, array in arrays.items():
        check_array(name, array, arrays[first].shape, arrays[first].dtype)


def reparametrize_forward(z: np.ndarray, kl: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> None:
    """z and the KL summed over batch and units. Args: z [N, L] and kl float64 [1], outputs; mu, logvar, eps [N, L].

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    _check("mu", {"mu": mu, "z": z, "logvar": logvar, "eps": eps})
    check_array("kl", kl, (1,), np.float64)
    np.multiply(np.exp(0.5 * logvar), eps, out=z)
    z += mu
    kl[0] = 0.5 * np.sum(mu * mu + np.expm1(logvar) - logvar, dtype=np.float64)


def reparametrize_backward(
    dmu: np.ndarray, dlogvar: np.ndarray, dz: np.ndarray, mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray
) -> None:
    """dμ = dz + μ, d log σ² = ½ (dz · σ ε + σ² − 1): the error that arrives at z plus the gradient of KL.

    Args: dmu, dlogvar [N, L], outputs; dz, mu, logvar, eps [N, L]. Raises as the forward.
    """
    _check("mu", {"mu": mu, "dmu": dmu, "dlogvar": dlogvar, "dz": dz, "logvar": logvar, "eps": eps})
    np.add(dz, mu, out=dmu)
    dlogvar[...] = 0.5 * (dz * np.exp(0.5 * logvar) * eps + np.expm1(logvar))
