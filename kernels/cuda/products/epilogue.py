"""What a matmul kernel does with a finished tile: bias and activation, batch norm statistics of its columns, or the mask and the sums
of the previous layer's batch norm and ReLU; then the store. Triton functions first, then what a launcher needs to call them.

A tile has BM rows (images × positions) and BN of the result's N columns; an M-tile never crosses a group of images that share
statistics. ``slot`` numbers the tiles of all phases: phase · tiles + tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import triton
import triton.language as tl

from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import constant
from kernels.cuda.products import partials
from kernels.cuda.products.tile_math import to_type


@triton.jit
def tile_rows(row_ranges, rows, tile, BM: tl.constexpr):
    """First row, end row and group of M-tile ``tile``: from ``row_ranges`` [tiles, 3], or by arithmetic (one group) where it is None."""
    if row_ranges is None:
        return tile * BM, rows, 0
    else:
        return tl.load(row_ranges + 3 * tile), tl.load(row_ranges + 3 * tile + 1), tl.load(row_ranges + 3 * tile + 2)


@triton.jit
def tanh(x):
    """The hyperbolic tangent; a series near 0, where the formula with exp would cancel."""
    s = x * x
    near = x * (1.0 + s * (-0.333333333 + s * (0.133333333 + s * (-0.0539682540 + s * 0.0218694885))))
    e = tl.exp(-2.0 * tl.abs(x))
    far = tl.where(x < 0.0, -1.0, 1.0) * ((1.0 - e) / (1.0 + e))
    return tl.where(s < 0.0625, near, far)


@triton.jit
def store_statistics(acc, inside, partial, counts, slot, columns, N: tl.constexpr):
    """partial[slot] = (Σ, Σ of squares about the tile's own mean) of each column over the rows ``inside``; counts[slot] = those rows."""
    count = tl.sum(inside.to(tl.float32), 0)
    total = tl.sum(tl.where(inside[:, None], acc, 0.0), 0)
    centred = tl.where(inside[:, None], acc - (total / tl.maximum(count, 1.0))[None, :], 0.0)
    row = partial + slot * (2 * N) + columns
    tl.store(row, total, mask=columns < N)
    tl.store(row + N, tl.sum(centred * centred, 0), mask=columns < N)
    tl.store(counts + slot + 0 * columns, count + 0.0 * total, mask=columns == 0)  # by one of the programs along the columns


@triton.jit
def mask_previous(
    acc, inside, offsets, partial, slot, previous, mean, var, gamma, beta, eps, group, columns,
    N: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """acc where the previous layer's ReLU let its input through, else 0; partial[slot] = (Σ g, Σ g · (pre − mean)), or Σ g alone.

    ``previous`` at ``offsets`` is pre where there is a mean (ReLU of batch norm), else y (ReLU alone).
    """
    value = tl.load(previous + offsets, mask=inside, other=0.0).to(tl.float32)
    if mean is None:
        g = tl.where(inside & (value > 0.0), acc, 0.0)
        tl.store(partial + slot * N + columns, tl.sum(g, 0), mask=columns < N)
    else:
        at = group * CHANNELS + columns % CHANNELS
        centred = value - tl.load(mean + at, mask=columns < N, other=0.0)[None, :]
        scale = tl.load(gamma + columns % CHANNELS, mask=columns < N, other=0.0)
        scale *= 1.0 / tl.sqrt_rn(tl.load(var + at, mask=columns < N, other=1.0) + eps)
        shift = tl.load(beta + columns % CHANNELS, mask=columns < N, other=0.0)
        g = tl.where(inside & (centred * scale[None, :] + shift[None, :] > 0.0), acc, 0.0)
        row = partial + slot * (2 * N) + columns
        tl.store(row, tl.sum(g, 0), mask=columns < N)
        tl.store(row + N, tl.sum(g * centred, 0), mask=columns < N)
    return g


@triton.jit
def finish_tile(
    acc,  # [BM, BN] float32
    inside,  # [BM]: rows that exist
    row_offsets,  # [BM] int64, in elements of out
    column_offsets,  # [BN]
    columns,  # [BN]: numbers of the columns; those from N on do not exist
    slot,  # number of this tile among all M-tiles of all phases
    group,  # of this tile's rows
    out,  # the result; activations or float32
    bias,  # [CHANNELS] float32, or None
    partial,  # [slots, 2, N] or (ReLU alone) [slots, N] float32, or None
    counts,  # [slots] float32: statistics are wanted; or None
    previous,  # an array like out, of the previous layer, whose errors the result is; or None
    mean, var,  # [G, CHANNELS] of the previous layer, or None
    gamma, beta,  # [CHANNELS] of the previous layer, or None
    eps,
    N: tl.constexpr, CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Everything between a tile's sums and memory. Column ``c`` is of channel ``c % CHANNELS``."""
    if bias is not None:
        acc += tl.load(bias + columns % CHANNELS, mask=columns < N, other=0.0)[None, :]
    if ACTIVATION == "relu":
        acc = tl.maximum(acc, 0.0)
    if ACTIVATION == "tanh":
        acc = tanh(acc)
    if counts is not None:
        store_statistics(acc, inside, partial, counts, slot, columns, N)
    offsets = row_offsets[:, None] + column_offsets[None, :]
    mask = inside[:, None] & (columns < N)[None, :]
    if previous is not None:
        acc = mask_previous(acc, mask, offsets, partial, slot, previous, mean, var, gamma, beta, eps, group, columns, N, CHANNELS)
    tl.store(out + offsets, to_type(acc, out.dtype.element_ty, INTERPRETED), mask=mask)


@triton.jit
def finish_pieces(
    acc, inside, row_offsets,
    first_column,  # of the tile
    slot, group, out, bias, partial, counts, previous, mean, var, gamma, beta, eps,
    BLOCK: tl.constexpr,  # 0; or the columns are blocks of so many channels, one for each of 2 × 2 neighbouring pixels
    ROW: tl.constexpr,  # elements of out in a row of pixels
    N: tl.constexpr, CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """`finish_tile`, a few columns at a time: what it needs for all columns of a tile would not fit the registers."""
    BN: tl.constexpr = acc.shape[1]
    PIECE: tl.constexpr = 64 if previous is None else 32  # so two blocks of 128 × 128 share a multiprocessor of sm_90
    if BN > PIECE:
        left, right = tl.split(tl.permute(tl.reshape(acc, [acc.shape[0], 2, BN // 2]), (0, 2, 1)))
        finish_pieces(left, inside, row_offsets, first_column, slot, group, out, bias, partial, counts, previous, mean, var, gamma, beta,
                      eps, BLOCK, ROW, N, CHANNELS, ACTIVATION, INTERPRETED)  # fmt: skip
        finish_pieces(right, inside, row_offsets, first_column + BN // 2, slot, group, out, bias, partial, counts, previous, mean, var,
                      gamma, beta, eps, BLOCK, ROW, N, CHANNELS, ACTIVATION, INTERPRETED)  # fmt: skip
    else:
        columns = first_column + tl.arange(0, BN)
        if BLOCK > 0:
            pixel = columns // BLOCK
            column_offsets = pixel // 2 * ROW + pixel % 2 * BLOCK + columns % BLOCK
        else:
            column_offsets = columns
        finish_tile(acc, inside, row_offsets, column_offsets, columns, slot, group, out, bias, partial, counts, previous, mean, var, gamma,
                    beta, eps, N, CHANNELS, ACTIVATION, INTERPRETED)  # fmt: skip


class Statistics(NamedTuple):
    """Batch norm statistics of the result: mean, var [G, C] wide, outputs; groups of images."""

    mean: Array
    var: Array
    groups: tuple[int, ...]


class Epilogue(NamedTuple):
    """What happens to a result on its way to memory. ``activation``: None, "relu" or "tanh"; ``statistics`` or ``previous``, not both;
    ``later``: it need not be there before the end of a `summed_together` (`Engine.together`)."""

    bias: Array = None
    activation: str | None = None
    statistics: Statistics | None = None
    previous: Previous | None = None
    later: bool = False


NOTHING = Epilogue()


class Prepared(NamedTuple):
    """An epilogue ready for one launch.

    Attributes:
        tiles: M-tiles of one phase.
        row_ranges: for `tile_rows`: [tiles, 3] int32, or None.
        arguments: `finish_tile`'s from ``out`` to ``eps``.
        constants: its constexprs N, CHANNELS and ACTIVATION.
        reads, writes: arrays (or bytes) that the launch reads and writes because of it, ``out`` included.
        finish: adds up the partial results, or leaves that to the next launch; call it after the launch.
    """

    tiles: int
    row_ranges: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    reads: list[Any]
    writes: list[Any]
    finish: Callable[[], None]


def prepare(dev: Device, epilogue: Epilogue, out: Array, *, images: int, positions: int, phases: int, columns: int, bm: int) -> Prepared:
    """Scratch, constants and arguments of `finish_tile`.

    Args:
        out: the result's array.
        images, positions: a phase has images · positions rows; the rows of an image lie together.
        columns: of the product; a multiple of out's last axis where they are those of several pixels.
        bm: rows of a tile.
    """
    bias, activation, statistics, previous, _ = epilogue
    groups = statistics.groups if statistics else previous.groups if previous and previous.mean is not None else (images,)
    row_ranges, starts = _row_ranges(dev, tuple(groups), positions, bm)
    tiles = starts[-1]
    reads, writes = [row_ranges.nbytes if row_ranges is not None else 0, bias.nbytes if bias is not None else 0], [out.nbytes]
    partial: Any = None
    counts = mask = mean = var = gamma = beta = None
    channels, eps = out.shape[-1], 0.0

    def finish() -> None:
        if statistics:
            partials.bn_finalise(dev, statistics.mean, statistics.var, partial, counts, starts, statistics.mean.shape[1])
        elif previous and mean is None and previous.sums is not None:
            partials.reduce_later(dev, previous.sums.reshape(-1), partial.reshape(-1, channels))
        elif previous and mean is not None:
            partials.bn_sums_finalise(dev, previous.sums, partial, starts, channels, previous.var, previous.eps)

    if statistics:
        partial = dev.scratch("epilogue.partial", (phases * tiles, 2, columns), np.float32)
        counts = dev.scratch("epilogue.counts", (phases * tiles,), np.float32)
        writes += [partial, counts]
    elif previous:
        channels = len(previous.gamma) if previous.gamma is not None else previous.y.shape[-1]
        mask, mean, var, gamma, beta, eps = previous.y, None, None, None, None, 0.0
        if previous.mean is not None:
            mask, mean, var = previous.pre, previous.mean, previous.var
            gamma, beta, eps = previous.gamma, previous.beta, float(previous.eps)
            reads += [mean, var, gamma, beta]
        shape = phases * tiles, 1 if mean is None else 2, columns
        partial = (
            dev.scratch("epilogue.partial", shape, np.float32)
            if mean is not None
            else partials.later_partials(dev, "epilogue.partial", shape)
        )
        reads.append(mask)
        writes.append(partial)
    arguments = (out, bias, partial, counts, mask, mean, var, gamma, beta, eps)
    constants = {"N": columns, "CHANNELS": channels, "ACTIVATION": activation}
    return Prepared(tiles, row_ranges, arguments, constants, reads, writes, finish)


def _row_ranges(dev: Device, groups: tuple[int, ...], positions: int, bm: int) -> tuple[Any, tuple[int, ...]]:
    """The row ranges of `tile_rows` (None for one group), and the first tile of each group, then the number of tiles."""
    starts = [0]
    for images in groups:
        starts.append(starts[-1] - (-images * positions // bm))

    def make() -> np.ndarray:
        rows, first = [], 0
        for group, images in enumerate(groups):
            end = first + images * positions
            rows += [(start, end, group) for start in range(first, end, bm)]
            first = end
        return np.array(rows, np.int32)

    key = ("epilogue tiles", groups, positions, bm)
    return None if len(groups) == 1 else constant(dev, key, make), tuple(starts)
