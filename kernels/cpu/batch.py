"""Batches of images gathered from a uint8 data set, and the two element-wise sums of the layer graph."""

from __future__ import annotations

import numpy as np

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
