"""Convolution and weight gradient of images with few channels (Triton).

The images are in a buffer with a border of zeros and PIXEL = 4 or 8 channels a pixel, 8 or 16 bytes in bf16: a tap is one vector, no
tap needs a boundary check, and (tap, channel) is one axis of T·PIXEL elements, padded with taps of weight zero.

Axis letters: N images, PH PW rows and columns of the padded buffer, OH OW output rows and columns, KH KW kernel, T = KH·KW taps,
S stride. FIRST is the pixel under tap (0, 0) of the first position. A tile has BM rows, BN columns and BK elements of the summed axis
a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.cuda.products.epilogue import finish_tile, tile_rows
from kernels.cuda.products.tile_math import after_previous_launch, dot
from kernels.cuda.products.wgrad_kernel import position


@triton.jit
def corner(
    r, FIRST: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PIXEL: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, S: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    """Offset of the pixel under tap (0, 0) of output position ``r``. LONG: in 64 bits."""
    n, i, j = position(r, OH, OW)
    if LONG:
        return n.to(tl.int64) * (PH * PW * PIXEL) + ((i * PW + j) * S + FIRST) * PIXEL
    return (n * PH * PW + (i * PW + j) * S + FIRST) * PIXEL


@triton.jit
def corners(
    first, COUNT: tl.constexpr, positions,
    FIRST: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PIXEL: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, S: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    """`corner` of COUNT output positions from ``first`` on, which is a multiple of COUNT within its image; past the last, of the last."""
    local = tl.arange(0, COUNT)
    # whole rows of one image, or a part of a row, lie at the same distances wherever they start: a loop computes these once
    if OH * OW % COUNT == 0 and (OW % COUNT == 0 or COUNT % OW == 0):
        first += tl.full([], 0, tl.int32)  # interpreted, a loop counts in Python's numbers
        return corner(first, FIRST, PH, PW, PIXEL, OH, OW, S, LONG) + corner(local, 0, PH, PW, PIXEL, OH, OW, S, False)
    return corner(tl.minimum(first + local, positions - 1), FIRST, PH, PW, PIXEL, OH, OW, S, LONG)


@triton.jit
def tap_offset(k, PW: tl.constexpr, PIXEL: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr):
    """Offset of element ``k`` = (tap, channel) from a position's corner; past the last tap that of the last one, never outside."""
    tap = tl.minimum(k // PIXEL, KH * KW - 1)
    return (tap // KW * PW + tap % KW) * PIXEL + k % PIXEL


@triton.jit
def image_convolve(
    image,  # [N, PH, PW, PIXEL]
    weights,  # [K, COLUMNS]: rows (tap, channel), zeros after the last
    row_ranges,  # of `tile_rows`, or None
    rows,  # N·OH·OW
    out,  # [N, OH, OW, Co]
    bias, partial, counts, previous, mean, var, gamma, beta, eps,  # of `finish_tile`
    FIRST: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PIXEL: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, S: tl.constexpr,
    K: tl.constexpr, COLUMNS: tl.constexpr, N: tl.constexpr, CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, LONG: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM output positions and BN of the N output channels; out = image ⋆ weights through `finish_tile`."""
    after_previous_launch(DEPENDENT)
    blocks: tl.constexpr = COLUMNS // BN
    tile = tl.program_id(0) // blocks
    columns = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    first, end, group = tile_rows(row_ranges, rows, tile, BM)
    r = first + tl.arange(0, BM)
    # rows of another group, or past the end, are computed and not stored. ".ca": 25 taps read each pixel, the L1 cache serves most
    start = corners(first, BM, rows, FIRST, PH, PW, PIXEL, OH, OW, S, LONG)[:, None]
    acc = tl.zeros([BM, BN], tl.float32)
    for step in range(K // BK):
        k = step * BK + tl.arange(0, BK)
        a = tl.load(image + start + tap_offset(k, PW, PIXEL, KH, KW)[None, :], cache_modifier=".ca")
        b = tl.load(weights + k[:, None] * COLUMNS + columns[None, :])
        acc = dot(a, b, acc, PRECISION, INTERPRETED)
    finish_tile(
        acc, r < end, r.to(tl.int64) * N, columns, columns, tile, group,
        out, bias, partial, counts, previous, mean, var, gamma, beta, eps, N, CHANNELS, ACTIVATION, INTERPRETED,
    )  # fmt: skip


@triton.jit
def image_wgrad(
    out,  # [splits, T, Ci, Co] float32
    image,  # [N, PH, PW, PIXEL]
    other,  # [N, OH, OW, YC]
    positions,  # N·OH·OW
    steps,  # of BK positions, in one split
    FIRST: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PIXEL: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, YC: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, CI: tl.constexpr, CO: tl.constexpr, S: tl.constexpr, SWAPPED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, LONG: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM rows (tap, channel of the image) and BN channels of ``other``, summed over the positions of one split.

    The image is x and other dy; with SWAPPED, which stride 1 allows, the image is dy and other x: a sum over output positions is one
    over input positions, and dy's shift is the opposite of x's.
    """
    after_previous_launch(DEPENDENT)
    T: tl.constexpr = KH * KW
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    split = tl.program_id(2)
    offset = tap_offset(m, PW, PIXEL, KH, KW)[:, None]

    acc = tl.zeros([BM, BN], tl.float32)
    first = split * steps
    last = tl.minimum(first + steps, tl.cdiv(positions, BK))
    for step in range(first, last):
        r = step * BK + tl.arange(0, BK)
        # past the end the last position is read again, and multiplied by zero. ".ca": 25 taps read each pixel, the L1 cache serves most
        start = corners(step * BK, BK, positions, FIRST, PH, PW, PIXEL, OH, OW, S, LONG)[None, :]
        a = tl.load(image + start + offset, cache_modifier=".ca")
        row = r.to(tl.int64) * YC if LONG else r * YC
        b = tl.load(other + row[:, None] + columns[None, :], mask=(r < positions)[:, None] & (columns < YC)[None, :], other=0.0)
        acc = dot(a, b, acc, PRECISION, INTERPRETED)

    tap = m // PIXEL
    c = (m % PIXEL)[:, None]
    size = tl.full([], T * CI * CO, tl.int64)
    if SWAPPED:
        target = out + split * size + ((T - 1 - tap) * (CI * CO))[:, None] + columns[None, :] * CO + c
        inside = (tap < T)[:, None] & (c < CO) & (columns < CI)[None, :]
    else:
        target = out + split * size + (tap * (CI * CO))[:, None] + c * CO + columns[None, :]
        inside = (tap < T)[:, None] & (c < CI) & (columns < CO)[None, :]
    tl.store(target, acc, mask=inside)
