"""The latent layer: launchers of latent.cu. Equations: kernels/cpu/latent.py. All arrays [N, L]: N images, L latent units.

mu, logvar and eps are float32; z and the errors the engine's dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import cost
from kernels.shapes import check_array

FILE = "latent.cu"


class Latent:
    """Operations of the CUDA engine; ``device``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def _check_latent(self, narrow: dict[str, Any], wide: dict[str, Any]) -> None:
        check_values("mu", wide["mu"], 2)
        for arrays, dtype in ((wide, self.wide), (narrow, self.dtype)):
            for name, array in arrays.items():
                check_array(name, array, wide["mu"].shape, dtype)

    def reparametrize_forward(self, z: Any, kl: Any, mu: Any, logvar: Any, eps: Any) -> None:
        """z = μ + exp(½ log σ²) · ε and the KL summed over batch and units.

        Args: z [N, L] and kl float64 [1], outputs; mu, logvar, eps float32 [N, L].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        self._check_latent({"z": z}, {"mu": mu, "logvar": logvar, "eps": eps})
        check_array("kl", kl, (1,), np.float64)
        count = min(256, blocks(mu.size, 32 * THREADS))
        sums = kl if count == 1 else self.device.scratch("latent.kl", (count,), np.float64)
        self.device.cuda(
            FILE, "reparametrize_forward", count, THREADS, z, sums, mu, logvar, eps, np.int64(mu.size),
            cost=cost(0, [mu, logvar, eps], [z, sums]), defines=defines_of(z),
        )  # fmt: skip
        if count > 1:
            self.device.cuda(
                "losses.cu", "sum_partials", 1, THREADS, kl, sums, np.float64(1.0), np.int64(count), cost=cost(0, [sums], [kl])
            )

    def reparametrize_backward(self, dmu: Any, dlogvar: Any, dz: Any, mu: Any, logvar: Any, eps: Any) -> None:
        """dμ = dz + μ, d log σ² = ½ (dz · σ ε + σ² − 1): the error that arrives at z plus the gradient of KL.

        Args: dmu, dlogvar [N, L], outputs, and dz, of the engine's dtype; mu, logvar, eps float32 [N, L]. Raises as the forward.
        """
        self._check_latent({"dmu": dmu, "dlogvar": dlogvar, "dz": dz}, {"mu": mu, "logvar": logvar, "eps": eps})
        self.device.cuda(
            FILE, "reparametrize_backward", blocks(mu.size, THREADS), THREADS, dmu, dlogvar, dz, mu, logvar, eps, np.int64(mu.size),
            cost=cost(0, [dz, mu, logvar, eps], [dmu, dlogvar]), defines=defines_of(dz),
        )  # fmt: skip
