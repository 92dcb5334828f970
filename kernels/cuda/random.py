"""Draws on the device: launchers of random.cu. The same integers as kernels/philox.py, and of those the same values."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import cost
from kernels.philox import STREAM_INIT
from kernels.shapes import check_array

FILE = "random.cu"


def _check_range(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name}: got {value}, expected an integer in [0, 2^{bits})")


class Random:
    """Operations of the CUDA engine; ``device`` and ``wide`` are the engine's."""

    device: Device
    wide: np.dtype[Any]

    def normal(self, out: Any, *, seed: int, step: Any, stream: int) -> None:
        """Fill ``out`` with the N(0, 1) draws of (seed, step, stream), formed in double.

        Args:
            out: any shape, float32 or the engine's dtype; output.
            step: an integer, or an int64 array [1] on the device.

        Raises:
            ValueError: a shape or dtype that does not fit; a seed, step or stream that is negative or too large.
        """
        check_values("out", out)
        _check_range("seed", seed, 64)
        _check_range("stream", stream, 32)
        counter = None
        if not isinstance(step, (int, np.integer)):
            check_array("step", step, (1,), np.int64)
            counter, step = step, 0
        _check_range("step", step, 64)
        if out.size:
            self.device.cuda(
                FILE, "normal", blocks(out.size, 4 * THREADS), THREADS, out, np.uint64(seed), counter, np.uint64(step), np.uint32(stream),
                np.int64(out.size), cost=cost(0, [] if counter is None else [counter], [out]), defines=defines_of(out),
            )  # fmt: skip

    def uniform_init(self, out: Any, bound: float, *, seed: int, index: int) -> None:
        """Fill ``out`` with U(−bound, bound), the initial values of parameter number ``index``: the bits that every engine draws.

        Args: out, any shape, float32; output.

        Raises:
            ValueError: another dtype; a seed or index that is negative or too large.
        """
        check_array("out", out, None, self.wide)
        _check_range("seed", seed, 64)
        _check_range("index", index, 64)
        if out.size:
            self.device.cuda(
                FILE, "uniform_init", blocks(out.size, 4 * THREADS), THREADS, out, np.float64(bound), np.uint64(seed), np.uint64(index),
                np.uint32(STREAM_INIT), np.int64(out.size), cost=cost(0, [], [out]),
            )  # fmt: skip
