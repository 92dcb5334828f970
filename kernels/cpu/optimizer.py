"""RMSProp and Adam, one pass over a parameter in pieces, on all cores; contract: `kernels.contract.optimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.contract.optimizer import UpdateList
from kernels.cpu.elementwise import number_of
from kernels.cpu.threads import elementwise, parallel, ranges, scratch

FUSED = 1 << 18  # elements of the gradient in a piece of `linear_wgrad_rmsprop`


def _gradient(dw: np.ndarray, w: np.ndarray, weight_decay: float) -> np.ndarray:
    """dw + weight_decay · w, in scratch where there is any decay."""
    if not weight_decay:
        return dw
    g = scratch("gradient", w.shape, w.dtype)
    np.multiply(w, weight_decay, out=g)
    g += dw
    return g


def rmsprop_update(
    w: np.ndarray, ms: np.ndarray, dw: np.ndarray, *, lr: Any, decay: float = 0.9, eps: float = 1e-8,
    weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    if enabled is not None and not enabled[0]:
        return
    rate = number_of(lr)
    elementwise(lambda w, ms, dw: _rmsprop_piece(w, ms, dw, rate, decay, eps, weight_decay), w, ms, dw)


def _rmsprop_piece(w: np.ndarray, ms: np.ndarray, dw: np.ndarray, lr: float, decay: float, eps: float, weight_decay: float) -> None:
    """`rmsprop_update` of a piece, on one thread."""
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


def adam_update(
    w: np.ndarray, m: np.ndarray, v: np.ndarray, t: np.ndarray, dw: np.ndarray, *, lr: Any, beta1: float = 0.5,
    beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    if enabled is not None and not enabled[0]:
        return
    t += 1
    rate = number_of(lr) / (1.0 - beta1 ** int(t[0]))
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


def _refresh(w: np.ndarray, copy: np.ndarray | None, enabled: np.ndarray | None) -> None:
    """The operand copy, where it is an array of its own; like all of a gated parameter it is left alone."""
    if copy is not None and copy is not w and (enabled is None or enabled[0]):
        np.copyto(copy, w, casting="same_kind")


def _average(average: np.ndarray, w: np.ndarray, blend: float) -> None:
    def work(average: np.ndarray, w: np.ndarray) -> None:
        step = np.subtract(w, average, out=scratch("step", w.shape, w.dtype))
        step *= blend
        average += step

    elementwise(work, average, w)


def _update_all(updates: UpdateList, update: Callable[..., None], lr: Any, blend: Any, **options: float) -> None:
    rate, blend = number_of(lr), number_of(blend)
    for e in updates.entries:
        if e.grad is not None:
            update(e.w, *e.states, e.grad, lr=rate * e.rate, weight_decay=e.weight_decay, enabled=e.enabled, **options)
            _refresh(e.w, e.copy, e.enabled)
        if e.average is not None:
            _average(e.average, e.w, blend)


def rmsprop_update_all(updates: UpdateList, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, blend: Any = 1.0) -> None:
    _update_all(updates, rmsprop_update, lr, blend, decay=decay, eps=eps)


def adam_update_all(
    updates: UpdateList, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8, blend: Any = 1.0
) -> None:  # fmt: skip
    _update_all(updates, adam_update, lr, blend, beta1=beta1, beta2=beta2, eps=eps)


def linear_wgrad_rmsprop(
    w: np.ndarray, ms: np.ndarray, copy: np.ndarray | None, x: np.ndarray, dy: np.ndarray, *, lr: Any, decay: float = 0.9,
    eps: float = 1e-8, weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Some rows of dw at a time."""
    if enabled is not None and not enabled[0]:
        return
    rate = number_of(lr)

    def work(rows: tuple[int, int]) -> None:
        here = slice(*rows)
        dw = np.matmul(x[:, here].T, dy, out=scratch("fused wgrad", w[here].shape, w.dtype))
        _rmsprop_piece(w[here], ms[here], dw, rate, decay, eps, weight_decay)

    parallel(work, ranges(len(w), max(1, FUSED // w.shape[1])))
    _refresh(w, copy, enabled)
