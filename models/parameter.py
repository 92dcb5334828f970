"""Parameters and running statistics: named arrays that outlive a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kernels import Engine


@dataclass
class Parameter:
    """A trained array.

    Attributes:
        name: its place in the module tree, "encoder/conv1/weight".
        shape: as in kernels: conv [KH, KW, Ci, Co], upconv [KH, KW, Co, Ci], linear [in, out], vectors [C].
        fan_in: inputs of one output, for the initial range; 0 for a constant start.
        start: the constant of a parameter that is not drawn (γ 1, β and biases 0).
        decay: whether weight decay applies.
        data, grad: set by `place`.
        state: the optimiser's arrays by name.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int = 0
    start: float = 0.0
    decay: bool = False
    data: Any = None
    grad: Any = None
    state: dict[str, Any] = field(default_factory=dict)

    def place(self, engine: Engine, *, seed: int, index: int) -> None:
        """Allocate data and gradient and draw the start: U(±1 / sqrt(3 fan_in)), as in the authors' code."""
        self.data, self.grad = engine.empty(self.shape), engine.empty(self.shape)
        if self.fan_in:
            engine.uniform_init(self.data, (3.0 * self.fan_in) ** -0.5, seed=seed, index=index)
        else:
            self.data[...] = self.start
        self.grad[...] = 0


@dataclass
class Statistic:
    """A running statistic of batch norm, [C]: not trained, saved with the parameters."""

    name: str
    channels: int
    start: float
    data: Any = None

    def place(self, engine: Engine) -> None:
        self.data = engine.empty((self.channels,))
        self.data[...] = self.start
