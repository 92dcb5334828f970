"""Counts what Triton's interpreter executes: operations of every `tl.dot` and the distinct bytes that are read and written.

The declared cost of each launch is held against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np


class Counted(NamedTuple):
    """One launch: its name, what it declared, and what the interpreter saw."""

    name: str
    declared: Any
    flops: int
    reads: int
    writes: int


class _Tally:
    def __init__(self) -> None:
        self.flops = 0
        self.read: list[np.ndarray] = []
        self.written: list[np.ndarray] = []

    def touch(self, kept: list[np.ndarray], ptrs: Any, mask: Any) -> None:
        """Remember the addresses of one access; element types never overlap in an array, so an address stands for its element."""
        addresses = np.unique(ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape)].astype(np.uint64))
        size = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
        kept.append(addresses * np.uint64(16) + np.uint64(size))  # the size rides in the low bits

    @staticmethod
    def distinct(kept: list[np.ndarray]) -> int:
        if not kept:
            return 0
        return int((np.unique(np.concatenate(kept)) & np.uint64(15)).sum())


@contextmanager
def counted(device: Any) -> Iterator[list[Counted]]:
    """Every Triton launch of ``device`` (a HostDevice) inside the block, counted."""
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    dot, load, store = builder.create_dot, builder.create_masked_load, builder.create_masked_store
    launch, tally, result = device.triton, _Tally(), []

    def counted_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        tally.flops += 2 * a.data.shape[0] * a.data.shape[1] * b.data.shape[1]
        return dot(self, a, b, *rest)

    def counted_load(self: Any, ptrs: Any, mask: Any, *rest: Any, **options: Any) -> Any:
        tally.touch(tally.read, ptrs, mask)
        return load(self, ptrs, mask, *rest, **options)

    def counted_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        tally.touch(tally.written, ptrs, mask)
        return store(self, ptrs, value, mask, *rest)

    def counted_launch(kernel: Any, grid: Any, *args: Any, cost: Any, **options: Any) -> None:
        tally.__init__()  # type: ignore[misc]
        launch(kernel, grid, *args, cost=cost, **options)
        result.append(Counted(kernel.fn.__name__, cost, tally.flops, tally.distinct(tally.read), tally.distinct(tally.written)))

    builder.create_dot, builder.create_masked_load, builder.create_masked_store = counted_dot, counted_load, counted_store
    device.triton = counted_launch
    try:
        yield result
    finally:
        builder.create_dot, builder.create_masked_load, builder.create_masked_store = dot, load, store
        del device.triton
