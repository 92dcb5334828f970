"""Batches and the counters of a step: launchers of random.cu and batch.cu. Contract: `kernels.contract.batch`; the same in NumPy:
kernels/cpu/batch.py and kernels/cpu/augment.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.augmentation import Augmentation
from kernels.contract.checks import check_values
from kernels.contract.operation import Array
from kernels.cuda.device.launch import THREADS, blocks, defines_of
from kernels.cuda.operations import Operations
from kernels.ledger import Cost, cost

INDICES = (np.dtype(np.int32), np.dtype(np.int64))


def _grid(x: Array) -> tuple[int, int]:
    return blocks(x.size // len(x), 8 * THREADS), min(len(x), 65535)


def _extents(x: Array) -> tuple[Any, ...]:
    """N, W, C and H · W · C."""
    return np.int32(len(x)), np.int32(x.shape[2]), np.int32(x.shape[3]), np.int64(x.size // len(x))


def _gather_cost(x: Array) -> Cost:
    return cost(0, [x.size, 4 * len(x)], [x])  # one byte an element; not the whole data set


class Batch(Operations):
    """Operations of the CUDA engine."""

    def _gather_images(self, x: Array, images: Array, indices: Array, flips: Array | None = None) -> None:
        """Indices and flips that are NumPy arrays are uploaded; those that are on the device already are not read here."""
        if isinstance(indices, np.ndarray):
            if self.device.executes:
                check_values("indices", indices, 0, len(images))
            indices = self.device.upload(np.ascontiguousarray(indices, np.int32 if indices.dtype == np.int32 else np.int64))
        if indices.dtype not in INDICES:
            raise ValueError(f"indices: got dtype {indices.dtype}, expected int32 or int64")
        flips = self.device.upload(flips) if isinstance(flips, np.ndarray) else flips
        self.device.cuda(
            "random.cu", "gather_images", _grid(x), THREADS, x, images, indices, flips, np.int32(indices.dtype.itemsize == 8),
            np.int64(len(images)), *_extents(x), cost=_gather_cost(x), defines=defines_of(x),
        )  # fmt: skip

    def _gather_batch(
        self, x: Array, images: Array, order: Array, counter: Array, *, per_epoch: int, seed: int, flip: bool, first: int = 0
    ) -> None:
        self.device.cuda(
            "random.cu", "gather_batch", _grid(x), THREADS, x, images, order, counter, np.int64(per_epoch), np.uint64(seed),
            np.int32(flip), np.int64(first), np.int64(len(images)), *_extents(x), cost=_gather_cost(x), defines=defines_of(x),
        )  # fmt: skip

    def _augment_batch(
        self, x: Array, images: Array, order: Array, counter: Array, *, per_epoch: int, seed: int, flip: bool, strengths: Augmentation,
        first: int = 0,
    ) -> None:  # fmt: skip
        n, h, w, c = x.shape
        self.device.cuda(
            "random.cu", "augment_batch", (blocks(h * w, THREADS), min(n, 65535)), THREADS, x, images, order, counter, np.int64(per_epoch),
            np.uint64(seed), np.int32(flip), np.int64(first), *map(np.float32, strengths), np.int64(len(images)),
            *map(np.int32, (n, h, w, c)), cost=_gather_cost(x), defines=defines_of(x),
        )  # fmt: skip

    def _gather_rows(self, out: Array, rows: Array, order: Array, counter: Array, *, per_epoch: int) -> None:
        if out.dtype == np.int32:  # moved, not computed with: four bytes are four bytes
            out, rows = out.view(np.float32), rows.view(np.float32)
        if out.size:
            self.device.cuda(
                "batch.cu", "gather_rows", blocks(out.size, THREADS), THREADS, out, rows, order, counter, np.int64(per_epoch),
                np.int64(len(rows)), *map(np.int64, out.shape), cost=cost(0, [out, 4 * len(out), counter], [out]),
            )  # fmt: skip

    def _look_up_rate(self, lr: Array, rates: Array, counter: Array) -> None:
        self.device.cuda("batch.cu", "look_up_rate", 1, 1, lr, rates, counter, np.int64(rates.size), cost=cost(0, [counter, 4], [lr]))

    def _advance(self, counter: Array) -> None:
        self.device.cuda("batch.cu", "advance_counter", 1, 1, counter, cost=cost(0, [counter], [counter]))
