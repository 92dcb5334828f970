"""Convolution with stride 1 into at most four channels (Triton): the kernel's columns are columns of the matrix product.

With so few output channels a product over all taps would read the source KH·KW times for columns that are mostly padding. Instead

    P[r, (kw, co)] = Σ_{kh, ci} x[n, i + kh − p, j, ci] · w[kh, kw, ci, co]        r = (n, i, j)
    y[r, co]       = Σ_kw P[r + kw − q, (kw, co)]                                  where j + kw − q is inside the image row

reads it KH times, and the second sum stays inside a tile that holds whole image rows. P is float32 throughout.

Axis letters: N images, H W rows and columns, SC channels of the source as stored, CO of the output, KH KW kernel, p = KH // 2,
q = KW // 2. A tile has BM rows r and BK channels a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.cuda.products.convolve_kernel import inside_bits, load_source, load_weights
from kernels.cuda.products.epilogue import finish_tile
from kernels.cuda.products.tile_math import after_previous_launch, dot

#: Output channels at most, and columns of the product for each kernel column.
MOST_OUTPUTS = tl.constexpr(4)


@triton.jit
def few_outputs(
    src,  # [N, H, W, SC], or with TMA its descriptor
    w,  # [KH, BN, SC], or with TMA a descriptor of [KH · BN, SC]: rows (kw, co), zeros where there is no such tap or channel
    out,  # [N, H, W, CO]
    bias,  # [CO] float32, or None
    rows,  # N·H·W
    H: tl.constexpr, W: tl.constexpr, SC: tl.constexpr, CO: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,  # 4 · kernel columns, padded to a power of two
    BK: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM positions, whole image rows, all their channels."""
    after_previous_launch(DEPENDENT)
    first = tl.program_id(0) * BM
    local = tl.arange(0, BM)
    r = first + local
    inside = r < rows
    columns = tl.arange(0, BN)
    # position of kernel row 0: of the tile's first row (TMA), or of each row
    n, i, row_bits, base, w_base = None, None, None, None, None
    if TMA:
        n = first // (H * W)
        i = first // W % H - KH // 2
    else:
        row_bits = tl.where(inside, inside_bits(r // W % H - KH // 2, KH, H, False), 0)
        base = src + (r - (KH // 2) * W).to(tl.int64) * SC
        w_base = w + (columns * SC)[None, :]

    acc = tl.zeros([BM, BN], tl.float32)
    a = tl.full([], 0, tl.int32)
    c = a
    for _ in range(KH * (SC // BK)):
        x = load_source(src, base, row_bits, 1, n, i, 0, a, 0, c, W, SC, 1, False, TMA, BM, BK)
        y = load_weights(w, w_base, a, c, 0, columns, BN, BN, SC, True, TMA, BN, BK)
        acc = dot(x, y, acc, PRECISION, INTERPRETED)
        c += BK
        a += (c == SC).to(tl.int32)
        c = tl.where(c == SC, 0, c)

    # where one thread has the whole row, the compiler knows the kernel column of each column, and this takes few shuffles
    step = (columns // MOST_OUTPUTS - KW // 2)[None, :]
    column = (local % W)[:, None] + step
    exists = (column >= 0) & (column < W) & (columns < KW * MOST_OUTPUTS)[None, :]
    moved = tl.gather(acc, tl.where(exists, local[:, None] + step, local[:, None]), 0)
    sums = tl.sum(tl.reshape(tl.where(exists, moved, 0.0), [BM, BN // MOST_OUTPUTS, MOST_OUTPUTS]), 1)
    channels = tl.arange(0, MOST_OUTPUTS)
    finish_tile(sums, inside, r.to(tl.int64) * CO, channels, channels, 0, 0, out, bias, None, None, None, None, None, None, None, 0.0,
                CO, CO, ACTIVATION, INTERPRETED)  # fmt: skip
