"""Sums, copies and joins: launchers of elementwise.cu. Contract: `kernels.contract.elementwise`; the same in NumPy:
kernels/cpu/elementwise.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, defines_of, scalar
from kernels.cuda.operations import Operations
from kernels.ledger import cost

FILE = "elementwise.cu"
PER_BLOCK = 16 * THREADS  # elements
SMALL = 1 << 16  # elements: a copy of so few takes longer to launch than to do


class Copied(NamedTuple):
    """A small copy that is held back: out = x, from float32."""

    out: Array
    x: Array


class Added(NamedTuple):
    """A sum that is held back: of ``a`` and ``b``, with the numbers of the kernel."""

    a: Array
    b: Array
    numbers: tuple[Any, ...]


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
        """Held back: tanh's gradient does it too, if that is the next launch."""
        numbers, defines = (*scalar(alpha), np.float32(beta)), defines_of(a)

        def launch() -> None:
            launch_map(self.device, "add", out, [a, b], *numbers, defines=defines)

        self.device.hold(out, Added(a, b, numbers), launch)

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
        if out.size <= SMALL and out.dtype == self.dtype and x.dtype == np.float32:
            return self.device.hold(out, Copied(out, x), lambda: self._copy_now(out, x))
        self._copy_now(out, x)

    def _copy_now(self, out: Array, x: Array) -> None:
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
