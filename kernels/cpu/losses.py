"""The losses of Algorithm 1 with their gradients, the equilibrium gate, and a classifier's loss; contract: `kernels.contract.losses`."""

from __future__ import annotations

import numpy as np

from kernels.cpu.activations import sigmoid
from kernels.cpu.reduce import total


def feature_likelihood(loss: np.ndarray, dpred: np.ndarray, pred: np.ndarray, target: np.ndarray) -> None:
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


def gan_loss(
    losses: np.ndarray, dlogits: np.ndarray | None, logits: np.ndarray, n_real: int, weights: tuple[float, float],
    *, log_eps: float = 0.0,
) -> None:  # fmt: skip
    values = logits.reshape(-1).astype(np.float64)
    values[n_real:] *= -1.0  # 1 − σ(l) = σ(−l)
    loss, slope = _log_loss(values, log_eps)
    losses[:] = loss[:n_real].sum(), loss[n_real:].sum()
    if dlogits is not None:
        out = dlogits.reshape(-1)
        out[:n_real] = slope[:n_real] * weights[0]
        out[n_real:] = -slope[n_real:] * weights[1]


def generator_loss(loss: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, n_real: int, *, log_eps: float = 0.0) -> None:
    values = logits.reshape(-1).astype(np.float64)
    value, slope = _log_loss(values[n_real:], log_eps)
    loss[0] = value.sum()
    out = dlogits.reshape(-1)
    out[:n_real] = 0.0
    out[n_real:] = slope


def softmax_cross_entropy_forward(loss: np.ndarray, p: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
    rows = np.flatnonzero(labels >= 0)
    with np.errstate(invalid="ignore"):  # of a logit that is infinite: NaN, as it should be
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    np.divide(np.exp(shifted), total[:, None], out=p, casting="same_kind")
    loss[0] = (np.log(total[rows]) - shifted[rows, labels[rows]]).sum()


def softmax_cross_entropy_backward(dlogits: np.ndarray, p: np.ndarray, labels: np.ndarray) -> None:
    rows = np.flatnonzero(labels >= 0)
    dlogits[...] = 0
    dlogits[rows] = p[rows]
    dlogits[rows, labels[rows]] -= 1


def equilibrium_gate(
    flags: np.ndarray, losses: np.ndarray, n_real: int, n_generated: int, *, equilibrium: float, margin: float,
    counts: np.ndarray | None = None,
) -> None:  # fmt: skip
    a, b = losses[0] / n_real, losses[1] / n_generated
    dis = not (a < equilibrium - margin or b < equilibrium - margin)
    dec = not (a > equilibrium + margin or b > equilibrium + margin)
    flags[:] = (1, 1) if not (dis or dec) else (dec, dis)
    if counts is not None:
        count_gate(counts, flags)


def count_gate(counts: np.ndarray, flags: np.ndarray) -> None:
    counts[0] += 1
    counts[1:] += flags
