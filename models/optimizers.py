"""RMSProp and Adam over a network's parameters."""

from __future__ import annotations

from typing import Any

from kernels import Engine
from models.parameter import Parameter

OPTIMIZERS = ("rmsprop", "adam")


class Optimizer:
    """Keeps each parameter's state in ``Parameter.state`` and updates it from ``Parameter.grad``.

    Args:
        kind: "rmsprop" (decay 0.9, eps 1e-8 outside the root) or "adam" (β 0.5, 0.999).
        weight_decay: added to the summed gradient as weight_decay · W where `Parameter.decay` is set. The authors' rule
            "2 · 1e-5 · W" is 2e-5.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, engine: Engine, kind: str, weight_decay: float):
        if kind not in OPTIMIZERS:
            raise ValueError(f"optimizer: got {kind!r}, expected one of {', '.join(OPTIMIZERS)}")
        self.engine, self.kind, self.weight_decay = engine, kind, weight_decay

    def place(self, parameters: list[Parameter]) -> None:
        """Allocate and clear the state."""
        names = ("mean_square",) if self.kind == "rmsprop" else ("first_moment", "second_moment")
        for p in parameters:
            p.state = {name: self.engine.empty(p.shape) for name in names}
            if self.kind == "adam":
                p.state["updates"] = self.engine.empty((1,), "int64")
            for array in p.state.values():
                array[...] = 0

    def update(self, parameters: list[Parameter], lr: float, enabled: Any = None) -> None:
        """Apply one step of rate ``lr``; ``enabled`` is the equilibrium gate's flag (uint8 [1]) or None."""
        for p in parameters:
            common = {"lr": lr, "weight_decay": self.weight_decay if p.decay else 0.0, "enabled": enabled}
            if self.kind == "rmsprop":
                self.engine.rmsprop_update(p.data, p.state["mean_square"], p.grad, **common)
            else:
                moments = p.state["first_moment"], p.state["second_moment"], p.state["updates"]
                self.engine.adam_update(p.data, *moments, p.grad, **common)
