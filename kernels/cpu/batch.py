"""Batches gathered from a data set, the counters of a training step, and the joins and element-wise sums of the layer graph."""

from __future__ import annotations

import numpy as np

from kernels import philox
from kernels.cpu.threads import elementwise, parallel, ranges
from kernels.shapes import check_array, check_float


def gather_images(x: np.ndarray, images: np.ndarray, indices: np.ndarray, flips: np.ndarray | None = None) -> None:
    """x[i] = images[indices[i]] / 127.5 − 1, mirrored left to right where flips[i].

    Args:
        x: [N, H, W, C], output.
        images: uint8 [n, H, W, C], the whole data set.
        indices: integers [N] in [0, n).
        flips: bool [N] or None.

    Raises:
        ValueError: a shape or dtype that does not fit, or an index outside the data set.
    """
    check_float("x", x, 4)
    check_array("images", images, (len(images), *x.shape[1:]), np.uint8)
    if indices.shape != (len(x),) or indices.min() < 0 or indices.max() >= len(images):
        raise ValueError(f"indices: got shape {indices.shape}, expected ({len(x)},) with values in [0, {len(images)})")
    if flips is not None:
        check_array("flips", flips, (len(x),), bool)

    def work(cut: tuple[int, int]) -> None:
        for i in range(*cut):
            source = images[indices[i]]
            np.divide(source[:, ::-1] if flips is not None and flips[i] else source, 127.5, out=x[i], casting="unsafe")
        x[cut[0] : cut[1]] -= 1

    parallel(work, ranges(len(x), 8))


def gather_batch(
    x: np.ndarray, images: np.ndarray, order: np.ndarray, counter: np.ndarray, *, per_epoch: int, seed: int, flip: bool
) -> None:
    """The batch of step k = counter[0]: x[i] = images[order[(k mod per_epoch) · N + i]] / 127.5 − 1, mirrored where ``flip`` and word
    i of the step's flip stream is odd.

    Args: x [N, H, W, C], output; images uint8 [n, H, W, C]; order int32, an epoch's indices; counter int64 [1].

    Raises:
        ValueError: a shape or dtype that does not fit, or an order shorter than per_epoch batches.
    """
    indices = batch_of(order, counter, per_epoch, len(x))
    words = philox.uint32((len(x),), seed=seed, step=int(counter[0]), stream=philox.STREAM_FLIP) if flip else None
    gather_images(x, images, indices, (words & 1).astype(bool) if words is not None else None)


def gather_rows(out: np.ndarray, table: np.ndarray, order: np.ndarray, counter: np.ndarray, *, per_epoch: int) -> None:
    """The rows that belong to the images of `gather_batch`: out[i] = table[order[(k mod per_epoch) · N + i]], k = counter[0].

    Args: out wide or int32 [N, A], output; table [n, A] of the same type; order int32, an epoch's indices; counter int64 [1].

    Raises:
        ValueError: a shape or dtype that does not fit, an order shorter than per_epoch batches, or an index outside the table.
    """
    if out.dtype == np.int32:  # moved, not computed with
        check_array("out", out, (len(out), *table.shape[1:2]))
    else:
        check_float("out", out, 2)
    check_array("table", table, (len(table), *out.shape[1:]), out.dtype)
    indices = batch_of(order, counter, per_epoch, len(out))
    if indices.min() < 0 or indices.max() >= len(table):
        raise ValueError(f"order: got values from {indices.min()} to {indices.max()}, expected values in [0, {len(table)})")
    np.take(table, indices, axis=0, out=out)


def batch_of(order: np.ndarray, counter: np.ndarray, per_epoch: int, n: int) -> np.ndarray:
    """The n indices of the step's batch."""
    check_array("order", order, None, np.int32)
    check_array("counter", counter, (1,), np.int64)
    if per_epoch < 1 or len(order) < per_epoch * n:
        raise ValueError(f"order: got {len(order)} indices, expected at least {per_epoch} batches of {n}")
    first = int(counter[0]) % per_epoch * n
    return order[first : first + n]


def concatenate(y: np.ndarray, x: np.ndarray, a: np.ndarray) -> None:
    """y = [x, a] along the last axis: the attributes behind a layer's input.

    Args: y engine.dtype [N, F + A], output; x engine.dtype [N, F]; a wide [N, A].

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_float("x", x, 2)
    check_float("a", a, 2)
    check_array("a", a, (len(x), a.shape[1]), x.dtype)  # here wide is engine.dtype
    check_array("y", y, (len(x), x.shape[1] + a.shape[1]), x.dtype)
    y[:, : x.shape[1]] = x
    y[:, x.shape[1] :] = a


def look_up_rate(lr: np.ndarray, rates: np.ndarray, counter: np.ndarray) -> None:
    """lr[0] = rates[counter[0]], the last one beyond the end. Args: lr, rates wide; counter int64 [1]."""
    lr[0] = rates[min(int(counter[0]), len(rates) - 1)]


def advance(counter: np.ndarray) -> None:
    """counter[0] += 1. Args: counter int64 [1]."""
    counter[0] += 1


def count_gate(counts: np.ndarray, flags: np.ndarray) -> None:
    """counts += (1, flags[0], flags[1]): steps, Dec's updates, Dis's. Args: counts float64 [3]; flags uint8 [2]."""
    counts[0] += 1
    counts[1:] += flags


def fill(out: np.ndarray, value: float) -> None:
    """out = value everywhere; any dtype."""
    check_array("out", out)
    out.fill(value)


def copy(out: np.ndarray, x: np.ndarray) -> None:
    """out = x, one shape, converted to out's dtype. Raises `ValueError` for shapes that differ."""
    check_array("x", x)
    check_array("out", out, x.shape)
    np.copyto(out, x, casting="same_kind")


def add(out: np.ndarray, a: np.ndarray, b: np.ndarray, *, alpha: float = 1.0, beta: float = 1.0) -> None:
    """out = alpha · a + beta · b. One shape, any; out may be b.

    Raises:
        ValueError: shapes or dtypes that differ.
    """
    check_float("a", a)
    check_array("b", b, a.shape, a.dtype)
    check_array("out", out, a.shape, a.dtype)

    def work(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        np.multiply(b, beta, out=out) if beta != 1.0 else np.copyto(out, b)
        out += a if alpha == 1.0 else alpha * a

    elementwise(work, out, a, b)


def scale(out: np.ndarray, x: np.ndarray, factor: float) -> None:
    """out = factor · x. One shape, any; out may be x. Raises `ValueError` for shapes or dtypes that differ."""
    check_float("x", x)
    check_array("out", out, x.shape, x.dtype)
    elementwise(lambda o, a: np.multiply(a, factor, out=o), out, x)
