"""The sum over positions in a weight gradient, divided into splits: how many, their launch, and the reduction that follows."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.chips import Chip
from kernels.cuda.products.partials import split_reduce
from kernels.cuda.products.tiles import Tile
from kernels.ledger import cost

#: `tl.dot`'s input_precision for each of ours; bf16 operands have only one.
DOT = {"bf16": "ieee", "tf32": "tf32", "float32": "ieee"}
#: Matrix operations that a chip does in the time it moves one byte, roughly, from datasheets: H100 295 in bf16, A100 156, RTX 4090 164.
OPERATIONS_PER_BYTE = {"bf16": 200, "tf32": 100, "float32": 20}
#: From this many elements on, offsets in an array need 64 bits.
LONG = 2**31
#: Steps that a program loses at its start and end: an empty pipeline and the stores.
OVERHEAD = 4
#: Fewer warps than this on a multiprocessor cannot hide latencies: the estimated factor.
WARPS, IDLE = 8, 1.25


def splits(
    tiles: int, steps: int, tile: tuple[int, ...], size: int, entries: int, chip: Chip, precision: str
) -> tuple[int, int]:  # fmt: skip
    """(splits, steps in each) with the least estimated time; the last split may be shorter, none is empty.

    More splits fill the multiprocessors; each costs a float32 copy of the result, written and read.

    Args:
        tiles: programs of one split.
        steps: main-loop steps in all.
        tile: rows, columns, depth, stages, warps.
        size: bytes of an operand's element.
        entries: elements of the result.
    """
    bm, bn, bk, stages, warps = tile
    resident = max(1, chip.shared_bytes // (stages * (bm + bn) * bk * size))
    copy = 8 * entries * OPERATIONS_PER_BYTE[precision] / (2 * bm * bn * bk * chip.multiprocessors)  # in steps

    def time(count: int) -> float:
        programs = -(-tiles * count // chip.multiprocessors)  # of the busiest multiprocessor
        idle = IDLE if min(programs, resident) * warps < WARPS else 1.0
        return idle * programs * (-(-steps // count) + OVERHEAD) + (count * copy if count > 1 else 0)

    best = min(range(1, min(steps, 1024) + 1), key=time)
    each = -(-steps // best)
    return -(-steps // each), each


def covered(out: int, kernel: int, stride: int) -> int:
    """Rows (or columns) under the taps of ``out`` positions, padding included."""
    return out * kernel if kernel < stride else (out - 1) * stride + kernel


def launch_splits(
    dev: Device, precision: str, kernel: Any, grid: tuple[int, int], dw: Array, operands: tuple[Any, ...],
    read: tuple[int, ...], steps: int, tile: Tile, **constexprs: Any,
) -> None:  # fmt: skip
    """dw through ``kernel(out, *operands, steps of a split)``, programs grid x splits; out is dw itself where one split is best.

    Args:
        dw: [KH, KW, Ci, Co] float32, output.
        read: bytes that the launch reads.
        steps: main-loop steps in all.
        tile: of one program; its rows and columns as executed.
    """
    bm, bn, bk, stages, warps = tile
    count, each = splits(grid[0] * grid[1], steps, tile, 2 if precision == "bf16" else 4, dw.size, dev.chip, precision)
    out = dw if count == 1 else dev.scratch("wgrad.partials", (count, *dw.shape), np.float32)
    dev.triton(
        kernel, (*grid, count), out, *operands, each, warps=warps, stages=stages,
        cost=cost(grid[0] * grid[1] * steps * 2 * bm * bn * bk, read, [out]),
        **constexprs, PRECISION=DOT[precision], INTERPRETED=dev.interpreted,
    )  # fmt: skip
    if count > 1:
        split_reduce(dev, dw, out)
