"""The latent layer: launchers of latent.cu. Contract: `kernels.contract.latent`; the same in NumPy: kernels/cpu/latent.py."""

from __future__ import annotations

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "latent.cu"


class Latent(Operations):
    """Operations of the CUDA engine."""

    def _reparametrize_forward(self, z: Array, kl: Array, mu: Array, logvar: Array, eps: Array) -> None:
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

    def _reparametrize_backward(self, dmu: Array, dlogvar: Array, dz: Array, mu: Array, logvar: Array, eps: Array) -> None:
        self.device.cuda(
            FILE, "reparametrize_backward", blocks(mu.size, THREADS), THREADS, dmu, dlogvar, dz, mu, logvar, eps, np.int64(mu.size),
            cost=cost(0, [dz, mu, logvar, eps], [dmu, dlogvar]), defines=defines_of(dz),
        )  # fmt: skip
