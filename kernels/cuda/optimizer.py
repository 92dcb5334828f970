"""RMSProp and Adam: launchers of optimizer.cu, one parameter or all of them in one launch. Contract: `kernels.contract.optimizer`; the same
in NumPy: kernels/cpu/optimizer.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.contract.optimizer import UpdateEntry, UpdateList
from kernels.cuda.device.launch import THREADS, blocks, defines_of, scalar
from kernels.cuda.operations import Operations
from kernels.ledger import Cost, cost

FILE = "optimizer.cu"
CHUNK = 8192  # elements of a parameter that a block updates
WORDS = 10  # of 8 bytes, a row of the list: struct Entry


class DeviceList(NamedTuple):
    """An `UpdateList` on the device. It holds addresses: the arrays must stay where they are.

    Attributes:
        rows: uint64 [entries, WORDS], struct Entry of each parameter; None where there is none.
        chunks: int32 [blocks, 2]: row of the list, chunk of that parameter.
        rates: float32 [entries, 2], Adam's corrected rates.
        cost: of the launch, were every parameter enabled. defines: of the copies' type.
    """

    rows: Array
    chunks: Array
    rates: Array
    cost: Cost
    defines: tuple[str, ...]


class Optimizer(Operations):
    """Operations of the CUDA engine."""

    def _rmsprop_update(
        self, w: Array, ms: Array, dw: Array, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0,
        enabled: Array | None = None,
    ) -> None:  # fmt: skip
        self.device.cuda(
            FILE, "rmsprop_one", blocks(w.size, CHUNK), THREADS, w, ms, dw, enabled, np.int64(w.size), np.float32(weight_decay),
            *scalar(lr), *map(np.float32, (decay, 1.0 - decay, eps)), cost=cost(0, [w, ms, dw], [w, ms]),
        )  # fmt: skip

    def _adam_update(
        self, w: Array, m: Array, v: Array, t: Array, dw: Array, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: Array | None = None,
    ) -> None:  # fmt: skip
        """Two launches: one thread advances t and forms the bias corrections, then all blocks update with them."""
        rates = self.device.scratch("adam.rates", (2,), np.float32)
        self.device.cuda(
            FILE, "adam_advance_one", 1, 1, rates, t, enabled, *scalar(lr, np.float64), np.float64(beta1), np.float64(beta2),
            cost=cost(0, [t], [t, rates]),
        )  # fmt: skip
        self.device.cuda(
            FILE, "adam_one", blocks(w.size, CHUNK), THREADS, w, m, v, dw, enabled, np.int64(w.size), np.float32(weight_decay), rates,
            *map(np.float32, (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps)), cost=cost(0, [w, m, v, dw, rates], [w, m, v]),
        )  # fmt: skip

    def _update_list(self, kind: str, entries: list[UpdateEntry]) -> DeviceList:
        dev = self.device
        defines: tuple[str, ...] = ()
        words, chunks, reads, writes = [], [], [], []
        for row, (w, copy, states, grad, weight_decay, enabled, average, rate) in enumerate(entries):
            if copy is not None:
                defines = defines_of(copy)
                copy = None if dev._address(copy) == dev._address(w) else copy  # in float32 the parameter is its own copy
            if grad is None:  # only the average moves
                copy, states = None, ()
            first, second, t = (*states, None, None, None)[:3]
            *addresses, t_at, average_at = (
                0 if a is None else dev._address(a) for a in (w, copy, first, second, grad, enabled, t, average)
            )
            numbers = int(np.array([weight_decay, rate], np.float32).view(np.uint64)[0])
            words.append((*addresses, w.size, numbers, t_at, average_at))
            chunks += [(row, chunk) for chunk in range(blocks(w.size, CHUNK))]
            updated = [a for a in (first, second, average) if a is not None]
            reads += [w, *updated, *([] if grad is None else [grad])]
            writes += [*([] if grad is None else [w]), *updated, *([] if copy is None else [copy])]
        total = cost(0, reads, writes)
        if not entries:
            return DeviceList(None, None, None, total, defines)
        rows = dev.upload(np.array(words, np.uint64).reshape(-1, WORDS))
        return DeviceList(rows, dev.upload(np.array(chunks, np.int32)), dev.empty((len(rows), 2), np.float32), total, defines)

    def _rmsprop_update_all(self, updates: UpdateList, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, blend: Any = 1.0) -> None:
        """One launch."""
        on: DeviceList = updates.device
        if on.rows is not None:
            self.device.cuda(
                FILE, "rmsprop_list", len(on.chunks), THREADS, on.rows, on.chunks, *scalar(lr), *scalar(blend),
                *map(np.float32, (decay, 1.0 - decay, eps)), cost=on.cost, defines=on.defines,
            )  # fmt: skip

    def _adam_update_all(
        self, updates: UpdateList, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8, blend: Any = 1.0
    ) -> None:  # fmt: skip
        """Two launches, as `_adam_update`."""
        on: DeviceList = updates.device
        if on.rows is None:
            return
        self.device.cuda(
            FILE, "adam_advance_list", blocks(len(on.rows), THREADS), THREADS, on.rates, on.rows, np.int32(len(on.rows)),
            *scalar(lr, np.float64), np.float64(beta1), np.float64(beta2), cost=cost(0, [on.rows, 8 * len(on.rows)], [on.rates]),
            defines=on.defines,
        )  # fmt: skip
        self.device.cuda(
            FILE, "adam_list", len(on.chunks), THREADS, on.rows, on.chunks, on.rates, *scalar(blend),
            *map(np.float32, (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps)), cost=on.cost, defines=on.defines,
        )  # fmt: skip
