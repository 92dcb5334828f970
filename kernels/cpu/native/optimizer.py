"""RMSProp and Adam by optimizer.cpp; contract: `kernels.contract.optimizer`. A list is one call, with a table of addresses made once."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.optimizer import UpdateEntry, UpdateList
from kernels.cpu.elementwise import number_of
from kernels.cpu.native.library import address


def _line(entry: UpdateEntry) -> list[int]:
    """A parameter's line in the table; its columns are those of optimizer.cpp."""
    copy = None if entry.copy is entry.w else entry.copy
    states = [address(state) for state in entry.states] + [0, 0, 0]
    others = (entry.grad, entry.enabled, entry.average)
    return [address(entry.w), address(copy), *states[:3], *(address(array) for array in others), entry.w.size]


class Optimizer:
    """Operations of the native engine."""

    library: Any

    def _rmsprop_update(
        self, w: np.ndarray, ms: np.ndarray, dw: np.ndarray, *, lr: Any, decay: float = 0.9, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        if enabled is None or enabled[0]:
            self.library.rmsprop_update(w, ms, dw, w.size, number_of(lr), decay, eps, weight_decay)

    def _adam_update(
        self, w: np.ndarray, m: np.ndarray, v: np.ndarray, t: np.ndarray, dw: np.ndarray, *, lr: Any, beta1: float = 0.5,
        beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0, enabled: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        if enabled is None or enabled[0]:
            self.library.adam_update(w, m, v, t, dw, w.size, number_of(lr), beta1, beta2, eps, weight_decay)

    def _update_list(self, kind: str, entries: list[UpdateEntry]) -> tuple[np.ndarray, np.ndarray]:
        """The table, uint64 [entries, 9], and of each entry the weight decay and the factor of the rate, float64 [entries, 2]."""
        table = np.array([_line(entry) for entry in entries], np.uint64)
        return table, np.array([(entry.weight_decay, entry.rate) for entry in entries], np.float64)

    def _rmsprop_update_all(self, updates: UpdateList, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, blend: Any = 1.0) -> None:
        self.library.rmsprop_update_all(*updates.device, len(updates.entries), number_of(lr), number_of(blend), decay, eps)

    def _adam_update_all(
        self, updates: UpdateList, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8, blend: Any = 1.0
    ) -> None:  # fmt: skip
        self.library.adam_update_all(*updates.device, len(updates.entries), number_of(lr), number_of(blend), beta1, beta2, eps)
