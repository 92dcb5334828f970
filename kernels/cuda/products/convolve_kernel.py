"""Convolution and linear layer as one matrix product (Triton): forward, gradient by the input, fractional stride.

    out[r, n] = Σ_{tap, k} src[position of r, moved by tap; k] · w[tap, k, n]

Rows r are the output positions of all images, of one phase where the stride is fractional; columns n output channels; the summed axis
is taps × channels of the source. A linear layer is the case of one pixel and one tap.

In the stride-2 gradient, output pixel 2i + ph (ph = 0, 1) meets source row i + t through kernel row ph + p − 2t: a phase has the kernel
rows kh0 = (ph + p) mod 2, kh0 + 2, …, and likewise the columns: 9, 6, 6 and 4 of the taps of a 5×5 kernel, none of them multiplied
by an inserted zero. Phases are a grid axis, the one with most taps first.

Where the output has few channels the phases can also be blocks of columns of one product with all their taps, 3×3 for a 5×5 kernel.

On sm_90 wgmma reads its second operand from shared memory, its first too where no reshape stands between the descriptor's load and the
product; and a box of positions is reshaped. There the product is computed transposed, wᵀ · srcᵀ, so that both stay in shared memory.
The sums of a large tile are then in two parts: to turn back all of them at once takes twice their registers.

Axis letters: PH PW rows and columns of the positions, OH OW of the output, SH SW of the source, SC its channels, OC those of the output,
N columns of the product, KH KW kernel, S stride. A tile has BM rows, BN columns, BK channels a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.cuda.products.epilogue import finish_pieces, tile_rows
from kernels.cuda.products.tile_math import after_previous_launch, before_norm, dot


@triton.jit
def taps_of_phase(phase, K: tl.constexpr, FRACTIONAL: tl.constexpr, BACK: tl.constexpr):
    """(first tap, number of taps, source row of tap 0 minus position) of kernel rows (or columns) in ``phase``.

    BACK: source rows fall as taps rise (the gradient). FRACTIONAL: every second tap.
    """
    P: tl.constexpr = K // 2
    if FRACTIONAL:
        first = (phase + P) % 2
        return first, (K - first + 1) // 2, (phase + P - first) // 2
    else:
        return 0, K, P if BACK else -P


@triton.jit
def inside_bits(y, taps, SIZE: tl.constexpr, BACK: tl.constexpr):
    """Bit t: tap t of a row whose tap 0 is at ``y`` is inside [0, SIZE). At most 31 taps."""
    if BACK:
        low = y - (SIZE - 1)
        high = y + 1
    else:
        low = -y
        high = SIZE - y
    low = tl.minimum(tl.maximum(low, 0), 31)
    high = tl.minimum(tl.maximum(high, 0), taps)
    return ((1 << high) - 1) & ~((1 << low) - 1)


@triton.jit
def load_source(src, base, row_bits, column_bits, n, i, j, a, b, c,
                SW: tl.constexpr, SC: tl.constexpr, S: tl.constexpr, BACK: tl.constexpr, TMA: tl.constexpr,
                BM: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """[BM, BK] of the source at tap (a, b), channels from c on; zero outside.

    With TMA, (n, i, j) is the position of tap (0, 0) of the tile's first row; stride 2 sees the source as pairs of rows and columns.
    Otherwise ``base`` has each row's pointer at tap (0, 0).
    """
    if TMA:
        if S == 2:
            box = src.load([n, (i + a) >> 1, (i + a) & 1, (j + b) >> 1, ((j + b) & 1) * SC + c])
        elif BACK:
            box = src.load([n, i - a, j - b, c])
        else:
            box = src.load([n, i + a, j + b, c])
        return tl.reshape(box, [BM, BK])
    else:
        shift = (a * SW + b) * SC
        if BACK:
            shift = -shift
        shift = tl.multiple_of(shift + c, 16)
        inside = ((row_bits >> a) & (column_bits >> b) & 1) != 0
        return tl.load(base[:, None] + (shift + tl.arange(0, BK))[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def load_weights(w, w_base, tap, c, first_column, columns,
                 N: tl.constexpr, WR: tl.constexpr, WC: tl.constexpr, TRANSPOSED: tl.constexpr, TMA: tl.constexpr,
                 BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """[BK, BN] of the weights, stored as [taps, WR, WC] with the columns last, or first (TRANSPOSED)."""
    if TMA:
        if TRANSPOSED:
            return w.load([tap * WR + first_column, c]).T
        else:
            return w.load([tap * WR + c, first_column])
    elif TRANSPOSED:
        k = tl.multiple_of(c, 16) + tl.arange(0, BK)
        return tl.load(w_base + tap.to(tl.int64) * (WR * WC) + k[:, None], mask=(columns < N)[None, :], other=0.0)
    else:
        row = tl.multiple_of((tap * WR + c).to(tl.int64) * WC, 16)
        return tl.load(w_base + row + (tl.arange(0, BK) * WC)[:, None], mask=(columns < WC)[None, :], other=0.0)


@triton.jit
def convolve(
    src,  # [images, SH, SW, SC], or with TMA its descriptor, stride 2: of [images, SH/2, 2, SW/2, 2·SC]
    w,  # [taps, WR, WC], or with TMA a descriptor of [taps · WR, WC]
    pre, coefficients,  # like src, and [3, SC]: src comes through `before_norm`; or None. Not with TMA
    row_ranges,  # of `tile_rows`
    out, bias, partial, counts, previous, mean, var, gamma, beta, eps,  # of `finish_pieces`
    rows,  # of a phase
    tiles,  # M-tiles of a phase
    steps,  # of BK channels in one split; all of them where there is one split
    PH: tl.constexpr, PW: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, OC: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, SC: tl.constexpr, WR: tl.constexpr, WC: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, S: tl.constexpr,
    BACK: tl.constexpr,  # taps go against the source: a gradient
    FRACTIONAL: tl.constexpr,  # the four phases of a stride-2 gradient, on grid axis 1
    SHUFFLED: tl.constexpr,  # the phases are blocks of columns
    TRANSPOSED: tl.constexpr,  # weights [taps, columns, channels]
    FLIPPED: tl.constexpr,  # the weights have their taps in reverse order
    SPLIT: tl.constexpr,  # out is [splits, rows, N] float32
    N: tl.constexpr, CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, TMA: tl.constexpr,
    PARTS: tl.constexpr,  # 0; or 1 or 2: the product is computed transposed, in so many parts of the columns
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM rows and BN columns of one phase. Grid: M-tiles × N-tiles (N fastest), phases, splits."""
    after_previous_launch(DEPENDENT)
    NT: tl.constexpr = (N + BN - 1) // BN
    PART: tl.constexpr = BN // 2 if PARTS == 2 else BN
    TAP_STEPS: tl.constexpr = SC // BK
    EVERY: tl.constexpr = 2 if FRACTIONAL else 1
    tile = tl.program_id(0) // NT
    first_column = tl.program_id(0) % NT * BN
    phase = tl.program_id(1)
    # the phase with more taps first: of a kernel with K // 2 odd that is phase 1
    ph = (phase // 2 + KH // 2) % 2
    pw = (phase % 2 + KW // 2) % 2
    first_h, taps_h, shift_h = taps_of_phase(ph, KH, FRACTIONAL, BACK)
    first_w, taps_w, shift_w = taps_of_phase(pw, KW, FRACTIONAL, BACK)
    first_row, end_row, group = tile_rows(row_ranges, rows, tile, BM)
    columns = first_column + tl.arange(0, BN)

    # position of tap (0, 0): of the tile's first row (TMA), or of each row
    base, pre_base, row_bits, column_bits, w_base = None, None, None, None, None
    if TMA:
        n = first_row // (PH * PW)
        i = first_row // PW % PH * S + shift_h
        j = first_row % PW * S + shift_w
    else:
        r = first_row + tl.arange(0, BM)
        n = r // (PH * PW)
        i = r // PW % PH * S + shift_h
        j = r % PW * S + shift_w
        row_bits = tl.where(r < end_row, inside_bits(i, taps_h, SH, BACK), 0)
        column_bits = inside_bits(j, taps_w, SW, BACK)
        place = n.to(tl.int64) * (SH * SW * SC) + (i * SW + j) * SC
        base = src + place
        if pre is not None:
            pre_base = pre + place
        w_base = w + columns[None, :]
        if TRANSPOSED:
            w_base = w + first_column.to(tl.int64) * WC + (tl.arange(0, BN) * WC)[None, :]

    all_steps = taps_h * taps_w * TAP_STEPS
    start, end = 0, all_steps
    a = tl.full([], 0, tl.int32)
    b = a
    c = a
    if SPLIT:  # only of one tap
        start = tl.program_id(2) * steps
        end = tl.minimum(start + steps, all_steps)
        c = start * BK
    acc = tl.zeros([PART, BM] if PARTS else [BM, BN], tl.float32)
    right = acc
    for _ in range(start, end):
        tap = (first_h + EVERY * a) * KW + first_w + EVERY * b
        if FLIPPED:
            tap = KH * KW - 1 - tap
        x = load_source(src, base, row_bits, column_bits, n, i, j, a, b, c, SW, SC, S, BACK, TMA, BM, BK)
        if pre is not None:
            v = load_source(pre, pre_base, row_bits, column_bits, n, i, j, a, b, c, SW, SC, S, BACK, TMA, BM, BK)
            channel = coefficients + tl.multiple_of(c, 16) + tl.arange(0, BK)[None, :]
            inside = (((row_bits >> a) & (column_bits >> b) & 1) != 0)[:, None]
            x = before_norm(x, v, tl.load(channel), tl.load(channel + SC), tl.load(channel + 2 * SC), inside, INTERPRETED)
        y = load_weights(w, w_base, tap, c, first_column, columns, N, WR, WC, TRANSPOSED, TMA, BN, BK)
        acc = dot(y.T, x.T, acc, PRECISION, INTERPRETED) if PARTS else dot(x, y, acc, PRECISION, INTERPRETED)
        if PARTS == 2:
            y = load_weights(w, w_base, tap, c, first_column + PART, columns, N, WR, WC, TRANSPOSED, TMA, BN, BK)
            right = dot(y.T, x.T, right, PRECISION, INTERPRETED)
        c += BK
        if KH * KW > 1:  # after the last channels the next tap
            b += (c == SC).to(tl.int32)
            c = tl.where(c == SC, 0, c)
            a += (b == taps_w).to(tl.int32)
            b = tl.where(b == taps_w, 0, b)

    r = first_row + tl.arange(0, BM)
    inside = r < end_row
    if SPLIT:
        offsets = (tl.program_id(2).to(tl.int64) * rows + r) * N
    else:
        oh = r // PW % PH
        ow = r % PW
        if FRACTIONAL:
            oh = 2 * oh + ph
            ow = 2 * ow + pw
            inside = inside & (oh < OH) & (ow < OW)
        if SHUFFLED:
            oh = 2 * oh
            ow = 2 * ow
        offsets = (r // (PH * PW)).to(tl.int64) * (OH * OW * OC) + (oh * OW + ow) * OC
    finish_pieces(acc.T if PARTS else acc, inside, offsets, first_column, phase * tiles + tile, group,
                  out, bias, partial, counts, previous, mean, var, gamma, beta, eps,
                  OC if SHUFFLED else 0, OW * OC, N, CHANNELS, ACTIVATION, INTERPRETED)  # fmt: skip
    if PARTS == 2:
        finish_pieces(right.T, inside, offsets, first_column + PART, phase * tiles + tile, group,
                      out, bias, partial, counts, previous, mean, var, gamma, beta, eps,
                      OC if SHUFFLED else 0, OW * OC, N, CHANNELS, ACTIVATION, INTERPRETED)  # fmt: skip
