"""The losses of Algorithm 1, each with its gradient, the equilibrium gate, and a classifier's loss: launchers of losses.cu.

Equations: kernels/cpu/losses.py. Losses are float64 and stay on the device; logits are float32, the errors the engine's dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import cost
from kernels.shapes import check_array, check_float

FILE = "losses.cu"


class Losses:
    """Operations of the CUDA engine; ``device``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def feature_likelihood(self, loss: Any, dpred: Any, pred: Any, target: Any) -> None:
        """L_like = ½ ‖pred − target‖² (equations 7 and 8, unit variance, without the constant) and dpred = pred − target.

        Args:
            loss: float64 [1], output.
            dpred: output, pred's shape, any.
            pred, target: Dis_l of the reconstructions and of the images; the target is a constant.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_values("pred", pred)
        check_array("dpred", dpred, pred.shape, pred.dtype)
        check_array("target", target, pred.shape, pred.dtype)
        check_array("loss", loss, (1,), np.float64)
        count = min(1024, blocks(pred.size, 8 * THREADS))
        partial = self.device.scratch("losses.partial", (count,), np.float64)
        self.device.cuda(
            FILE, "feature_likelihood", count, THREADS, partial, dpred, pred, target, np.int64(pred.size),
            cost=cost(0, [pred, target], [dpred, partial]), defines=defines_of(pred),
        )  # fmt: skip
        self.device.cuda(FILE, "sum_partials", 1, THREADS, loss, partial, np.float64(0.5), np.int64(count), cost=cost(0, [partial], [loss]))

    def _check_logits(self, logits: Any, n_real: int, dlogits: Any) -> None:
        check_array("logits", logits, None, self.wide)
        if logits.size != len(logits):
            raise ValueError(f"logits: got shape {logits.shape}, expected [M] or [M, 1]")
        if not 0 <= n_real <= len(logits):
            raise ValueError(f"n_real: got {n_real}, expected 0 to {len(logits)}, the number of logits")
        if dlogits is not None:
            check_array("dlogits", dlogits, logits.shape, self.dtype)

    def gan_loss(self, losses: Any, dlogits: Any, logits: Any, n_real: int, weights: tuple[float, float], *, log_eps: float = 0.0) -> None:
        """The discriminator's loss L_GAN = −ℓ_GAN (equation 5, with the sign of a loss), from logits.

            losses = (Σ_real −log(σ(l) + e),  Σ_generated −log(1 − σ(l) + e)),   e = log_eps

        Args:
            losses: float64 [2], output: not weighted.
            dlogits: output, logits' shape: the derivative times the row's weight; or None.
            logits: float32 [M] or [M, 1], the real images first.
            n_real: how many of them are real.
            weights: (weight of a real image, weight of a generated one) in the gradient.
            log_eps: the authors' 1e-3 inside the logarithm; 0 gives the exact loss, computed as softplus.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        self._check_logits(logits, n_real, dlogits)
        check_array("losses", losses, (2,), np.float64)
        self.device.cuda(
            FILE, "gan_loss", 1, THREADS, losses, dlogits, logits, np.int64(logits.size), np.int64(n_real),
            *map(np.float64, (*weights, log_eps)),
            cost=cost(0, [logits], [losses] if dlogits is None else [losses, dlogits]),
            defines=() if dlogits is None else defines_of(dlogits),
        )  # fmt: skip

    def generator_loss(self, loss: Any, dlogits: Any, logits: Any, n_real: int, *, log_eps: float = 0.0) -> None:
        """The non-saturating generator loss Σ_generated −log(σ(l) + e) (Goodfellow et al. 2014) and its gradient.

        Args: loss float64 [1], output; dlogits, output, 0 on the real rows; logits, n_real, log_eps as in `gan_loss`.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        self._check_logits(logits, n_real, None)
        check_array("dlogits", dlogits, logits.shape, self.dtype)
        check_array("loss", loss, (1,), np.float64)
        self.device.cuda(
            FILE, "generator_loss", 1, THREADS, loss, dlogits, logits, np.int64(logits.size), np.int64(n_real), np.float64(log_eps),
            cost=cost(0, [logits], [loss, dlogits]), defines=defines_of(dlogits),
        )  # fmt: skip

    def softmax_cross_entropy_forward(self, loss: Any, p: Any, logits: Any, labels: Any) -> None:
        """loss = Σ −log p[i, labels[i]] over the rows that have a label, p = softmax(logits): a classifier's loss (section 4.3).

        Args:
            loss: float64 [1], output.
            p: float32 [N, K], output: what `softmax_cross_entropy_backward` needs, and the predicted probabilities.
            logits: float32 [N, K].
            labels: int32 [N], the class of each row, from 0; −1: it is not known, and the row counts for nothing. Any other value makes
                the loss NaN.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_float("logits", logits, 2)
        check_array("logits", logits, None, self.wide)
        if not logits.shape[1]:
            raise ValueError(f"logits: got shape {logits.shape}, expected [N, K] with at least one class")
        check_array("p", p, logits.shape, self.wide)
        check_array("labels", labels, logits.shape[:1], np.int32)
        check_array("loss", loss, (1,), np.float64)
        self.device.cuda(
            FILE, "softmax_cross_entropy_forward", 1, THREADS, loss, p, logits, labels, *map(np.int64, logits.shape),
            cost=cost(0, [logits, labels], [loss, p]),
        )  # fmt: skip

    def softmax_cross_entropy_backward(self, dlogits: Any, p: Any, labels: Any) -> None:
        """dlogits = p − onehot(labels), 0 in a row without a label; NaN in one whose label is neither −1 nor a class.

        Args: dlogits [N, K], output; p float32 [N, K] from `softmax_cross_entropy_forward`; labels as there.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_float("p", p, 2)
        check_array("p", p, None, self.wide)
        check_array("dlogits", dlogits, p.shape, self.dtype)
        check_array("labels", labels, p.shape[:1], np.int32)
        if p.size:
            self.device.cuda(
                FILE, "softmax_cross_entropy_backward", blocks(p.size, THREADS), THREADS, dlogits, p, labels, *map(np.int64, p.shape),
                cost=cost(0, [p, labels], [dlogits]), defines=defines_of(dlogits),
            )  # fmt: skip

    def equilibrium_gate(self, flags: Any, losses: Any, n_real: int, n_generated: int, *, equilibrium: float, margin: float) -> None:
        """Which of Dec and Dis are updated, from the mean losses a = real, b = generated (the authors' code).

        Dis is held back where a or b < equilibrium − margin (it is ahead), Dec where a or b > equilibrium + margin (Dis is
        behind); if neither would be updated, both are.

        Args: flags uint8 [2], output: (Dec, Dis); losses float64 [2] from `gan_loss`; n_real, n_generated: its row counts.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_array("flags", flags, (2,), np.uint8)
        check_array("losses", losses, (2,), np.float64)
        self.device.cuda(
            FILE, "equilibrium_gate", 1, 1, flags, losses, *map(np.float64, (n_real, n_generated, equilibrium, margin)),
            cost=cost(0, [losses], [flags]),
        )  # fmt: skip

    def count_gate(self, counts: Any, flags: Any) -> None:
        """counts += (1, flags[0], flags[1]): steps, updates of Dec, updates of Dis. Args: counts float64 [3]; flags uint8 [2].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_array("counts", counts, (3,), np.float64)
        check_array("flags", flags, (2,), np.uint8)
        self.device.cuda(FILE, "count_gate", 1, 1, counts, flags, cost=cost(0, [counts, flags], [counts]))
