"""Sums, copies and joins: launchers of elementwise.cu. Contract: `kernels.contract.elementwise`; the same in NumPy:
kernels/cpu/elementwise.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, defines_of, scalar
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "elementwise.cu"
PER_BLOCK = 16 * THREADS  # elements


def launch_map(dev: Device, function: str, out: Array, inputs: list[Array], *scalars: Any, defines: tuple[str, ...]) -> None:
    """Launch ``function`` of elementwise.cu on the elements of ``out`` and ``inputs``; nothing where there are none."""
    if out.size:
        dev.cuda(
            FILE, function, blocks(out.size, PER_BLOCK), THREADS, out, *inputs, *scalars, np.int64(out.size),
            cost=cost(0, inputs, [out]), defines=defines,
        )  # fmt: skip


class Elementwise(Operations):
    """Operations of the CUDA engine."""

    def _add(self, out: Array, a: Array, b: Array, *, alpha: Any = 1.0, beta: float = 1.0) -> None:
        launch_map(self.device, "add", out, [a, b], *scalar(alpha), np.float32(beta), defines=defines_of(a))

    def _scale(self, out: Array, x: Array, factor: float) -> None:
        launch_map(self.device, "scale", out, [x], np.float32(factor), defines=defines_of(x))

    def _fill(self, out: Array, value: float) -> None:
        if out.size:
            pattern = np.full(8 // out.dtype.itemsize, value, out.dtype).view(np.uint64)[0]
            self.device.cuda(
                FILE, "fill_bytes", blocks(out.nbytes, 16 * THREADS), THREADS, out, pattern, np.int64(out.nbytes),
                cost=cost(0, [], [out]),
            )  # fmt: skip

    def _copy(self, out: Array, x: Array) -> None:
        if out.dtype != x.dtype:
            narrow = out.dtype == self.dtype
            return launch_map(self.device, "narrow" if narrow else "widen", out, [x], defines=defines_of(out if narrow else x))
        if out.size:
            self.device.cuda(
                FILE, "copy_bytes", blocks(out.nbytes, 16 * THREADS), THREADS, out, x, np.int64(out.nbytes), cost=cost(0, [x], [out])
            )

    def _concatenate(self, y: Array, x: Array, a: Array) -> None:
        if y.size:
            self.device.cuda(
                FILE, "concatenate", (blocks(y.shape[1], 8 * THREADS), min(len(y), 65535)), THREADS, y, x, a,
                *map(np.int64, (*x.shape, a.shape[1])), cost=cost(0, [x, a], [y]), defines=defines_of(y),
            )  # fmt: skip
