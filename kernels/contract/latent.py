"""The latent layer: reparametrisation and the KL divergence to N(0, I) (paper, equations 2 to 4; Kingma & Welling 2014).

    z = μ + exp(½ log σ²) · ε,      KL = ½ Σ (μ² + σ² − 1 − log σ²)

All arrays [N, L]: N images, L latent units.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.checks import check_array, check_float
from kernels.contract.operation import Array, Contract, operation


class Latent(Contract):
    """Operations of the contract."""

    def _check_latent(self, narrow: dict[str, Array], wide: dict[str, Array]) -> None:
        check_float("mu", wide["mu"], 2, self.wide)
        for arrays, dtype in ((wide, self.wide), (narrow, self.dtype)):
            for name, array in arrays.items():
                check_array(name, array, wide["mu"].shape, dtype)

    @operation
    def reparametrize_forward(self, z: Array, kl: Array, mu: Array, logvar: Array, eps: Array) -> None:
        """z, and the KL summed over batch and units. Args: z [N, L] and kl float64 [1], outputs; mu, logvar, eps wide [N, L]."""
        self._check_latent({"z": z}, {"mu": mu, "logvar": logvar, "eps": eps})
        check_array("kl", kl, (1,), np.float64)

    @operation
    def reparametrize_backward(self, dmu: Array, dlogvar: Array, dz: Array, mu: Array, logvar: Array, eps: Array) -> None:
        """dμ = dz + μ, d log σ² = ½ (dz · σ ε + σ² − 1): the error that arrives at z plus the gradient of KL.

        Args: dmu, dlogvar [N, L], outputs; dz [N, L]; mu, logvar, eps wide [N, L].
        """
        self._check_latent({"dmu": dmu, "dlogvar": dlogvar, "dz": dz}, {"mu": mu, "logvar": logvar, "eps": eps})
