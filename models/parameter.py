"""Parameters and running statistics: named arrays that outlive a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import Array, Engine


@dataclass(eq=False)
class Parameter:
    """A trained array.

    Attributes:
        name: its place in the module tree, "encoder/conv1/weight".
        shape: as in kernels: conv [KH, KW, Ci, Co], upconv [KH, KW, Co, Ci], linear [in, out], vectors [C].
        fan_in: inputs of one output, for the initial range; 0 for a constant start.
        start: the constant of a parameter that is not drawn (γ 1, β and biases 0).
        decay: whether weight decay applies.
        data, grad: wide arrays, set by `allocate`.
        compute: what products read: data itself, or for a matrix on an engine of a narrower dtype a copy of it.
        state: the optimiser's arrays by name.
        average: the moving average of data, wide, or None.
        fused_update: where set, a linear layer gives (x, dy) to this instead of writing the gradient: the update that is fused with it.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int = 0
    start: float = 0.0
    decay: bool = False
    data: Array = None
    grad: Array = None
    compute: Array = None
    state: dict[str, Any] = field(default_factory=dict)
    average: Array = None
    fused_update: Callable[[Array, Array], None] | None = None

    def allocate(self, engine: Engine, *, seed: int, index: int, grad: bool = True) -> None:
        """Allocate data, copy and gradient (unless ``grad`` is False) and draw the start: U(±1 / sqrt(3 fan_in)), as the authors do."""
        self.data = engine.empty(self.shape, engine.wide)
        narrow = len(self.shape) > 1 and engine.dtype != engine.wide
        self.compute = engine.empty(self.shape) if narrow else self.data
        if self.fan_in:
            engine.uniform_init(self.data, (3.0 * self.fan_in) ** -0.5, seed=seed, index=index)
        else:
            engine.fill(self.data, self.start)
        self.refresh(engine)
        if grad:
            self.allocate_grad(engine)

    def allocate_grad(self, engine: Engine) -> None:
        """Allocate the gradient if it has no array yet."""
        if self.grad is None:
            self.grad = engine.empty(self.shape, engine.wide)
            engine.fill(self.grad, 0)

    def refresh(self, engine: Engine) -> None:
        """Bring ``compute`` up to date with ``data``."""
        if self.compute is not self.data:
            engine.copy(self.compute, self.data)

    def swap(self, engine: Engine) -> None:
        """Exchange ``data`` and ``average``: a network that is used in between is that of the averages."""
        shared = self.compute is self.data
        self.data, self.average = self.average, self.data
        if shared:
            self.compute = self.data
        self.refresh(engine)


@dataclass(eq=False)
class Statistic:
    """A running statistic of batch norm, [C]: not trained, saved with the parameters. ``average``: as a parameter's."""

    name: str
    channels: int
    start: float
    data: Array = None
    average: Array = None

    def allocate(self, engine: Engine) -> None:
        self.data = engine.empty((self.channels,), engine.wide)
        engine.fill(self.data, self.start)

    def swap(self, engine: Engine) -> None:
        """As `Parameter.swap`."""
        self.data, self.average = self.average, self.data


def load(engine: Engine, own: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Copy ``arrays`` into the arrays ``own`` of the same names.

    Raises:
        ValueError: naming the first array that is missing, unknown or of another shape; nothing is copied then.
    """
    for name, array in own.items():
        if name not in arrays:
            raise ValueError(f"state: {name} is missing")
        if tuple(arrays[name].shape) != tuple(array.shape):
            raise ValueError(f"state: {name} has shape {tuple(arrays[name].shape)}, expected {tuple(array.shape)}")
    for name in arrays:
        if name not in own:
            raise ValueError(f"state: {name} is unknown to this network")
    for name, array in own.items():
        engine.put(array, arrays[name])
