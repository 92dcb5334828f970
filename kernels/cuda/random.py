"""Draws on the device: launchers of random.cu. Contract: `kernels.contract.random`; the same integers, and of those the same values, as
kernels/philox.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import cost
from kernels.philox import STREAM_INIT

FILE = "random.cu"


class Random(Operations):
    """Operations of the CUDA engine."""

    def _normal(self, out: Array, *, seed: int, step: Any, stream: int) -> None:
        counter = None
        if not isinstance(step, (int, np.integer)):
            counter, step = step, 0
        if out.size:
            self.device.cuda(
                FILE, "normal", blocks(out.size, 4 * THREADS), THREADS, out, np.uint64(seed), counter, np.uint64(step), np.uint32(stream),
                np.int64(out.size), cost=cost(0, [] if counter is None else [counter], [out]), defines=defines_of(out),
            )  # fmt: skip

    def _uniform_init(self, out: Array, bound: float, *, seed: int, index: int) -> None:
        if out.size:
            self.device.cuda(
                FILE, "uniform_init", blocks(out.size, 4 * THREADS), THREADS, out, np.float64(bound), np.uint64(seed), np.uint64(index),
                np.uint32(STREAM_INIT), np.int64(out.size), cost=cost(0, [], [out]),
            )  # fmt: skip
