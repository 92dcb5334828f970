"""Random numbers, a pure function of (seed, step, stream): `kernels.philox`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.checks import check_array, check_float, check_range
from kernels.contract.operation import Array, Contract, operation


class Random(Contract):
    """Operations of the contract."""

    @operation
    def normal(self, out: Array, *, seed: int, step: Any, stream: int, start: int = 0) -> None:
        """Fill ``out`` with the N(0, 1) draws of (seed, step, stream), from element ``start`` on, formed in double.

        Args: out, of either dtype, any shape, output; step, an integer or an int64 array [1] of the device.
        """
        check_float("out", out, None, self.dtype, self.wide)
        check_range("seed", seed, 64)
        check_range("stream", stream, 32)
        check_range("start", start, 34)  # four elements a block, whose number has 32 bits
        if isinstance(step, (int, np.integer)):
            check_range("step", int(step), 64)
        else:
            check_array("step", step, (1,), np.int64)

    @operation
    def uniform_init(self, out: Array, bound: float, *, seed: int, index: int) -> None:
        """Fill ``out`` with U(−bound, bound), the initial values of parameter number ``index``: the bits that every engine draws.

        Args: out wide, any shape, output.
        """
        check_array("out", out, None, self.wide)
        check_range("seed", seed, 64)
        check_range("index", index, 64)
