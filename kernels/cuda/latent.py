"""The latent layer: launchers of latent.cu. Contract: `kernels.contract.latent`; the same in NumPy: kernels/cpu/latent.py."""

from __future__ import annotations

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.elementwise import Copied
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "latent.cu"


class Latent(Operations):
    """Operations of the CUDA engine."""

    def _reparametrize_forward(self, z: Array, kl: Array, mu: Array, logvar: Array, eps: Array) -> None:
        """With a small copy that was held back: that of Z_p, beside which z lies."""
        copied, prior = self.device.taken(Copied) or Copied(None, None)
        both = [] if copied is None else [copied]
        count = min(256, blocks(mu.size, 4 * THREADS))
        partial = self.device.scratch("latent.kl", (count,), np.float64)
        self.device.cuda(
            FILE, "reparametrize_forward", count, THREADS, z, kl, partial, mu, logvar, eps, np.int64(mu.size),
            copied, prior, np.int64(prior.size if both else 0), self.device.counters,
            cost=cost(0, [mu, logvar, eps, partial, *([prior] if both else [])], [z, kl, partial, *both]), defines=defines_of(z),
        )  # fmt: skip

    def _reparametrize_backward(self, dmu: Array, dlogvar: Array, dz: Array, mu: Array, logvar: Array, eps: Array) -> None:
        self.device.cuda(
            FILE, "reparametrize_backward", blocks(mu.size, THREADS), THREADS, dmu, dlogvar, dz, mu, logvar, eps, np.int64(mu.size),
            cost=cost(0, [dz, mu, logvar, eps], [dmu, dlogvar]), defines=defines_of(dz),
        )  # fmt: skip
