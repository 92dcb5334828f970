"""The losses with their gradients, the gate, a classifier's loss: launchers of losses.cu. Contract: `kernels.contract.losses`; the same in
NumPy: kernels/cpu/losses.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "losses.cu"


class Loss(NamedTuple):
    """``launch(flags, counts, n_real, n_generated, equilibrium, margin)``: L_GAN that was held back, and the gate."""

    launch: Callable[..., None]


class Losses(Operations):
    """Operations of the CUDA engine."""

    def _feature_likelihood(self, loss: Array, dpred: Array, pred: Array, target: Array) -> None:
        count = min(1024, blocks(pred.size, 8 * THREADS))
        partial = self.device.scratch("losses.partial", (count,), np.float64)
        self.device.cuda(
            FILE, "feature_likelihood", count, THREADS, loss, partial, dpred, pred, target, np.int64(pred.size), self.device.counters,
            cost=cost(0, [pred, target, partial], [dpred, partial, loss]), defines=defines_of(pred),
        )  # fmt: skip

    def _gan_loss(
        self, losses: Array, dlogits: Array | None, logits: Array, n_real: int, weights: tuple[float, float], *, log_eps: float = 0.0
    ) -> None:
        """Held back: with the gate, if that is the next launch, it is one."""

        def launch(flags: Array, counts: Array, *numbers: float) -> None:
            written = [array for array in (losses, dlogits, flags, counts) if array is not None]
            self.device.cuda(
                FILE, "gan_loss", 1, THREADS, losses, dlogits, logits, np.int64(logits.size), np.int64(n_real),
                *map(np.float64, (*weights, log_eps)), flags, counts, *map(np.float64, numbers),
                cost=cost(0, [logits, *([] if counts is None else [counts])], written),
                defines=() if dlogits is None else defines_of(dlogits),
            )  # fmt: skip

        self.device.hold(losses, Loss(launch), lambda: launch(None, None, 1, 1, 0, 0))

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

    def _equilibrium_gate(
        self, flags: Array, losses: Array, n_real: int, n_generated: int, *, equilibrium: float, margin: float,
        counts: Array | None = None,
    ) -> None:  # fmt: skip
        numbers = n_real, n_generated, equilibrium, margin
        held = self.device.taken(Loss, losses)
        if held is not None:
            return held.launch(flags, counts, *numbers)
        kept = [] if counts is None else [counts]
        self.device.cuda(
            FILE, "equilibrium_gate", 1, 1, flags, counts, losses, *map(np.float64, numbers),
            cost=cost(0, [losses, *kept], [flags, *kept]),
        )  # fmt: skip

    def _count_gate(self, counts: Array, flags: Array) -> None:
        self.device.cuda(FILE, "count_gate", 1, 1, counts, flags, cost=cost(0, [counts, flags], [counts]))
