"""Batches gathered from a data set on the device, the step's counters, and element-wise sums, fills, copies and joins.

Launchers of random.cu (gathering, with its flips), batch.cu and elementwise.cu.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.activations import launch_map
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, defines_of
from kernels.ledger import Cost, cost
from kernels.shapes import check_array

INDICES = (np.dtype(np.int32), np.dtype(np.int64))


class Batch:
    """Operations of the CUDA engine; ``device``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def gather_images(self, x: Any, images: Any, indices: Any, flips: Any = None) -> None:
        """x[i] = images[indices[i]] / 127.5 − 1, mirrored left to right where flips[i].

        Args:
            x: [N, H, W, C], output.
            images: uint8 [n, H, W, C] on the device, the whole data set.
            indices: integers [N] in [0, n): int32 or int64 on the device, or a NumPy array, which is uploaded. The image of an index
                on the device that is out of range is NaN.
            flips: bool or uint8 [N], likewise, or None.

        Raises:
            ValueError: a shape or dtype that does not fit, or an index of a NumPy array outside the data set.
        """
        check_values("x", x, 4)
        check_array("images", images, (len(images), *x.shape[1:]), np.uint8)
        n, expected = len(x), f"expected ({len(x)},) with values in [0, {len(images)})"
        if indices.shape != (n,):
            raise ValueError(f"indices: got shape {indices.shape}, {expected}")
        if isinstance(indices, np.ndarray):
            if self.device.executes and (indices.min() < 0 or indices.max() >= len(images)):
                raise ValueError(f"indices: got values from {indices.min()} to {indices.max()}, {expected}")
            indices = self.device.upload(np.ascontiguousarray(indices, np.int32 if indices.dtype == np.int32 else np.int64))
        if indices.dtype not in INDICES:
            raise ValueError(f"indices: got dtype {indices.dtype}, expected int32 or int64")
        if flips is not None:
            if flips.dtype != np.uint8:
                check_array("flips", flips, (n,), bool)
            check_array("flips", flips, (n,))
            flips = self.device.upload(flips) if isinstance(flips, np.ndarray) else flips
        self.device.cuda(
            "random.cu", "gather_images", self._grid(x), THREADS, x, images, indices, flips, np.int32(indices.dtype.itemsize == 8),
            np.int64(len(images)), *self._extents(x), cost=self._gather_cost(x), defines=defines_of(x),
        )  # fmt: skip

    def gather_batch(self, x: Any, images: Any, order: Any, counter: Any, *, per_epoch: int, seed: int, flip: bool) -> None:
        """The batch of step = counter[0]: x[i] = images[order[(step mod per_epoch) · N + i]] / 127.5 − 1.

        Mirrored left to right where ``flip`` and word i of the draw (seed, step, STREAM_FLIP) is odd.

        Args:
            x: [N, H, W, C], output.
            images: uint8 [n, H, W, C], the whole data set.
            order: int32 [m], m ≥ per_epoch · N, values in [0, n); the image of another value is NaN.
            counter: int64 [1].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_values("x", x, 4)
        check_array("images", images, (len(images), *x.shape[1:]), np.uint8)
        self._check_order(order, counter, per_epoch, len(x))
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed: got {seed}, expected an integer in [0, 2^64)")
        self.device.cuda(
            "random.cu", "gather_batch", self._grid(x), THREADS, x, images, order, counter, np.int64(per_epoch), np.uint64(seed),
            np.int32(flip), np.int64(len(images)), *self._extents(x), cost=self._gather_cost(x), defines=defines_of(x),
        )  # fmt: skip

    def gather_rows(self, out: Any, table: Any, order: Any, counter: Any, *, per_epoch: int) -> None:
        """The rows that belong to the images of `gather_batch`: out[i] = table[order[(step mod per_epoch) · N + i]].

        Args: out float32 or int32 [N, A], output; table [n, A] of the same type; order and counter as in `gather_batch`; the row of an
            index outside the table is NaN, or 2³¹ − 1.

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        if out.dtype == np.int32:  # moved, not computed with: four bytes are four bytes
            check_array("out", out, (len(out), *table.shape[1:2]))
            check_array("table", table, (len(table), *out.shape[1:]), np.int32)
            out, table = out.view(np.float32), table.view(np.float32)
        check_values("out", out, 2)
        check_array("out", out, None, self.wide)
        check_array("table", table, (len(table), *out.shape[1:]), self.wide)
        self._check_order(order, counter, per_epoch, len(out))
        if out.size:
            self.device.cuda(
                "batch.cu", "gather_rows", blocks(out.size, THREADS), THREADS, out, table, order, counter, np.int64(per_epoch),
                np.int64(len(table)), *map(np.int64, out.shape), cost=cost(0, [out, 4 * len(out), counter], [out]),
            )  # fmt: skip

    @staticmethod
    def _check_order(order: Any, counter: Any, per_epoch: int, n: int) -> None:
        check_array("order", order, None, np.int32)
        check_array("counter", counter, (1,), np.int64)
        if per_epoch < 1 or order.size < per_epoch * n:
            raise ValueError(f"order: got {order.size} indices, expected at least {per_epoch} batches of {n}")

    @staticmethod
    def _grid(x: Any) -> tuple[int, int]:
        return blocks(x.size // len(x), 8 * THREADS), min(len(x), 65535)

    @staticmethod
    def _extents(x: Any) -> tuple[Any, ...]:
        """N, W, C and H · W · C."""
        return np.int32(len(x)), np.int32(x.shape[2]), np.int32(x.shape[3]), np.int64(x.size // len(x))

    @staticmethod
    def _gather_cost(x: Any) -> Cost:
        return cost(0, [x.size, 4 * len(x)], [x])  # one byte an element; not the whole data set

    def look_up_rate(self, lr: Any, rates: Any, counter: Any) -> None:
        """lr[0] = rates[min(counter[0], len − 1)]. Args: lr float32 [1], output; rates float32 [n]; counter int64 [1].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_array("lr", lr, (1,), np.float32)
        check_array("rates", rates, (rates.size,), np.float32)
        check_array("counter", counter, (1,), np.int64)
        self.device.cuda("batch.cu", "look_up_rate", 1, 1, lr, rates, counter, np.int64(rates.size), cost=cost(0, [counter, 4], [lr]))

    def advance(self, counter: Any) -> None:
        """counter[0] += 1. Args: counter int64 [1]. Raises `ValueError` for another shape or dtype."""
        check_array("counter", counter, (1,), np.int64)
        self.device.cuda("batch.cu", "advance_counter", 1, 1, counter, cost=cost(0, [counter], [counter]))

    def add(self, out: Any, a: Any, b: Any, *, alpha: float = 1.0, beta: float = 1.0) -> None:
        """out = alpha · a + beta · b. One shape, any; out may be a or b.

        Raises:
            ValueError: shapes or dtypes that differ.
        """
        check_values("a", a)
        check_array("b", b, a.shape, a.dtype)
        check_array("out", out, a.shape, a.dtype)
        launch_map(self.device, "add", out, [a, b], np.float32(alpha), np.float32(beta), defines=defines_of(a))

    def scale(self, out: Any, x: Any, factor: float) -> None:
        """out = factor · x. One shape, any; out may be x. Raises `ValueError` for shapes or dtypes that differ."""
        check_values("x", x)
        check_array("out", out, x.shape, x.dtype)
        launch_map(self.device, "scale", out, [x], np.float32(factor), defines=defines_of(x))

    def fill(self, out: Any, value: float) -> None:
        """Every element of ``out`` = value. Args: out, output, any shape, any dtype of 1, 2, 4 or 8 bytes.

        Raises:
            ValueError: an ``out`` that is not C-contiguous, or a dtype of another size.
        """
        check_array("out", out)
        size = out.dtype.itemsize
        if size not in (1, 2, 4, 8):
            raise ValueError(f"out: got dtype {out.dtype}, expected one of 1, 2, 4 or 8 bytes")
        if out.size:
            pattern = np.full(8 // size, value, out.dtype).view(np.uint64)[0]
            self.device.cuda(
                "elementwise.cu", "fill_bytes", blocks(out.nbytes, 16 * THREADS), THREADS, out, pattern, np.int64(out.nbytes),
                cost=cost(0, [], [out]),
            )  # fmt: skip

    def copy(self, out: Any, x: Any) -> None:
        """out = x. Args: out, output, and x: one shape; one dtype, any, or the engine's dtype and float32.

        Raises:
            ValueError: shapes that differ, or dtypes that are not converted.
        """
        check_array("x", x)
        check_array("out", out, x.shape)
        dev = self.device
        if out.dtype == x.dtype:
            if out.size:
                dev.cuda(
                    "elementwise.cu", "copy_bytes", blocks(out.nbytes, 16 * THREADS), THREADS, out, x, np.int64(out.nbytes),
                    cost=cost(0, [x], [out]),
                )  # fmt: skip
        elif (out.dtype, x.dtype) == (self.dtype, self.wide):
            launch_map(dev, "narrow", out, [x], defines=defines_of(out))
        else:
            check_array("x", x, None, self.dtype)
            check_array("out", out, None, self.wide)
            launch_map(dev, "widen", out, [x], defines=defines_of(x))

    def concatenate(self, y: Any, x: Any, a: Any) -> None:
        """y = [x, a] along the last axis: the attributes behind a layer's input. Args: y [N, F + A], output; x [N, F]; a float32 [N, A].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        check_values("x", x, 2)
        check_array("x", x, None, self.dtype)
        check_values("a", a, 2)
        check_array("a", a, (len(x), a.shape[1]), self.wide)
        check_array("y", y, (len(x), x.shape[1] + a.shape[1]), self.dtype)
        if y.size:
            self.device.cuda(
                "elementwise.cu", "concatenate", (blocks(y.shape[1], 8 * THREADS), min(len(y), 65535)), THREADS, y, x, a,
                *map(np.int64, (*x.shape, a.shape[1])), cost=cost(0, [x, a], [y]), defines=defines_of(y),
            )  # fmt: skip
