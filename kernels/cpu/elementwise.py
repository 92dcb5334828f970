"""The element-wise sums, copies and joins of the layer graph; contract: `kernels.contract.elementwise`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.threads import elementwise


def number_of(value: Any) -> float:
    """The number in a value that is one, or an array [1]."""
    return float(value[0] if isinstance(value, np.ndarray) else value)


def add(out: np.ndarray, a: np.ndarray, b: np.ndarray, *, alpha: Any = 1.0, beta: float = 1.0) -> None:
    alpha = number_of(alpha)

    def work(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        np.multiply(b, beta, out=out) if beta != 1.0 else np.copyto(out, b)
        out += a if alpha == 1.0 else alpha * a

    elementwise(work, out, a, b)


def scale(out: np.ndarray, x: np.ndarray, factor: float) -> None:
    elementwise(lambda o, a: np.multiply(a, factor, out=o), out, x)


def fill(out: np.ndarray, value: float) -> None:
    out.fill(value)


def copy(out: np.ndarray, x: np.ndarray) -> None:
    np.copyto(out, x, casting="same_kind")


def concatenate(y: np.ndarray, x: np.ndarray, a: np.ndarray) -> None:
    y[:, : x.shape[1]] = x
    y[:, x.shape[1] :] = a
