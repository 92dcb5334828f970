"""The losses of Algorithm 1, each with its gradient in the same pass, the equilibrium gate, and a classifier's loss.

Sums over features and batch, as in the paper; float64.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.checks import check_array, check_float, check_optional, check_values
from kernels.contract.operation import Array, Contract, operation


class Losses(Contract):
    """Operations of the contract."""

    def _check_logits(self, logits: Array, n_real: int) -> None:
        check_array("logits", logits, None, self.wide)
        if logits.size != len(logits):
            raise ValueError(f"logits: got shape {logits.shape}, expected [M] or [M, 1]")
        if not 0 <= n_real <= len(logits):
            raise ValueError(f"n_real: got {n_real}, expected 0 to {len(logits)}, the number of logits")

    def _check_labels(self, labels: Array, n: int, classes: int) -> None:
        check_array("labels", labels, (n,), np.int32)
        if self.host_memory:
            check_values("labels", labels, -1, classes)

    @operation
    def feature_likelihood(self, loss: Array, dpred: Array, pred: Array, target: Array) -> None:
        """L_like = ½ ‖pred − target‖² (equations 7 and 8, unit variance, without the constant) and dpred = pred − target.

        Args:
            loss: float64 [1], output.
            dpred: output, pred's shape, any, and dtype, either.
            pred, target: Dis_l of the reconstructions and of the images; the target is a constant.
        """
        check_float("pred", pred, None, self.dtype, self.wide)
        check_array("dpred", dpred, pred.shape, pred.dtype)
        check_array("target", target, pred.shape, pred.dtype)
        check_array("loss", loss, (1,), np.float64)

    @operation
    def gan_loss(
        self, losses: Array, dlogits: Array | None, logits: Array, n_real: int, weights: tuple[float, float], *, log_eps: float = 0.0
    ) -> None:
        """The discriminator's loss L_GAN = −ℓ_GAN (equation 5, with the sign of a loss), from logits.

            losses = (Σ_real −log(σ(l) + e),  Σ_generated −log(1 − σ(l) + e)),   e = log_eps

        Args:
            losses: float64 [2], output: not weighted.
            dlogits: output, logits' shape: the derivative times the row's weight; or None.
            logits: wide [M] or [M, 1], the real images first.
            n_real: how many of them are real.
            weights: (weight of a real image, weight of a generated one) in the gradient.
            log_eps: the authors' 1e-3 inside the logarithm; 0 gives the exact loss, computed as softplus.
        """
        self._check_logits(logits, n_real)
        check_optional("dlogits", dlogits, logits.shape, self.dtype)
        check_array("losses", losses, (2,), np.float64)

    @operation
    def generator_loss(self, loss: Array, dlogits: Array, logits: Array, n_real: int, *, log_eps: float = 0.0) -> None:
        """The non-saturating generator loss Σ_generated −log(σ(l) + e) (Goodfellow et al. 2014) and its gradient.

        Args: loss float64 [1], output; dlogits, output, 0 on the real rows; logits, n_real, log_eps as in `gan_loss`.
        """
        self._check_logits(logits, n_real)
        check_array("dlogits", dlogits, logits.shape, self.dtype)
        check_array("loss", loss, (1,), np.float64)

    @operation
    def softmax_cross_entropy_forward(self, loss: Array, p: Array, logits: Array, labels: Array) -> None:
        """loss = Σ −log p[i, labels[i]] over the rows that have a label, p = softmax(logits): a classifier's loss (section 4.3).

        Stable at any size of logits: the largest of a row is taken off first. A row's sum is float64.

        Args:
            loss: float64 [1], output.
            p: wide [N, K], output: what `softmax_cross_entropy_backward` needs, and the predicted probabilities.
            logits: wide [N, K].
            labels: int32 [N], the class of each row, from 0; −1: it is not known, and the row counts for nothing. Any other value is
                an error where values can be read, and makes the loss NaN on a GPU.
        """
        check_float("logits", logits, 2, self.wide)
        if not logits.shape[1]:
            raise ValueError(f"logits: got shape {logits.shape}, expected [N, K] with at least one class")
        check_array("p", p, logits.shape, self.wide)
        check_array("loss", loss, (1,), np.float64)
        self._check_labels(labels, *logits.shape)

    @operation
    def softmax_cross_entropy_backward(self, dlogits: Array, p: Array, labels: Array) -> None:
        """dlogits = p − onehot(labels), 0 in a row without a label.

        Args: dlogits [N, K], output; p wide [N, K] from `softmax_cross_entropy_forward`; labels as there.
        """
        check_float("p", p, 2, self.wide)
        check_array("dlogits", dlogits, p.shape, self.dtype)
        self._check_labels(labels, *p.shape)

    @operation
    def equilibrium_gate(
        self, flags: Array, losses: Array, n_real: int, n_generated: int, *, equilibrium: float, margin: float,
        counts: Array | None = None,
    ) -> None:  # fmt: skip
        """Which of Dec and Dis are updated, from the mean losses a = real, b = generated (the authors' code).

        Dis is held back where a or b < equilibrium − margin (it is ahead), Dec where a or b > equilibrium + margin (Dis is
        behind); if neither would be updated, both are.

        Args:
            flags: uint8 [2], output: (Dec, Dis).
            losses: float64 [2] from `gan_loss`; n_real, n_generated: its row counts.
            counts: float64 [3], counted up as by `count_gate`; or None.
        """
        check_optional("counts", counts, (3,), np.float64)
        check_array("flags", flags, (2,), np.uint8)
        check_array("losses", losses, (2,), np.float64)

    @operation
    def count_gate(self, counts: Array, flags: Array) -> None:
        """counts += (1, flags[0], flags[1]): steps, Dec's updates, Dis's. Args: counts float64 [3]; flags uint8 [2]."""
        check_array("counts", counts, (3,), np.float64)
        check_array("flags", flags, (2,), np.uint8)
