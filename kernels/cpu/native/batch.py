"""Batches by batch.cpp and augment.cpp; contract: `kernels.contract.batch`. Rows and counters are the NumPy engine's."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.augmentation import Augmentation
from kernels.contract.batch import batch_of


class Batch:
    """Operations of the native engine."""

    library: Any

    def _gather_images(self, x: np.ndarray, images: np.ndarray, indices: np.ndarray, flips: np.ndarray | None = None) -> None:
        self.library.gather_images(x, images, np.ascontiguousarray(indices, np.int32), flips, *x.shape)

    def _gather_batch(
        self, x: np.ndarray, images: np.ndarray, order: np.ndarray, counter: np.ndarray, *, per_epoch: int, seed: int, flip: bool,
        first: int = 0,
    ) -> None:  # fmt: skip
        indices = batch_of(order, counter, per_epoch, len(x))
        self.library.gather_batch(x, images, indices, *x.shape, seed, int(counter[0]), flip, first)

    def _augment_batch(
        self, x: np.ndarray, images: np.ndarray, order: np.ndarray, counter: np.ndarray,
        *, per_epoch: int, seed: int, flip: bool, strengths: Augmentation, first: int = 0,
    ) -> None:  # fmt: skip
        indices = batch_of(order, counter, per_epoch, len(x))
        self.library.augment_batch(x, images, indices, *x.shape, seed, int(counter[0]), flip, *map(float, strengths), first)
