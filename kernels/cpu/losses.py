"""The losses of Algorithm 1, each with its gradient in the same pass, the equilibrium gate, and a classifier's loss.

Sums over features and batch, as in the paper; float64.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.activations import sigmoid
from kernels.cpu.reduce import total
from kernels.shapes import check_array, check_float


def feature_likelihood(loss: np.ndarray, dpred: np.ndarray, pred: np.ndarray, target: np.ndarray) -> None:
    """L_like = ½ ‖pred − target‖² (equations 7 and 8, unit variance, without the constant) and dpred = pred − target.

    Args:
        loss: float64 [1], output.
        dpred: output, pred's shape, any.
        pred, target: Dis_l of the reconstructions and of the images; the target is a constant.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_float("pred", pred)
    check_array("dpred", dpred, pred.shape, pred.dtype)
    check_array("target", target, pred.shape, pred.dtype)
    check_array("loss", loss, (1,), np.float64)

    def term(out: np.ndarray, value: np.ndarray, constant: np.ndarray) -> float:
        np.subtract(value, constant, out=out)
        return 0.5 * float(np.dot(out, out))

    loss[0] = total(term, dpred, pred, target)


def _log_loss(logits: np.ndarray, log_eps: float) -> tuple[np.ndarray, np.ndarray]:
    """−log(σ(l) + e) and its derivative −σ(l) σ(−l) / (σ(l) + e); with e = 0 that is −σ(−l), with no 0/0."""
    p, q = sigmoid(logits), sigmoid(-logits)
    if log_eps == 0.0:
        return np.logaddexp(0.0, -logits), -q
    return -np.log(p + log_eps), -p * q / (p + log_eps)


def _check_logits(logits: np.ndarray, n_real: int, dlogits: np.ndarray | None) -> np.ndarray:
    check_float("logits", logits)
    if logits.size != len(logits):
        raise ValueError(f"logits: got shape {logits.shape}, expected [M] or [M, 1]")
    if not 0 <= n_real <= len(logits):
        raise ValueError(f"n_real: got {n_real}, expected 0 to {len(logits)}, the number of logits")
    if dlogits is not None:
        check_array("dlogits", dlogits, logits.shape, logits.dtype)
    return logits.reshape(-1).astype(np.float64)


def gan_loss(
    losses: np.ndarray, dlogits: np.ndarray | None, logits: np.ndarray, n_real: int, weights: tuple[float, float],
    *, log_eps: float = 0.0,
) -> None:  # fmt: skip
    """The discriminator's loss L_GAN = −ℓ_GAN (equation 5, with the sign of a loss), from logits.

        losses = (Σ_real −log(σ(l) + e),  Σ_generated −log(1 − σ(l) + e)),   e = log_eps

    Args:
        losses: float64 [2], output: not weighted.
        dlogits: output, logits' shape: the derivative times the row's weight; or None.
        logits: [M] or [M, 1], the real images first.
        n_real: how many of them are real.
        weights: (weight of a real image, weight of a generated one) in the gradient.
        log_eps: the authors' 1e-3 inside the logarithm; 0 gives the exact loss, computed as softplus.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    values = _check_logits(logits, n_real, dlogits)
    check_array("losses", losses, (2,), np.float64)
    values[n_real:] *= -1.0  # 1 − σ(l) = σ(−l)
    loss, slope = _log_loss(values, log_eps)
    losses[:] = loss[:n_real].sum(), loss[n_real:].sum()
    if dlogits is not None:
        out = dlogits.reshape(-1)
        out[:n_real] = slope[:n_real] * weights[0]
        out[n_real:] = -slope[n_real:] * weights[1]


def generator_loss(loss: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, n_real: int, *, log_eps: float = 0.0) -> None:
    """The non-saturating generator loss Σ_generated −log(σ(l) + e) (Goodfellow et al. 2014) and its gradient.

    Args: loss float64 [1], output; dlogits, output, 0 on the real rows; logits, n_real, log_eps as in `gan_loss`.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    values = _check_logits(logits, n_real, dlogits)
    check_array("loss", loss, (1,), np.float64)
    value, slope = _log_loss(values[n_real:], log_eps)
    loss[0] = value.sum()
    out = dlogits.reshape(-1)
    out[:n_real] = 0.0
    out[n_real:] = slope


def softmax_cross_entropy_forward(loss: np.ndarray, p: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
    """loss = Σ −log p[i, labels[i]] over the rows that have a label, p = softmax(logits): a classifier's loss (section 4.3).

    Stable at any size of logits: the largest of a row is taken off first. A row's sum is float64.

    Args:
        loss: float64 [1], output.
        p: wide [N, K], output: what `softmax_cross_entropy_backward` needs, and the predicted probabilities.
        logits: wide [N, K].
        labels: int32 [N], the class of each row, from 0; −1: it is not known, and the row counts for nothing.

    Raises:
        ValueError: a shape or dtype that does not fit, or a label that is neither −1 nor a class.
    """
    check_float("logits", logits, 2)
    if not logits.shape[1]:
        raise ValueError(f"logits: got shape {logits.shape}, expected [N, K] with at least one class")
    check_array("p", p, logits.shape, logits.dtype)
    check_array("loss", loss, (1,), np.float64)
    rows = _check_labels(labels, *logits.shape)
    with np.errstate(invalid="ignore"):  # of a logit that is infinite: NaN, as it should be
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    np.divide(np.exp(shifted), total[:, None], out=p, casting="same_kind")
    loss[0] = (np.log(total[rows]) - shifted[rows, labels[rows]]).sum()


def softmax_cross_entropy_backward(dlogits: np.ndarray, p: np.ndarray, labels: np.ndarray) -> None:
    """dlogits = p − onehot(labels), 0 in a row without a label.

    Args: dlogits [N, K], output; p wide [N, K] from `softmax_cross_entropy_forward`; labels as there.

    Raises:
        ValueError: a shape or dtype that does not fit, or a label that is neither −1 nor a class.
    """
    check_float("p", p, 2)
    check_array("dlogits", dlogits, p.shape, p.dtype)
    rows = _check_labels(labels, *p.shape)
    dlogits[...] = 0
    dlogits[rows] = p[rows]
    dlogits[rows, labels[rows]] -= 1


def _check_labels(labels: np.ndarray, n: int, classes: int) -> np.ndarray:
    """The indices of the rows that have a label."""
    check_array("labels", labels, (n,), np.int32)
    if n and not -1 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels: got values from {labels.min()} to {labels.max()}, expected values from -1 to {classes - 1}")
    return np.flatnonzero(labels >= 0)


def equilibrium_gate(flags: np.ndarray, losses: np.ndarray, n_real: int, n_generated: int, *, equilibrium: float, margin: float) -> None:
    """Which of Dec and Dis are updated, from the mean losses a = real, b = generated (the authors' code).

    Dis is held back where a or b < equilibrium − margin (it is ahead), Dec where a or b > equilibrium + margin (Dis is
    behind); if neither would be updated, both are.

    Args: flags uint8 [2], output: (Dec, Dis); losses float64 [2] from `gan_loss`; n_real, n_generated: its row counts.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_array("flags", flags, (2,), np.uint8)
    check_array("losses", losses, (2,), np.float64)
    a, b = losses[0] / n_real, losses[1] / n_generated
    dis = not (a < equilibrium - margin or b < equilibrium - margin)
    dec = not (a > equilibrium + margin or b > equilibrium + margin)
    flags[:] = (1, 1) if not (dis or dec) else (dec, dis)
