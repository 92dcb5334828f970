"""RMSProp and Adam with L2 weight decay, one pass over a parameter in pieces, on all cores.

``enabled`` (uint8 [1], the equilibrium gate's flag, or None) skips the whole update, optimiser state included.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.threads import elementwise, scratch
from kernels.shapes import check_array, check_float


def _check(w: np.ndarray, enabled: np.ndarray | None, **arrays: np.ndarray) -> None:
    check_float("w", w)
    for name, array in arrays.items():
        check_array(name, array, w.shape, w.dtype)
    if enabled is not None:
        check_array("enabled", enabled, (1,), np.uint8)


def _gradient(dw: np.ndarray, w: np.ndarray, weight_decay: float) -> np.ndarray:
    """dw + weight_decay · w, in scratch where there is any decay."""
    if not weight_decay:
        return dw
    g = scratch("gradient", w.shape, w.dtype)
    np.multiply(w, weight_decay, out=g)
    g += dw
    return g


def rmsprop_update(
    w: np.ndarray, ms: np.ndarray, dw: np.ndarray, *, lr: float, decay: float = 0.9, eps: float = 1e-8,
    weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    """g = dw + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps).

    Args: w, ms: updated in place, one shape; dw: the summed gradient. Raises `ValueError` for shapes or dtypes that differ.
    """
    _check(w, enabled, ms=ms, dw=dw)
    if enabled is not None and not enabled[0]:
        return

    def work(w: np.ndarray, ms: np.ndarray, dw: np.ndarray) -> None:
        g = _gradient(dw, w, weight_decay)
        step = scratch("step", w.shape, w.dtype)
        np.multiply(g, g, out=step)
        step *= 1.0 - decay
        ms *= decay
        ms += step
        np.sqrt(ms, out=step)
        step += eps
        np.divide(g, step, out=step)
        step *= lr
        w -= step

    elementwise(work, w, ms, dw)


def adam_update(
    w: np.ndarray, m: np.ndarray, v: np.ndarray, t: np.ndarray, dw: np.ndarray, *, lr: float, beta1: float = 0.5,
    beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Adam (Kingma & Ba 2015, Algorithm 1) on g = dw + weight_decay · w; β1 = 0.5 as is usual for GANs.

    Args:
        w, m, v: updated in place, one shape.
        t: int64 [1], the number of applied updates; advanced here, so that a gated network's bias correction waits too.
        dw: the summed gradient.

    Raises:
        ValueError: shapes or dtypes that differ.
    """
    _check(w, enabled, m=m, v=v, dw=dw)
    check_array("t", t, (1,), np.int64)
    if enabled is not None and not enabled[0]:
        return
    t += 1
    rate = lr / (1.0 - beta1 ** int(t[0]))
    correction = (1.0 - beta2 ** int(t[0])) ** -0.5

    def work(w: np.ndarray, m: np.ndarray, v: np.ndarray, dw: np.ndarray) -> None:
        g = _gradient(dw, w, weight_decay)
        step = scratch("step", w.shape, w.dtype)
        np.multiply(g, 1.0 - beta1, out=step)
        m *= beta1
        m += step
        np.multiply(g, g, out=step)
        step *= 1.0 - beta2
        v *= beta2
        v += step
        np.sqrt(v, out=step)
        step *= correction
        step += eps
        np.divide(m, step, out=step)
        step *= rate
        w -= step

    elementwise(work, w, m, v, dw)
