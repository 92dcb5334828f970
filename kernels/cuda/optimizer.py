"""RMSProp and Adam with L2 weight decay: launchers of optimizer.cu. Equations: kernels/cpu/optimizer.py.

Parameters, states and gradients are float32. ``enabled`` (uint8 [1], the equilibrium gate's flag, or None) skips the whole update,
optimiser state included; it is read on the device. ``lr`` is a number or a float32 array [1] of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import Cost, cost
from kernels.shapes import check_array

FILE = "optimizer.cu"
CHUNK = 8192  # elements of a parameter that a block updates
WORDS = 9  # of 8 bytes, a row of the table: struct Entry
STATES = {"rmsprop": ("ms",), "adam": ("m", "v", "t")}


class UpdateTable:
    """The parameters that one call updates, as a table on the device. Made by ``engine.update_table``.

    It holds addresses: the arrays are kept, and must stay where they are. Attributes: ``kind``, ``rows`` (parameters that have a
    gradient), ``chunks`` (blocks of the launch), ``cost`` (of the launch, were every parameter enabled).
    """

    def __init__(self, dev: Device, kind: str, entries: Sequence[Any], dtype: np.dtype[Any], wide: np.dtype[Any]):
        if kind not in STATES:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(STATES)}")
        self.kind = kind
        self.entries = [entry for entry in entries if entry.grad is not None]  # the others are updated where their gradient is formed
        self.rows = len(self.entries)
        self.defines: tuple[str, ...] = ()
        words, chunks, reads, writes = [], [], [], []
        for row, entry in enumerate(self.entries):
            w, copy, moments = entry.w, entry.copy, entry.states[: 1 if kind == "rmsprop" else 2]
            _check_update(w, wide, entry.enabled, grad=entry.grad, **_states(kind, entry.states))
            if copy is not None:
                check_array("copy", copy, w.shape, dtype)
                self.defines = defines_of(copy)
                copy = None if dev._address(copy) == dev._address(w) else copy  # in float32 the parameter is its own copy
            second, t = (entry.states[1], entry.states[2]) if kind == "adam" else (None, None)
            addresses = [0 if a is None else dev._address(a) for a in (w, copy, moments[0], second, entry.grad, entry.enabled)]
            decay = int(np.float32(entry.weight_decay).view(np.uint32))
            words.append((*addresses, w.size, decay, 0 if t is None else dev._address(t)))
            chunks += [(row, chunk) for chunk in range(blocks(w.size, CHUNK))]
            reads += [w, *moments, entry.grad]
            writes += [w, *moments, *([] if copy is None else [copy])]
        self.chunks = len(chunks)
        self.cost: Cost = cost(0, reads, writes)
        if self.rows:
            self.words = dev.upload(np.array(words, np.uint64).reshape(-1, WORDS))
            self.places = dev.upload(np.array(chunks, np.int32))
            self.rates = dev.empty((self.rows, 2), np.float32)


def _states(kind: str, states: tuple[Any, ...]) -> dict[str, Any]:
    names = STATES[kind]
    if len(states) != len(names):
        raise ValueError(f"states: got {len(states)} arrays, expected {len(names)}: {', '.join(names)}")
    return dict(zip(names, states, strict=True))


def _check_update(w: Any, wide: np.dtype[Any], enabled: Any, **arrays: Any) -> None:
    check_values("w", w)
    check_array("w", w, None, wide)
    if "t" in arrays:
        check_array("t", arrays.pop("t"), (1,), np.int64)
    for name, array in arrays.items():
        check_array(name, array, w.shape, wide)
    if enabled is not None:
        check_array("enabled", enabled, (1,), np.uint8)


def _rate(lr: Any, dtype: type[np.floating[Any]]) -> tuple[Any, np.floating[Any]]:
    """lr as the kernels take it: an array or None, then a number of ``dtype``, which counts where there is no array."""
    if isinstance(lr, (int, float, np.generic)):
        return None, dtype(lr)
    check_array("lr", lr, (1,), np.float32)
    return lr, dtype(0.0)


class Optimizer:
    """Operations of the CUDA engine; ``device``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def rmsprop_update(
        self, w: Any, ms: Any, dw: Any, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0, enabled: Any = None
    ) -> None:
        """g = dw + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps).

        Args: w, ms: updated in place, one shape; dw: the summed gradient. Raises `ValueError` for shapes or dtypes that differ.
        """
        _check_update(w, self.wide, enabled, ms=ms, dw=dw)
        self.device.cuda(
            FILE, "rmsprop_one", blocks(w.size, CHUNK), THREADS, w, ms, dw, enabled, np.int64(w.size), np.float32(weight_decay),
            *_rate(lr, np.float32), *map(np.float32, (decay, 1.0 - decay, eps)), cost=cost(0, [w, ms, dw], [w, ms]),
        )  # fmt: skip

    def adam_update(
        self, w: Any, m: Any, v: Any, t: Any, dw: Any, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: Any = None,
    ) -> None:  # fmt: skip
        """Adam (Kingma & Ba 2015, Algorithm 1) on g = dw + weight_decay · w; β1 = 0.5 as is usual for GANs.

        Two launches: one thread advances t and forms the bias corrections, then all blocks update with them.

        Args:
            w, m, v: updated in place, one shape.
            t: int64 [1], the number of applied updates; advanced here, so that a gated network's bias correction waits too.
            dw: the summed gradient.

        Raises:
            ValueError: shapes or dtypes that differ.
        """
        _check_update(w, self.wide, enabled, m=m, v=v, t=t, dw=dw)
        rates = self.device.scratch("adam.rates", (2,), np.float32)
        self.device.cuda(
            FILE, "adam_advance_one", 1, 1, rates, t, enabled, *_rate(lr, np.float64), np.float64(beta1), np.float64(beta2),
            cost=cost(0, [t], [t, rates]),
        )  # fmt: skip
        self.device.cuda(
            FILE, "adam_one", blocks(w.size, CHUNK), THREADS, w, m, v, dw, enabled, np.int64(w.size), np.float32(weight_decay), rates,
            *map(np.float32, (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps)), cost=cost(0, [w, m, v, dw, rates], [w, m, v]),
        )  # fmt: skip

    def update_table(self, kind: str, entries: Sequence[Any]) -> UpdateTable:
        """The table of `rmsprop_update_all` (kind "rmsprop") or `adam_update_all` ("adam").

        Args:
            entries: `kernels.engine.UpdateEntry`s: w, copy (the engine's dtype, w itself or None: written with the new w), states
                ((ms,) or (m, v, t)), grad, weight_decay, enabled. Entries with grad None are left out.

        Raises:
            ValueError: an unknown kind; shapes or dtypes that differ.
        """
        return UpdateTable(self.device, kind, entries, self.dtype, self.wide)

    def rmsprop_update_all(self, table: UpdateTable, *, lr: Any, decay: float = 0.9, eps: float = 1e-8) -> None:
        """`rmsprop_update` of every parameter in the table, and their compute copies, in one launch."""
        self._check_table(table, "rmsprop")
        if table.rows:
            self.device.cuda(
                FILE, "rmsprop_list", table.chunks, THREADS, table.words, table.places, *_rate(lr, np.float32),
                *map(np.float32, (decay, 1.0 - decay, eps)), cost=table.cost, defines=table.defines,
            )  # fmt: skip

    def adam_update_all(self, table: UpdateTable, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """`adam_update` of every parameter in the table, and their compute copies, in two launches."""
        self._check_table(table, "adam")
        if not table.rows:
            return
        self.device.cuda(
            FILE, "adam_advance_list", blocks(table.rows, THREADS), THREADS, table.rates, table.words, np.int32(table.rows),
            *_rate(lr, np.float64), np.float64(beta1), np.float64(beta2), cost=cost(0, [table.words, 8 * table.rows], [table.rates]),
            defines=table.defines,
        )  # fmt: skip
        self.device.cuda(
            FILE, "adam_list", table.chunks, THREADS, table.words, table.places, table.rates,
            *map(np.float32, (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps)), cost=table.cost, defines=table.defines,
        )  # fmt: skip

    def _check_table(self, table: UpdateTable, kind: str) -> None:
        if table.kind != kind:
            raise ValueError(f"table: got one of {table.kind!r}, expected {kind!r}")
