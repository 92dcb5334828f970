"""Networks as sequences of layers, and their applications to a batch: the whole of the layer graph.

A network is applied several times in a step (or once to a joined batch); each `Application` holds what its own backward
passes need, and may be sent backward more than once, with different errors, before it is released.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import Any

from kernels import Array, Previous
from models.layer import Layer, Pass, Saved
from models.parameter import Parameter, Statistic


class Sequential:
    """Layers applied one after the other."""

    def __init__(self, layers: list[Layer]):
        self.layers = layers

    @property
    def parameters(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer.parameters]

    @property
    def statistics(self) -> list[Statistic]:
        return [s for layer in self.layers for s in layer.statistics]

    def apply(self, x: Array, pass_: Pass, out: Array = None) -> Application:
        """Forward through every layer; ``out`` takes the last layer's output (a slice of a joined batch, say)."""
        saved, unchanged = [], ExitStack()  # its input, until it is released: backward reads it
        unchanged.enter_context(self.layers[0].engine.unchanged(x))
        for layer in self.layers:
            x, kept = layer.forward(x, pass_, out if layer is self.layers[-1] else None)
            saved.append(kept)
        return Application(self, saved, x, unchanged)


class Application:
    """One forward pass of a `Sequential`: its ``output``, and what a backward pass needs."""

    def __init__(self, network: Sequential, saved: list[Saved], output: Array, unchanged: ExitStack):
        self._network, self._saved, self.output = network, saved, output
        self._unchanged = unchanged
        self.first = saved[0].y  # output of the first layer

    def backward(
        self, dy: Array, *, dx: bool, dw: bool, rows: slice | None = None, done: Previous | None = None,
        at_first: Array = None, fixed: bool = False,
    ) -> Array:  # fmt: skip
        """Send ``dy`` (of the pool; consumed) back; returns the error at the input (of the pool) if ``dx``, else None.

        Args:
            dx: whether the error at the input is wanted.
            dw: whether gradients of the parameters are wanted (written to ``Parameter.grad``).
            rows: the images whose input error is wanted, if not all: the first layer must be a `Conv`.
            done: dy came with the last layer's ReLU and sums done: what `as_previous` gave for that; consumed.
            fixed: take the batch statistics as constants: the error of an image is then its own alone.
            at_first: of the pool, consumed: another error at the first layer's output, which must end in a ReLU without batch norm.
        """
        with self._network.layers[0].engine.together() if dw else nullcontext():
            return self._backward(dy, dx=dx, dw=dw, rows=rows, done=done, at_first=at_first, fixed=fixed)

    def _backward(
        self, dy: Array, *, dx: bool, dw: bool, rows: slice | None, done: Previous | None, at_first: Array, fixed: bool
    ) -> Array:  # fmt: skip
        layers = self._network.layers
        saved = [one._replace(train=False) for one in self._saved] if fixed else self._saved
        for i in reversed(range(len(layers))):
            first = i == 0
            extra: dict[str, Any] = {"rows": rows} if first and rows is not None else {}
            previous = None if first else layers[i - 1].as_previous(saved[i - 1], dw)
            if first and at_first is not None:
                engine = layers[0].engine
                if done is not None:  # dy has been through this ReLU, at_first has not
                    engine.relu_backward(at_first, at_first, self.first)
                engine.add(dy, at_first, dy)
                layers[0].pool.give(at_first)
            dy = layers[i].backward(dy, saved[i], dx=dx or not first, dw=dw, done=done, previous=previous, **extra)
            done = previous
        return dy

    def as_previous(self, dw: bool) -> Previous | None:
        """What the maker of this output's error can do for the last layer, where it alone makes it; it goes to `backward` as ``done``."""
        return self._network.layers[-1].as_previous(self._saved[-1], dw)

    def release(self) -> None:
        """Hand everything back to the pool; the output too."""
        for layer, saved in zip(self._network.layers, self._saved, strict=True):
            layer.release(saved)
        self._saved = []
        self._unchanged.close()
