"""The losses with their gradients, the gate, a classifier's loss: launchers of losses.cu. Contract: `kernels.contract.losses`; the same in
NumPy: kernels/cpu/losses.py.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "losses.cu"


class Losses(Operations):
    """Operations of the CUDA engine."""

    def _feature_likelihood(self, loss: Array, dpred: Array, pred: Array, target: Array) -> None:
        count = min(1024, blocks(pred.size, 8 * THREADS))
        partial = self.device.scratch("losses.partial", (count,), np.float64)
        self.device.cuda(
            FILE, "feature_likelihood", count, THREADS, partial, dpred, pred, target, np.int64(pred.size),
            cost=cost(0, [pred, target], [dpred, partial]), defines=defines_of(pred),
        )  # fmt: skip
        self.device.cuda(FILE, "sum_partials", 1, THREADS, loss, partial, np.float64(0.5), np.int64(count), cost=cost(0, [partial], [loss]))

    def _gan_loss(
        self, losses: Array, dlogits: Array | None, logits: Array, n_real: int, weights: tuple[float, float], *, log_eps: float = 0.0
    ) -> None:
        self.device.cuda(
            FILE, "gan_loss", 1, THREADS, losses, dlogits, logits, np.int64(logits.size), np.int64(n_real),
            *map(np.float64, (*weights, log_eps)),
            cost=cost(0, [logits], [losses] if dlogits is None else [losses, dlogits]),
            defines=() if dlogits is None else defines_of(dlogits),
        )  # fmt: skip

    def _generator_loss(self, loss: Array, dlogits: Array, logits: Array, n_real: int, *, log_eps: float = 0.0) -> None:
        self.device.cuda(
            FILE, "generator_loss", 1, THREADS, loss, dlogits, logits, np.int64(logits.size), np.int64(n_real), np.float64(log_eps),
            cost=cost(0, [logits], [loss, dlogits]), defines=defines_of(dlogits),
        )  # fmt: skip

    def _softmax_cross_entropy_forward(self, loss: Array, p: Array, logits: Array, labels: Array) -> None:
        self.device.cuda(
            FILE, "softmax_cross_entropy_forward", 1, THREADS, loss, p, logits, labels, *map(np.int64, logits.shape),
            cost=cost(0, [logits, labels], [loss, p]),
        )  # fmt: skip

    def _softmax_cross_entropy_backward(self, dlogits: Array, p: Array, labels: Array) -> None:
        if p.size:
            self.device.cuda(
                FILE, "softmax_cross_entropy_backward", blocks(p.size, THREADS), THREADS, dlogits, p, labels, *map(np.int64, p.shape),
                cost=cost(0, [p, labels], [dlogits]), defines=defines_of(dlogits),
            )  # fmt: skip

    def _equilibrium_gate(self, flags: Array, losses: Array, n_real: int, n_generated: int, *, equilibrium: float, margin: float) -> None:
        self.device.cuda(
            FILE, "equilibrium_gate", 1, 1, flags, losses, *map(np.float64, (n_real, n_generated, equilibrium, margin)),
            cost=cost(0, [losses], [flags]),
        )  # fmt: skip

    def _count_gate(self, counts: Array, flags: Array) -> None:
        self.device.cuda(FILE, "count_gate", 1, 1, counts, flags, cost=cost(0, [counts, flags], [counts]))
