"""im2col in pieces: the patches under a range of output rows as one matrix for BLAS.

Axis letters as in `kernels.contract.conv2d`. A piece ``(n0, n1, r0, r1)`` is output rows r0…r1 of images n0…n1: several whole
images where images are small, some rows of one image where they are large.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.cpu.threads import ranges, scratch, thread_count

Piece = tuple[int, int, int, int]

#: Bytes of a piece's patch matrix: with its operands it stays near the core and its copy costs little of the
#: product, while there are enough rows (and so work) to repay BLAS for packing the weights again for each piece.
PATCH_BYTES = 2 << 20
MIN_ROWS = 256


def pieces(n: int, oh: int, ow: int, columns: int, itemsize: int) -> list[Piece]:
    """Cut n images of oh x ow outputs into pieces whose patch matrix of ``columns`` columns has about PATCH_BYTES."""
    rows = max(MIN_ROWS, PATCH_BYTES // (columns * itemsize))
    rows = min(rows, max(MIN_ROWS, -(-n * oh * ow // (2 * thread_count()))))  # at least two pieces a thread
    if oh * ow <= rows:
        return [(a, b, 0, oh) for a, b in ranges(n, rows // (oh * ow))]
    parts = -(-oh * ow // rows)
    return [(i, i + 1, a, b) for i in range(n) for a, b in ranges(oh, -(-oh // parts))]


def padded_rows(
    x: np.ndarray, piece: Piece, top: int, rows: int, stride: int, left: int, width: int, name: str = "padded"
) -> np.ndarray:  # fmt: skip
    """The ``rows`` input rows that a piece reads, in scratch of this name, with zeros outside the image.

    Row 0 of the result is input row ``r0 * stride - top``, column 0 is input column ``-left``; ``width`` columns.
    Returns ``[n1-n0, rows, width, C]``.
    """
    n0, n1, r0, _ = piece
    h, w, c = x.shape[1:]
    out = scratch(name, (n1 - n0, rows, width, c), x.dtype)
    first = r0 * stride - top
    above, below = min(max(0, -first), rows), min(max(0, first + rows - h), rows)
    inside = min(w, width - left)
    out[:, :above] = 0
    out[:, rows - below :] = 0
    body = out[:, above : rows - below]
    body[:, :, :left] = 0
    body[:, :, left + inside :] = 0
    body[:, :, left : left + inside] = x[n0:n1, first + above : first + rows - below, :inside]
    return out


def im2col(x: np.ndarray, piece: Piece, kh: int, kw: int, stride: int, ow: int, block: int = 1) -> np.ndarray:
    """Patches of a piece: ``[(n1-n0) * (r1-r0) * OW / block, KH * KB * Ci]``, columns in (kh, kw, ci) order.

    A patch lies under ``block`` neighbouring outputs of a row and has KB = KW + (block − 1) · stride columns of pixels: `beside` makes
    the weights for it.
    """
    _, _, r0, r1 = piece
    width = (ow - 1) * stride + kw
    padded = padded_rows(x, piece, (kh - 1) // 2, (r1 - r0 - 1) * stride + kh, stride, (kw - 1) // 2, width)
    return windows(padded, r1 - r0, ow // block, kh, kw + (block - 1) * stride, (stride, block * stride))


def windows(padded: np.ndarray, rows: int, columns: int, kh: int, kw: int, strides: tuple[int, int]) -> np.ndarray:
    """The KH x KW windows of ``padded [n, …, …, C]`` at every (row stride, column stride) pixels: ``[n * rows * columns, KH * KW * C]``."""
    n, _, _, c = padded.shape
    sn, sh, sw, sc = padded.strides
    shape = (n, rows, columns, kh, kw * c)  # kw and ci lie together in memory: one run of KW * C elements
    view = as_strided(padded, shape, (sn, sh * strides[0], sw * strides[1], sh, sc))
    out = scratch("columns", shape, padded.dtype)
    np.copyto(out, view)
    return out.reshape(-1, kh * kw * c)


def beside(w: np.ndarray, block: int, stride: int) -> np.ndarray:
    """Weights [KH, KW, Ci, Co] for ``block`` neighbouring outputs at once: ``[KH, KW + (block − 1) · stride, Ci, block, Co]``, zero where
    an output does not see a pixel. More multiplications, but a patch is copied once for all of them, and the products are wider."""
    kh, kw, ci, co = w.shape
    out = np.zeros((kh, kw + (block - 1) * stride, ci, block, co), w.dtype)
    for i in range(block):
        out[:, i * stride : i * stride + kw, :, i] = w
    return out


def beside_wgrad(dw: np.ndarray, wide: np.ndarray, stride: int) -> None:
    """The transpose of `beside`: dw [KH, KW, Ci, Co] from ``wide [KH, KW + (block − 1) · stride, Ci, block, Co]``."""
    np.copyto(dw, wide[:, : dw.shape[1], :, 0])
    for i in range(1, wide.shape[3]):
        dw += wide[:, i * stride : i * stride + dw.shape[1], :, i]


def tap(x: np.ndarray, piece: Piece, kh: int, kw: int, pad: tuple[int, int], stride: int, out: np.ndarray) -> None:
    """The input pixels under kernel tap (kh, kw) of every output pixel of a piece → ``out [n1-n0, r1-r0, OW, Ci]``."""
    n0, n1, r0, r1 = piece
    h, w = x.shape[1:3]
    (i0, i1), (j0, j1) = _inside(r0, r1, kh - pad[0], stride, h), _inside(0, out.shape[2], kw - pad[1], stride, w)
    out[:, : i0 - r0] = 0
    out[:, i1 - r0 :] = 0
    out[:, i0 - r0 : i1 - r0, :j0] = 0
    out[:, i0 - r0 : i1 - r0, j1:] = 0
    if i0 < i1 and j0 < j1:
        top, left = i0 * stride + kh - pad[0], j0 * stride + kw - pad[1]
        rows, cols = slice(top, top + (i1 - i0 - 1) * stride + 1, stride), slice(left, left + (j1 - j0 - 1) * stride + 1, stride)
        out[:, i0 - r0 : i1 - r0, j0:j1] = x[n0:n1, rows, cols]


def _inside(first: int, last: int, offset: int, stride: int, size: int) -> tuple[int, int]:
    """The part [a, b) of output positions [first, last) whose input ``o * stride + offset`` lies in [0, size)."""
    a = max(first, -(offset // stride))  # ceil(-offset / stride)
    b = min(last, (size - 1 - offset) // stride + 1)
    a = min(a, last)
    return a, max(a, b)
