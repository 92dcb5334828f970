"""Weight gradient of a convolution as a matrix product over output positions (Triton).

    dw[t, ci, co] = Σ_r x[position of r shifted by tap t, ci] · dy[r, co]

The product's rows are the pairs (t, ci), its columns co, and its long axis the output positions r = (n, i, j) of all images. That
axis is divided into splits, a grid axis; each writes its own partial result, so that no sum depends on the order of programs.

Axis letters: N images, H W rows and columns of x, OH OW of dy, KH KW kernel, T = KH·KW taps, Ci Co channels, XC YC the
channels of x and dy as stored (padding included), S stride. A tile has BM rows, BN columns and BK positions a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.cuda.products.tile_math import after_previous_launch, before_norm, dot


@triton.jit
def position(r, OH: tl.constexpr, OW: tl.constexpr):
    """(n, i, j) of position ``r``. Unsigned: a signed division by a power of two costs three instructions, not one."""
    r = r.to(tl.uint32)
    return (r // (OH * OW)).to(tl.int32), (r // OW % OH).to(tl.int32), (r % OW).to(tl.int32)


@triton.jit
def store_tile(out, acc, tap, c, columns, split, T: tl.constexpr, CI: tl.constexpr, CO: tl.constexpr):
    """out[split, tap, c, columns] = acc for rows that are a tap and a channel of dw; the others are padding."""
    row = tap * CI + c
    inside = (tap >= 0) & (tap < T) & (c < CI)
    target = out + split.to(tl.int64) * (T * CI * CO) + row[:, None] * CO + columns[None, :]
    tl.store(target, acc, mask=inside[:, None] & (columns < CO)[None, :])


@triton.jit
def wgrad_pointers(
    out,  # [splits, T, Ci, Co] float32
    x,  # [N, H, W, XC]
    dy,  # [N, OH, OW, YC]
    pre, coefficients,  # like dy and [3, YC], or OF_X like x and [3, XC]: that operand comes through `before_norm`; or None
    positions,  # N·OH·OW
    steps,  # of BK positions, in one split
    H: tl.constexpr, W: tl.constexpr, XC: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, YC: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, CI: tl.constexpr, CO: tl.constexpr, S: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, LONG: tl.constexpr, OF_X: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM rows (t, ci) and BN columns of dw, summed over the positions of one split.

    LONG: element offsets within x or dy need 64 bits.
    """
    after_previous_launch(DEPENDENT)
    T: tl.constexpr = KH * KW
    pm = tl.program_id(0)
    pn = tl.program_id(1)
    split = tl.program_id(2)
    if XC % BM == 0:  # one tap a tile: its shift is a scalar
        tap = pm // (XC // BM) + tl.zeros([BM], tl.int32)
        c = tl.multiple_of((pm * BM) % XC, BM) + tl.arange(0, BM)
        row_shift = (pm // (XC // BM)) // KW - KH // 2
        column_shift = (pm // (XC // BM)) % KW - KW // 2
    else:
        m = pm * BM + tl.arange(0, BM)
        tap = m // XC
        c = m % XC
        read = tl.minimum(tap, T - 1)  # rows past the last tap are computed from it, and dropped
        row_shift = (read // KW - KH // 2)[:, None]
        column_shift = (read % KW - KW // 2)[:, None]
    columns = pn * BN + tl.arange(0, BN)
    shift = (row_shift * W + column_shift) * XC + c[:, None]
    scale, slope, offset = None, None, None
    if pre is not None:
        C: tl.constexpr = XC if OF_X else YC
        channel = coefficients + (c[:, None] if OF_X else columns[None, :])
        exists = (c < XC)[:, None] if OF_X else (columns < YC)[None, :]
        scale = tl.load(channel, mask=exists, other=0.0)
        slope = tl.load(channel + C, mask=exists, other=0.0)
        offset = tl.load(channel + 2 * C, mask=exists, other=0.0)

    acc = tl.zeros([BM, BN], tl.float32)
    first = split * steps
    last = tl.minimum(first + steps, tl.cdiv(positions, BK))
    for step in range(first, last):
        r = step * BK + tl.arange(0, BK)
        n, i, j = position(r, OH, OW)
        n = n[None, :]
        h = (i * S)[None, :]
        v = (j * S)[None, :]
        if LONG:
            x_row = n.to(tl.int64) * (H * W * XC) + (h * W + v) * XC
            y_row = r.to(tl.int64)[:, None] * YC
        else:
            x_row = ((n * H + h) * W + v) * XC
            y_row = r[:, None] * YC
        inside = (h + row_shift >= 0) & (h + row_shift < H) & (v + column_shift >= 0) & (v + column_shift < W)
        # x is loaded as [BM, BK], transposed by its addresses: a `tl.trans` would keep sm_80 from copying asynchronously
        inside = inside & (r < positions)[None, :]
        within = (r < positions)[:, None] & (columns < YC)[None, :]
        a = tl.load(x + x_row + shift, mask=inside, other=0.0)
        b = tl.load(dy + y_row + columns[None, :], mask=within, other=0.0)
        if pre is not None:
            if OF_X:
                v = tl.load(pre + x_row + shift, mask=inside, other=0.0)
                a = before_norm(a, v, scale, slope, offset, inside, INTERPRETED)
            else:
                v = tl.load(pre + y_row + columns[None, :], mask=within, other=0.0)
                b = before_norm(b, v, scale, slope, offset, within, INTERPRETED)
        acc = dot(a, b, acc, PRECISION, INTERPRETED)
    store_tile(out, acc, tap, c, columns, split, T, CI, CO)


@triton.jit
def unit(index, XC: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BM: tl.constexpr, PAIR: tl.constexpr):
    """(rows, columns) by which unit ``index`` of `wgrad_boxes` shifts x, and its first channel. Past the last unit, those of the last."""
    if PAIR:
        LEFT: tl.constexpr = (KW // 2 + 1) // 2  # pairs that begin left of the centre
        ACROSS: tl.constexpr = LEFT + KW // 4 + 1
        index = tl.minimum(index, KH * ACROSS - 1)
        h = index // ACROSS - KH // 2
        v = 2 * (index % ACROSS - LEFT)
        c = index * 0
    else:
        index = tl.minimum(index, KH * KW * (XC // BM) - 1)
        tap = index // (XC // BM)
        h = tap // KW - KH // 2
        v = tap % KW - KW // 2
        c = index % (XC // BM) * BM
    return h, v, c


@triton.jit
def load_box(x, n, i, j, h, v, c, H: tl.constexpr, W: tl.constexpr, XC: tl.constexpr, S: tl.constexpr):
    """[BM, BK] of x: BK images from n on at output position (i, j) shifted by (h, v) pixels, channels from c on; zero outside x."""
    inside = ((i * S + h).to(tl.uint32) < H) & ((j * S + v).to(tl.uint32) < W)  # unsigned: what is negative is large
    first = (i * W + j) * (S * XC) + ((h * W + v) * XC + c)  # the second term is the same in every step
    return tl.trans(x.load([n, tl.where(inside, first, H * W * XC)]))  # behind the end a box is zeros


@triton.jit
def store_unit(out, acc, h, v, c, columns, split, XC: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, CI: tl.constexpr, CO: tl.constexpr,
               BM: tl.constexpr):  # fmt: skip
    """Store one unit's rows where they are taps of the kernel: a pair can reach one column beyond it."""
    m = tl.arange(0, BM)
    kw = v + KW // 2 + m // XC
    tap = tl.where((kw >= 0) & (kw < KW), (h + KH // 2) * KW + kw, -1)
    store_tile(out, acc, tap, c + m % XC, columns, split, KH * KW, CI, CO)


@triton.jit
def wgrad_boxes(
    out,  # [splits, T, Ci, Co] float32
    x,  # descriptor of [N, H·W·XC]
    dy,  # descriptor of [N, OH·OW·YC]
    boxes,  # boxes of positions in all
    steps,  # boxes in one split
    H: tl.constexpr, W: tl.constexpr, XC: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, YC: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, CI: tl.constexpr, CO: tl.constexpr, S: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    UNITS: tl.constexpr, PAIR: tl.constexpr, PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: UNITS times BM rows and BN columns of dw, summed over boxes of BK images at one position.

    A box of images, not of pixels: only then is it a matrix without a reshape, and wgmma reads it from shared memory transposed.
    Both operands are matrices with a row for each image, in which a pixel is a range of columns. So descriptors have no more than two
    axes, the larger stride outside, and find the end of x alone: pixels outside are turned away from. dy's box may reach into the
    next pixel, whose columns are computed and dropped.

    A unit is BM channels of one tap. With PAIR (stride 2, W even, BM = 2·XC) it is all channels of two neighbouring taps, which lie
    together in memory where the first column is even; taps outside the kernel are computed and dropped. The units of a program
    share dy's box, which the rows of one unit would not repay.
    """
    after_previous_launch(DEPENDENT)
    pm = tl.program_id(0)
    pn = tl.program_id(1)
    split = tl.program_id(2)
    h0, v0, c0 = unit(pm * UNITS, XC, KH, KW, BM, PAIR)
    h1, v1, c1 = unit(pm * UNITS + 1, XC, KH, KW, BM, PAIR)
    h2, v2, c2 = unit(pm * UNITS + 2, XC, KH, KW, BM, PAIR)
    acc0 = tl.zeros([BM, BN], tl.float32)
    acc1 = tl.zeros([BM, BN], tl.float32)
    acc2 = tl.zeros([BM, BN], tl.float32)
    first = split * steps
    last = tl.minimum(first + steps, boxes)
    for step in range(first, last):
        pixel = step % (OH * OW)
        n = step // (OH * OW) * BK
        i = pixel // OW
        j = pixel % OW
        b = dy.load([n, pixel * YC + pn * BN])
        acc0 = dot(load_box(x, n, i, j, h0, v0, c0, H, W, XC, S), b, acc0, PRECISION, INTERPRETED)
        if UNITS > 1:
            acc1 = dot(load_box(x, n, i, j, h1, v1, c1, H, W, XC, S), b, acc1, PRECISION, INTERPRETED)
        if UNITS > 2:
            acc2 = dot(load_box(x, n, i, j, h2, v2, c2, H, W, XC, S), b, acc2, PRECISION, INTERPRETED)
    columns = pn * BN + tl.arange(0, BN)
    store_unit(out, acc0, h0, v0, c0, columns, split, XC, KH, KW, CI, CO, BM)
    if UNITS > 1:
        store_unit(out, acc1, h1, v1, c1, columns, split, XC, KH, KW, CI, CO, BM)
    if UNITS > 2:
        store_unit(out, acc2, h2, v2, c2, columns, split, XC, KH, KW, CI, CO, BM)
