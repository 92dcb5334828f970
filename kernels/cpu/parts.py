"""Results put together from parts; contract: `kernels.contract.parts`. They are small: one thread."""

from __future__ import annotations

import numpy as np


def combine_statistics(mean: np.ndarray, var: np.ndarray, parts: np.ndarray, shares: np.ndarray) -> None:
    means, variances = parts[:, 0].astype(np.float64), parts[:, 1].astype(np.float64)
    weights = shares[:, None, None]
    centre = _in_order(weights * means)
    var[...] = _in_order(weights * (variances + (means - centre) ** 2))
    mean[...] = centre


def sum_parts(out: np.ndarray, parts: np.ndarray, *, factor: float = 1.0) -> None:
    out[...] = factor * _in_order(parts.astype(np.float64))


def _in_order(terms: np.ndarray) -> np.ndarray:
    """Σ over the first axis, one after the other."""
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total
