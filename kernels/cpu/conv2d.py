"""2-D convolution and its two gradients as im2col + BLAS; contract: `kernels.contract.conv2d`, whose axis letters are used here.

The paper's wide layers (5x5, stride 2) go to kernels.cpu.winograd instead, which needs a third of the multiplications.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.previous import Previous
from kernels.cpu import winograd
from kernels.cpu.activations import activate
from kernels.cpu.batch_norm import finish_previous
from kernels.cpu.patches import Piece, beside, beside_wgrad, im2col, padded_rows, pieces, tap, windows
from kernels.cpu.phases import Phases
from kernels.cpu.reduce import add_row, column_sums
from kernels.cpu.threads import add_product, parallel, scratch

#: Up to this many input or output channels a product of Ci rows or Co columns is slow: several neighbouring outputs are made at once.
NARROW = 4
#: From this many input channels on, wgrad is a product for each kernel tap; below, one for all taps.
WIDE = 64


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, *, stride: int = 1, activation: str | None = None
) -> None:
    _convolve(y, x, w, bias, stride)
    activate(y, activation)


def _convolve(y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: int) -> None:
    kh, kw, ci, co = w.shape
    if stride == 1 and co <= NARROW:
        return _few_outputs(y, x, w, bias)
    _, oh, ow, _ = y.shape
    if bias is None and winograd.suits(w, stride, len(x), oh, ow):
        return winograd.forward(y, x, w)
    block = _block(ci, co, ow)
    matrix = beside(w, block, stride).reshape(-1, block * co) if block > 1 else w.reshape(-1, co)

    def work(piece: Piece) -> None:
        n0, n1, r0, r1 = piece
        rows = y[n0:n1, r0:r1].reshape(-1, block * co)
        np.matmul(im2col(x, piece, kh, kw, stride, ow, block), matrix, out=rows)
        if bias is not None:
            add_row(rows.reshape(-1, co), bias)

    parallel(work, pieces(len(x), oh, ow, len(matrix) // block, x.itemsize))


def _block(ci: int, co: int, ow: int) -> int:
    """How many neighbouring outputs one row of the product makes: two where there are few inputs, and few outputs to spare the copy."""
    return 2 if ci <= NARROW and co < WIDE and ow % 2 == 0 else 1


def conv2d_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray, *, stride: int = 1, previous: Previous | None = None) -> None:
    """With stride 1 a convolution with the kernel turned by 180°; with stride 2 four output phases with taps of their own
    (kernels.cpu.phases), and no zero is ever multiplied."""
    if stride == 1:
        turned = scratch("turned", (w.shape[0], w.shape[1], w.shape[3], w.shape[2]), w.dtype)
        np.copyto(turned, w[::-1, ::-1].transpose(0, 1, 3, 2))
        _convolve(dx, dy, turned, None, 1)
    elif winograd.suits(w, stride, *dy.shape[:3]):
        winograd.dgrad(dx, dy, w)
    else:
        _phased_dgrad(dx, dy, w)
    finish_previous(dx, previous)


def conv2d_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, *, stride: int = 1, dbias: np.ndarray | None = None) -> None:
    kh, kw, ci, co = dw.shape
    if dbias is not None:
        column_sums(dbias, dy.reshape(-1, co))
    if stride == 1 and co <= NARROW:
        return _few_outputs_wgrad(dw, x, dy)
    n, oh, ow, _ = dy.shape
    if winograd.suits(dw, stride, n, oh, ow, least=64):
        return winograd.wgrad(dw, x, dy)
    if ci < WIDE:
        return _patches_wgrad(dw, x, dy, stride)
    cuts = pieces(len(x), oh, ow, ci, x.itemsize)

    def work(position: tuple[int, int]) -> None:
        out = dw[position]
        for index, piece in enumerate(cuts):
            n0, n1, r0, r1 = piece
            left = scratch("taps", (n1 - n0, r1 - r0, ow, ci), x.dtype)
            tap(x, piece, *position, (kh // 2, kw // 2), stride, left)
            add_product(out, left.reshape(-1, ci).T, dy[n0:n1, r0:r1].reshape(-1, co), first=index == 0)

    parallel(work, [(a, b) for a in range(kh) for b in range(kw)])


def _patches_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: int) -> None:
    """Few input channels: all taps in one product, since dw is small and a tap's Ci columns would be a narrow product.

    Partial sums of numbered shares of the pieces, added in order: the bits do not depend on which thread ran which.
    """
    kh, kw, ci, co = dw.shape
    _, oh, ow, _ = dy.shape
    block = _block(ci, co, ow)
    shape = (kh, kw + (block - 1) * stride, ci, block, co)
    cuts = pieces(len(x), oh, ow, kh * shape[1] * ci // block, x.itemsize)
    shares = min(8, len(cuts))
    parts = scratch("wgrad", (shares, kh * shape[1] * ci, block * co), dw.dtype)

    def work(share: int) -> None:
        out = parts[share]
        for index, piece in enumerate(cuts[share::shares]):
            n0, n1, r0, r1 = piece
            left, right = im2col(x, piece, kh, kw, stride, ow, block), dy[n0:n1, r0:r1].reshape(-1, block * co)
            add_product(out, left.T, right, first=index == 0)

    parallel(work, range(shares))
    total = np.sum(parts, axis=0, out=dw.reshape(-1, co) if block == 1 else None)
    if block > 1:
        beside_wgrad(dw, total.reshape(shape), stride)


def _phased_dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray) -> None:
    """Stride 2: one patch matrix of dy serves the four output phases, each with its own columns and weights."""
    n, h, _, ci = dx.shape
    oh, ow, co = dy.shape[1:]
    phases = Phases(w)

    def work(piece: Piece) -> None:
        n0, n1, r0, r1 = piece
        columns = phases.columns(dy, piece)
        for row, col, first, last, matrix in phases.products:
            block = dx[n0:n1, 2 * r0 + row : min(2 * r1, h) : 2, col::2]
            if first == last:  # a 1x1 kernel reaches only one pixel in four
                block[...] = 0
                continue
            product = scratch("product", (n1 - n0, r1 - r0, ow, ci), dx.dtype)
            np.matmul(columns[:, first * co : last * co], matrix.T, out=product.reshape(-1, ci))
            block[...] = product[:, : block.shape[1], : block.shape[2]]

    parallel(work, pieces(n, oh, ow, len(phases.slots) * co, dx.itemsize))


def _few_outputs(y: np.ndarray, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> None:
    """Stride 1, few output channels: a product for several neighbouring outputs and all KH kernel rows at once, then KH shifted sums.

    Patches reach over columns only: x is copied about twice, not KH · KW times, and a row of the product has KH · block · Co columns.
    """
    _, h, width, co = y.shape
    kh, kw, ci, _ = w.shape
    block = 4 if width % 4 == 0 else 2 if width % 2 == 0 else 1
    matrix = beside(w, block, 1).transpose(1, 2, 0, 3, 4).reshape(-1, kh * block * co)

    def work(piece: Piece) -> None:
        n0, n1, r0, r1 = piece
        count, rows = n1 - n0, r1 - r0
        padded = padded_rows(x, piece, kh // 2, rows + kh - 1, 1, kw // 2, width + kw - 1)
        patches = windows(padded, rows + kh - 1, width // block, 1, kw + block - 1, (1, block))
        sums = scratch("planes", (count, rows + kh - 1, width // block, kh, block * co), x.dtype)
        np.matmul(patches, matrix, out=sums.reshape(len(patches), -1))
        out = y[n0:n1, r0:r1].reshape(count, rows, width // block, block * co)
        np.copyto(out, sums[:, :rows, :, 0])
        for a in range(1, kh):
            out += sums[:, a : a + rows, :, a]
        if bias is not None:
            add_row(out.reshape(-1, co), bias)

    parallel(work, pieces(len(x), h, width, len(matrix) // block, x.itemsize))


def _few_outputs_wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """Stride 1, few output channels: patches of dy instead of x, since a sum over outputs is a sum over inputs.

    dw[kh, kw, ci, co] = Σ_{n, h, v} x[n, h, v, ci] · dy[n, h − kh + p, v − kw + p, co]
    """
    n, h, width, ci = x.shape
    kh, kw, _, co = dw.shape
    cuts = pieces(n, h, width, kh * kw * co, x.itemsize)
    parts = scratch("wgrad", (len(cuts), kh * kw * co, ci), dw.dtype)

    def work(index: int) -> None:
        n0, n1, r0, r1 = cuts[index]
        columns = im2col(dy, cuts[index], kh, kw, 1, width)  # tap (a, b) reads dy[h + a − p]: the turned kernel's tap
        np.matmul(columns.T, x[n0:n1, r0:r1].reshape(-1, ci), out=parts[index])

    parallel(work, range(len(cuts)))
    total = parts.sum(axis=0).reshape(kh, kw, co, ci)
    dw[...] = total[::-1, ::-1].transpose(0, 1, 3, 2)
