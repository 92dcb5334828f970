"""Batches gathered from a data set, varied if wanted, and the counters of a training step."""

from __future__ import annotations

import numpy as np

from kernels.augmentation import Augmentation, check_strengths
from kernels.contract.checks import check_array, check_float, check_range, check_values
from kernels.contract.operation import Array, Contract, operation


class Batch(Contract):
    """Operations of the contract."""

    def _check_images(self, x: Array, images: Array) -> None:
        check_float("x", x, 4, self.dtype)
        check_array("images", images, (len(images), *x.shape[1:]), np.uint8)

    def _check_order(self, order: Array, counter: Array, per_epoch: int, n: int, count: int) -> None:
        """The order of an epoch, of which a batch of n is used; where it can be read, its values are in [0, count)."""
        check_array("order", order, (order.size,), np.int32)
        check_array("counter", counter, (1,), np.int64)
        if per_epoch < 1 or order.size < per_epoch * n:
            raise ValueError(f"order: got {order.size} indices, expected at least {per_epoch} batches of {n}")
        if self.host_memory:
            check_values("order", batch_of(order, counter, per_epoch, n), 0, count)

    @operation
    def gather_images(self, x: Array, images: Array, indices: Array, flips: Array | None = None) -> None:
        """x[i] = images[indices[i]] / 127.5 − 1, mirrored left to right where flips[i].

        Args:
            x: [N, H, W, C], output.
            images: uint8 [n, H, W, C], the whole data set.
            indices: integers [N] in [0, n), of the device or NumPy's. One outside is an error, or on a GPU an image of NaN.
            flips: bool or uint8 [N], likewise, or None.
        """
        self._check_images(x, images)
        if indices.shape != (len(x),):
            raise ValueError(f"indices: got shape {indices.shape}, expected ({len(x)},)")
        if self.host_memory:
            check_values("indices", indices, 0, len(images))
        if flips is not None:
            check_array("flips", flips, (len(x),), None if flips.dtype == np.uint8 else bool)

    @operation
    def gather_batch(
        self, x: Array, images: Array, order: Array, counter: Array, *, per_epoch: int, seed: int, flip: bool, first: int = 0
    ) -> None:
        """The batch of step k = counter[0]: x[i] = images[order[(k mod per_epoch) · N + i]] / 127.5 − 1, mirrored left to right where
        ``flip`` and word ``first`` + i of the draw (seed, k, STREAM_FLIP) is odd.

        Args:
            x: [N, H, W, C], output.
            images: uint8 [n, H, W, C], the whole data set.
            order: int32 [m], m ≥ per_epoch · N, values in [0, n). One outside is an error, or on a GPU an image of NaN.
            counter: int64 [1].
            first: of these images in the step's whole batch, of which others may have other parts.
        """
        self._check_images(x, images)
        self._check_order(order, counter, per_epoch, len(x), len(images))
        check_range("seed", seed, 64)
        check_range("first", first, 31)

    @operation
    def augment_batch(
        self, x: Array, images: Array, order: Array, counter: Array, *, per_epoch: int, seed: int, flip: bool, strengths: Augmentation,
        first: int = 0,
    ) -> None:  # fmt: skip
        """The batch of `gather_batch`, mirrored as there, each image moved, scaled, turned, and changed in tone and colour by draws of
        (seed, k, STREAM_AUGMENT): the authors' augmentation of CelebA. One affine map about the centre, then colours, in [0, 1]:

            source = centre + R(θ) (pixel − centre) / s + t        bilinear, pixels beyond the edge are those of the edge
            v ← v^g                                                each channel
            S ← S^c,  V ← V^c,  H ← H + h                          in HSV; a grey image has V alone
            x = 2 v − 1

        Args: as of `gather_batch`, C = 1 or 3; strengths: standard deviations of what is drawn.
        """
        self._check_images(x, images)
        if x.shape[3] not in (1, 3):
            raise ValueError(f"x: got {x.shape[3]} channels, expected 1 or 3")
        check_strengths(strengths)
        self._check_order(order, counter, per_epoch, len(x), len(images))
        check_range("seed", seed, 64)
        check_range("first", first, 31)

    @operation
    def gather_rows(self, out: Array, rows: Array, order: Array, counter: Array, *, per_epoch: int) -> None:
        """The rows that belong to the images of `gather_batch`: out[i] = rows[order[(k mod per_epoch) · N + i]], k = counter[0].

        Args: out wide or int32 [N, A], output; rows [n, A] of the same type; order and counter as in `gather_batch`. On a GPU the row of
            an index outside is NaN, or 2³¹ − 1.
        """
        check_float("out", out, 2, self.wide, np.int32)
        check_array("rows", rows, (len(rows), *out.shape[1:]), out.dtype)
        self._check_order(order, counter, per_epoch, len(out), len(rows))

    @operation
    def look_up_rate(self, lr: Array, rates: Array, counter: Array) -> None:
        """lr[0] = rates[counter[0]], the last one beyond the end. Args: lr wide [1], output; rates wide [n]; counter int64 [1]."""
        check_array("lr", lr, (1,), self.wide)
        check_array("rates", rates, (rates.size,), self.wide)
        check_array("counter", counter, (1,), np.int64)

    @operation
    def advance(self, counter: Array) -> None:
        """counter[0] += 1. Args: counter int64 [1]."""
        check_array("counter", counter, (1,), np.int64)


def batch_of(order: np.ndarray, counter: np.ndarray, per_epoch: int, n: int) -> np.ndarray:
    """The n indices of the step's batch, where they can be read."""
    first = int(counter[0]) % per_epoch * n
    return order[first : first + n]
