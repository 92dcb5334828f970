"""RMSProp and Adam with L2 weight decay, of one parameter or of a list of them in one launch, which keeps their averages too.

``lr``: a number or a wide array [1]. ``enabled`` (uint8 [1], the equilibrium gate's flag, or None): 0 skips the whole update,
optimiser state included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.contract.checks import check_array, check_float, check_optional, check_rate
from kernels.contract.operation import Array, Contract, operation

#: The arrays of an optimiser's state; t is int64 [1].
STATES = {"rmsprop": ("ms",), "adam": ("m", "v", "t")}


class UpdateEntry(NamedTuple):
    """One parameter in the list of `Optimizer.update_list`.

    Attributes:
        w: the parameter, wide. copy: its copy as an operand, engine.dtype; None, or w itself, where there is none.
        states: wide arrays like w: (ms,) of RMSProp, (m, v, t) of Adam with t int64 [1].
        grad: wide, like w; None: w is updated elsewhere, the entry only keeps the average, if there is one; states may be ().
        weight_decay: of this parameter.
        enabled: uint8 [1], the equilibrium gate's flag, or None.
        average: wide, like w: the moving average of w, or None. It follows w at every call, whatever the gate's flag.
        rate: of this parameter, a factor of lr.
    """

    w: Array
    copy: Array
    states: tuple[Array, ...]
    grad: Array
    weight_decay: float
    enabled: Array
    average: Array = None
    rate: float = 1.0


class UpdateList(NamedTuple):
    """What `rmsprop_update_all` or `adam_update_all` works through. ``kind``: "rmsprop" or "adam"; ``entries``: those with a gradient or
    an average; ``device``: what an engine adds, once."""

    kind: str
    entries: list[UpdateEntry]
    device: Any


class Optimizer(Contract):
    """Operations of the contract."""

    def _check_update(self, w: Array, enabled: Array | None, **arrays: Array | None) -> None:
        check_float("w", w, None, self.wide)
        for name, array in arrays.items():
            check_array(name, array, (1,) if name == "t" else w.shape, np.int64 if name == "t" else self.wide)
        check_optional("enabled", enabled, (1,), np.uint8)

    @operation
    def rmsprop_update(
        self, w: Array, ms: Array, dw: Array, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0,
        enabled: Array | None = None,
    ) -> None:  # fmt: skip
        """g = dw + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps).

        Args: w, ms: wide, updated in place, one shape; dw: wide, the summed gradient.
        """
        self._check_update(w, enabled, ms=ms, dw=dw)
        check_rate(lr, self.wide)

    @operation
    def adam_update(
        self, w: Array, m: Array, v: Array, t: Array, dw: Array, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: Array | None = None,
    ) -> None:  # fmt: skip
        """Adam (Kingma & Ba 2015, Algorithm 1) on g = dw + weight_decay · w; β1 = 0.5 as is usual for GANs.

        Args:
            w, m, v: wide, updated in place, one shape.
            t: int64 [1], the number of applied updates; advanced here, so that a gated network's bias correction waits too.
            dw: wide, the summed gradient.
        """
        self._check_update(w, enabled, m=m, v=v, t=t, dw=dw)
        check_rate(lr, self.wide)

    def update_list(self, kind: str, entries: Sequence[UpdateEntry]) -> UpdateList:
        """What `rmsprop_update_all` (kind "rmsprop") or `adam_update_all` ("adam") updates, in one launch on a GPU.

        It may hold addresses: the arrays must stay where they are.

        Raises:
            ValueError: an unknown kind; shapes or dtypes that differ.
        """
        if kind not in STATES:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(STATES)}")
        names = STATES[kind]
        for entry in entries:
            check_optional("average", entry.average, entry.w.shape, self.wide)
            if entry.grad is None and not entry.states:
                self._check_update(entry.w, entry.enabled)
                continue
            if len(entry.states) != len(names):
                raise ValueError(f"states: got {len(entry.states)} arrays, expected {len(names)}: {', '.join(names)}")
            states = dict(zip(names, entry.states, strict=True))
            self._check_update(entry.w, entry.enabled, **states, **({} if entry.grad is None else {"grad": entry.grad}))
            if entry.copy is not entry.w:
                check_optional("copy", entry.copy, entry.w.shape, self.dtype)
        used = [entry for entry in entries if entry.grad is not None or entry.average is not None]
        return UpdateList(kind, used, self._update_list(kind, used))

    def _update_list(self, kind: str, entries: list[UpdateEntry]) -> Any:
        """The engine's own form of the list."""
        return None

    def _check_list(self, updates: UpdateList, kind: str, lr: Any, blend: Any) -> None:
        if updates.kind != kind:
            raise ValueError(f"updates: got a list of {updates.kind!r}, expected {kind!r}")
        check_rate(lr, self.wide)
        check_rate(blend, self.wide, "blend")

    @operation
    def rmsprop_update_all(self, updates: UpdateList, *, lr: Any, decay: float = 0.9, eps: float = 1e-8, blend: Any = 1.0) -> None:
        """`rmsprop_update` of every parameter in the list, of rate · lr, their copies as operands, and their averages:

            average ← average + blend · (w − average),  w as it is after the update

        Args: blend: 1 minus the average's decay, a number or a wide array [1]; not read where no entry has an average.
        """
        self._check_list(updates, "rmsprop", lr, blend)

    @operation
    def adam_update_all(
        self, updates: UpdateList, *, lr: Any, beta1: float = 0.5, beta2: float = 0.999, eps: float = 1e-8, blend: Any = 1.0
    ) -> None:  # fmt: skip
        """`adam_update` of every parameter in the list, their copies and averages; ``blend`` and rates as in `rmsprop_update_all`."""
        self._check_list(updates, "adam", lr, blend)
