"""A launch that is held back, so that the next one can do its work too: a launch less, and the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from kernels.contract.operation import Array

About = TypeVar("About")


class Held(NamedTuple):
    """``launch`` would make ``result``; ``about`` is what another launch needs to do so itself."""

    result: Array
    about: Any
    launch: Callable[[], None]


class Holding:
    """Base of a device. Nobody sees that a launch was held back: it is made before any other, and before the host reads or waits."""

    _held: Held | None = None
    unfinished: list[tuple[Array, Array, Array]] | None = None  # within `summed_together`: results, their partial sums, biases
    fixed: Any = None  # within `FixedWeights`: it

    def hold(self, result: Array, about: Any, launch: Callable[[], None]) -> None:
        """Make ``launch`` later, unless the next launch takes its work over."""
        self.settle()
        self._held = Held(result, about, launch)

    def taken(self, kind: type[About], result: Array = None) -> About | None:
        """What was held back, if it is a ``kind`` and makes ``result`` (the same object), for the caller's next launch to do; else None."""
        held = self._held
        if held is None or not isinstance(held.about, kind) or (result is not None and held.result is not result):
            return None
        self._held = None
        return held.about

    def settle(self) -> None:
        """Make the launch that is held back, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            held.launch()
