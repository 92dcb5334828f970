"""The layers of Table 1. A layer is its parameters and two functions; it keeps nothing of a batch.

    forward(x, pass_)                               → (y, saved)
    backward(dy, saved, dx=, dw=, done=, previous=) → the error at x, or None where it is not wanted
    as_previous(saved, dw)                          → what the next layer must know to finish this one's ReLU and batch-norm sums

``saved`` is what this application of the layer must remember: it belongs to the caller, who may hold several. Arrays come
from the pool; ``backward`` consumes ``dy`` (overwrites it and hands it back) and writes gradients to ``Parameter.grad``.

A gradient kernel holds the error at a layer's output before it is written: there it is masked by that layer's ReLU and summed for
its batch norm (`kernels.Previous`), so that the layer's own backward need not read it once more. ``done`` says that it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from kernels import Array, Engine, Previous
from models.memory import Pool
from models.parameter import Parameter, Statistic

MOMENTUM = 0.9  # of the running statistics: the fraction that is kept
EPS_CONV = 1e-6  # of batch norm after a convolution (authors' code)
EPS_LINEAR = 1e-5  # of batch norm after a linear layer


@dataclass
class Context:
    """What every layer of a model shares."""

    engine: Engine
    pool: Pool


class Pass(NamedTuple):
    """How a network is applied: ``groups`` of images that share batch statistics, or running statistics (``train`` False), and for a
    conditional network ``attributes``, wide [M, A], a row an image (rows beyond the batch are not read)."""

    groups: tuple[int, ...]
    train: bool = True
    update_running: bool = True
    attributes: Array = None


class Saved(NamedTuple):
    """One application of a layer. ``x`` belongs to whoever made it; the rest is this layer's own."""

    x: Array
    y: Array
    own: tuple[Array, ...]  # taken from the pool by forward, handed back by release
    norm: tuple[Any, ...] = ()  # pre, mean, var, groups
    train: bool = True  # whether mean and var are those of the batch
    source: Array = None  # x before attributes were put behind it


class Layer:
    """A layer with ``parameters`` and ``statistics``. Subclasses write forward and backward."""

    def __init__(self, context: Context, parameters: list[Parameter], statistics: list[Statistic] | None = None):
        self.engine, self.pool = context.engine, context.pool
        self.parameters, self.statistics = parameters, statistics or []

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of y for x's shape, batch axis included."""
        raise NotImplementedError

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        """Apply the layer to x; ``out`` takes y where given (then it stays the caller's)."""
        raise NotImplementedError

    def backward(
        self, dy: Array, saved: Saved, *, dx: bool, dw: bool, done: Previous | None = None, previous: Previous | None = None
    ) -> Array:  # fmt: skip
        """``done``: what `as_previous` gave to the maker of dy, which came with this layer's ReLU and sums done; consumed. ``previous``: of
        the layer before, for which that is done to the error at x."""
        raise NotImplementedError

    def as_previous(self, saved: Saved, dw: bool) -> Previous | None:
        """For the next layer, if this one's output is its only input; ``dw`` as of `backward`. None: nothing to be done there."""
        return None

    def release(self, saved: Saved) -> None:
        """Hand the arrays of one application back to the pool."""
        self.pool.give(*saved.own)
