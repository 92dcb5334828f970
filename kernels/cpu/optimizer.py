"""RMSProp and Adam with L2 weight decay, one pass over a parameter in pieces, on all cores.

``enabled`` (uint8 [1], the equilibrium gate's flag, or None) skips the whole update, optimiser state included.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cpu.threads import elementwise, parallel, ranges, scratch
from kernels.engine import UpdateEntry
from kernels.shapes import check_array, check_float

STATES = {"rmsprop": 1, "adam": 3}  # arrays of optimiser state
FUSED = 1 << 18  # elements of the gradient in a piece of `linear_wgrad_rmsprop`


def _check(w: np.ndarray, enabled: np.ndarray | None, **arrays: np.ndarray) -> None:
    check_float("w", w)
    for name, array in arrays.items():
        check_array(name, array, w.shape, w.dtype)
    if enabled is not None:
        check_array("enabled", enabled, (1,), np.uint8)


def _rate(lr: Any) -> float:
    """The number in a learning rate that is one, or an array [1]."""
    return float(lr[0] if isinstance(lr, np.ndarray) else lr)


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
    """g = dw + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps).

    Args: w, ms: updated in place, one shape; dw: the summed gradient. Raises `ValueError` for shapes or dtypes that differ.
    """
    _check(w, enabled, ms=ms, dw=dw)
    if enabled is not None and not enabled[0]:
        return
    rate = _rate(lr)
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
    rate = _rate(lr) / (1.0 - beta1 ** int(t[0]))
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


# ---- every parameter at once ----


def check_entries(kind: str, entries: list[UpdateEntry]) -> list[UpdateEntry]:
    """The table of `rmsprop_update_all` ("rmsprop") or `adam_update_all` ("adam"). Raises `ValueError` for entries that do not fit."""
    if kind not in STATES:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(STATES)}")
    for i, entry in enumerate(entries):
        if len(entry.states) != STATES[kind]:
            raise ValueError(f"entries[{i}].states: got {len(entry.states)} arrays, expected {STATES[kind]} for {kind}")
        arrays = {"grad": entry.grad} if entry.grad is not None else {}
        _check(entry.w, entry.enabled, **{f"states[{j}]": a for j, a in enumerate(entry.states[:2])}, **arrays)
    return list(entries)


def _refresh(entry: UpdateEntry) -> None:
    """The operand copy, where it is an array of its own; like all of a gated parameter it is left alone."""
    if entry.copy is not None and entry.copy is not entry.w and (entry.enabled is None or entry.enabled[0]):
        np.copyto(entry.copy, entry.w, casting="same_kind")


def rmsprop_update_all(table: list[UpdateEntry], *, lr: Any, decay: float = 0.9, eps: float = 1e-8) -> None:
    """`rmsprop_update` of every entry that has a gradient, and its operand copy."""
    for e in table:
        if e.grad is not None:
            rmsprop_update(e.w, e.states[0], e.grad, lr=lr, decay=decay, eps=eps, weight_decay=e.weight_decay, enabled=e.enabled)
            _refresh(e)


def adam_update_all(table: list[UpdateEntry], *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8) -> None:
    """`adam_update` of every entry that has a gradient, and its operand copy."""
    for e in table:
        if e.grad is not None:
            m, v, t = e.states
            adam_update(
                e.w, m, v, t, e.grad, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=e.weight_decay, enabled=e.enabled
            )  # fmt: skip
            _refresh(e)


def linear_wgrad_rmsprop(
    w: np.ndarray, ms: np.ndarray, copy: np.ndarray | None, x: np.ndarray, dy: np.ndarray, *, lr: Any, decay: float = 0.9,
    eps: float = 1e-8, weight_decay: float = 0.0, enabled: np.ndarray | None = None,
) -> None:  # fmt: skip
    """`linear_wgrad` and `rmsprop_update` in one, some rows at a time: dw = xᵀ · dy never exists as a whole.

    Args: w, ms [I, O], updated in place; copy [I, O], the operand copy (or None, or w); x [N, I]; dy [N, O].
    """
    _check(w, enabled, ms=ms)
    check_array("x", x, (len(x), len(w)), w.dtype)
    check_array("dy", dy, (len(x), w.shape[1]), w.dtype)
    if enabled is not None and not enabled[0]:
        return
    rate = _rate(lr)

    def work(rows: tuple[int, int]) -> None:
        here = slice(*rows)
        dw = np.matmul(x[:, here].T, dy, out=scratch("fused wgrad", w[here].shape, w.dtype))
        _rmsprop_piece(w[here], ms[here], dw, rate, decay, eps, weight_decay)

    parallel(work, ranges(len(w), max(1, FUSED // w.shape[1])))
    _refresh(UpdateEntry(w, copy, (ms,), None, weight_decay, enabled))
