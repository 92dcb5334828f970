"""RMSProp and Adam over a network's parameters, and the learning rate against progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels import Array, Engine, UpdateEntry
from models.parameter import Parameter, Statistic

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

    def allocate(self, parameters: list[tuple[Parameter, Any, float]], fused: list[Parameter], followed: list[Statistic]) -> None:
        """Allocate and clear the state of each (parameter, flag of the equilibrium gate: uint8 [1], or None, factor of the rate).

        Parameters in ``fused`` are updated by `fused_update`, not by `update`. ``followed``: statistics with an average.
        """
        engine = self.engine
        names = ("mean_square",) if self.kind == "rmsprop" else ("first_moment", "second_moment")
        entries = []
        for p, enabled, rate in parameters:
            p.state = {name: engine.empty(p.shape, engine.wide) for name in names}
            if self.kind == "adam":
                p.state["updates"] = engine.empty((1,), "int64")
            for array in p.state.values():
                engine.fill(array, 0)
            grad = None if p in fused else p.grad
            copy = p.compute if p.compute is not p.data else None
            entries.append(UpdateEntry(p.data, copy, tuple(p.state.values()), grad, self._decay(p), enabled, p.average, rate))
        entries += [UpdateEntry(s.data, None, (), None, 0.0, None, s.average) for s in followed]
        self._updates = engine.update_list(self.kind, entries)

    def _decay(self, p: Parameter) -> float:
        return self.weight_decay if p.decay else 0.0

    def update(self, lr: Any, blend: Any = 1.0) -> None:
        """Apply one step of rate ``lr`` (a float, or a wide array [1]) to all parameters, where their flags allow it, and move every
        average by the share ``blend`` (likewise) towards what it follows."""
        update_all = self.engine.rmsprop_update_all if self.kind == "rmsprop" else self.engine.adam_update_all
        update_all(self._updates, lr=lr, blend=blend)

    def fused_update(self, p: Parameter, lr: Any) -> Callable[[Any, Any], None]:
        """The RMSProp update of a linear layer's weights straight from (x, dy)."""

        def update(x: Array, dy: Array) -> None:
            self.engine.linear_wgrad_rmsprop(p.data, p.state["mean_square"], p.compute, x, dy, lr=lr, weight_decay=self._decay(p))

        return update


def learning_rate(step: int, steps: int, *, start: float, stop: float, epochs: int = 0) -> float:
    """The rate of step ``step`` (from 0) of ``steps``: start − p^0.75 · (start − stop), the authors' schedule.

    Args:
        start, stop: applied rates (the authors' 0.02 and 1e-5 divided by their batch of 64).
        epochs: p moves in so many equal stairs, e / N, as theirs does; 0: smoothly.
    """
    progress = step / steps if not epochs else (step * epochs // steps) / epochs
    return start - progress**0.75 * (start - stop)


def average_decay(step: int, decay: float) -> float:
    """The decay of the moving average at step ``step`` (from 0): min(decay, (1 + step) / (10 + step)), so that a short run's average
    is not that of its first steps."""
    return min(decay, (1 + step) / (10 + step))
