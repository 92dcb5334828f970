"""Draws on the device: launchers of random.cu. Contract: `kernels.contract.random`; the same integers, and of those the same values, as
kernels/philox.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import cost
from kernels.philox import STREAM_INIT

FILE = "random.cu"


class Draw(NamedTuple):
    """Normal numbers that are still to be drawn, in step ``counter`` of the device or ``step``."""

    out: Array
    seed: int
    counter: Array
    step: int
    stream: int
    start: int

    def fits(self, other: Draw) -> bool:
        """Whether one launch can do both."""
        same = self.counter is other.counter and (self.seed, self.step, self.start) == (other.seed, other.step, other.start)
        return same and self.out.size == other.out.size and self.out.dtype == other.out.dtype


class Random(Operations):
    """Operations of the CUDA engine."""

    def _normal(self, out: Array, *, seed: int, step: Any, stream: int, start: int = 0) -> None:
        """Held back: the next draw of as many numbers with this step and start is made in the same launch."""
        counter = None
        if not isinstance(step, (int, np.integer)):
            counter, step = step, 0
        if not out.size:
            return
        draw = Draw(out, seed, counter, int(step), stream, start)
        before = self.device.taken(Draw)
        if before is not None and before.fits(draw):
            return self._draw(before, draw)
        if before is not None:
            self._draw(before, None)
        self.device.hold(out, draw, lambda: self._draw(draw, None))

    def _draw(self, one: Draw, other: Draw | None) -> None:
        out, seed, counter, step, stream, start = one
        second = (other.out, np.uint32(other.stream)) if other else (None, np.uint32(0))
        self.device.cuda(
            FILE, "normal", (blocks(start % 4 + out.size, 4 * THREADS), 2 if other else 1), THREADS, out, np.uint64(seed), counter,
            np.uint64(step), np.uint32(stream), np.int64(start), np.int64(out.size), *second,
            cost=cost(0, [] if counter is None else [counter], [out, *([other.out] if other else [])]), defines=defines_of(out),
        )  # fmt: skip

    def _uniform_init(self, out: Array, bound: float, *, seed: int, index: int) -> None:
        if out.size:
            self.device.cuda(
                FILE, "uniform_init", blocks(out.size, 4 * THREADS), THREADS, out, np.float64(bound), np.uint64(seed), np.uint64(index),
                np.uint32(STREAM_INIT), np.int64(out.size), cost=cost(0, [], [out]),
            )  # fmt: skip
