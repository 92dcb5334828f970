"""Results put together from parts: launchers of parts.cu. Contract: `kernels.contract.parts`; the same in NumPy: kernels/cpu/parts.py."""

from __future__ import annotations

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "parts.cu"


class Parts(Operations):
    """Operations of the CUDA engine."""

    def _combine_statistics(self, mean: Array, var: Array, parts: Array, shares: Array) -> None:
        self.device.cuda(
            FILE, "combine_statistics", blocks(mean.size, THREADS), THREADS, mean, var, parts, shares, np.int32(len(parts)),
            np.int64(mean.size), cost=cost(0, [parts, shares], [mean, var]),
        )  # fmt: skip

    def _sum_parts(self, out: Array, parts: Array, *, factor: float = 1.0) -> None:
        if out.size:
            self.device.cuda(
                FILE, "sum_parts" if out.dtype.itemsize == 4 else "sum_parts_double", blocks(out.size, THREADS), THREADS, out, parts,
                np.float64(factor), np.int32(len(parts)), np.int64(out.size), cost=cost(0, [parts], [out]),
            )  # fmt: skip
