"""Batches of varied training images: the launcher of augment_batch in random.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.augmentation import Augmentation, check
from kernels.cuda.batch import Batch
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.shapes import check_array


class Augment(Batch):
    """An operation of the CUDA engine."""

    def augment_batch(
        self, x: Any, images: Any, order: Any, counter: Any, *, per_epoch: int, seed: int, flip: bool, strengths: Augmentation
    ) -> None:
        """The batch of `gather_batch`, each image varied by draws of (seed, step, STREAM_AUGMENT), and mirrored as there.

        Args:
            x: [N, H, W, C], C = 1 or 3, output. images, order, counter: as of `gather_batch`.
            strengths: `kernels.augmentation.Augmentation`; `kernels.cpu.augment` has the formulas.

        Raises:
            ValueError: a shape, dtype or strength that does not fit.
        """
        check_values("x", x, 4)
        check_array("images", images, (len(images), *x.shape[1:]), np.uint8)
        if x.shape[3] not in (1, 3):
            raise ValueError(f"x: got {x.shape[3]} channels, expected 1 or 3")
        check(strengths)
        self._check_order(order, counter, per_epoch, len(x))
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed: got {seed}, expected an integer in [0, 2^64)")
        n, h, w, c = x.shape
        self.device.cuda(
            "random.cu", "augment_batch", (blocks(h * w, THREADS), min(n, 65535)), THREADS, x, images, order, counter, np.int64(per_epoch),
            np.uint64(seed), np.int32(flip), *map(np.float32, strengths), np.int64(len(images)), *map(np.int32, (n, h, w, c)),
            cost=self._gather_cost(x), defines=defines_of(x),
        )  # fmt: skip
