"""The sum over positions in a weight gradient, divided into splits (`time_model.split` says how many): their launch, and what adds them."""

from __future__ import annotations

from typing import Any

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.products.partials import later_partials, reduce_later
from kernels.cuda.products.time_model import Tile, split
from kernels.ledger import cost

#: `tl.dot`'s input_precision for each of ours; bf16 operands have only one.
DOT = {"bf16": "ieee", "tf32": "tf32", "float32": "ieee"}
#: From this many elements on, offsets in an array need 64 bits.
LONG = 2**31


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
    count, each, _ = split(grid[0] * grid[1], steps, tile, dw.size, dev.chip, precision)
    out = dw if count == 1 else later_partials(dev, "wgrad.partials", (count, *dw.shape))
    dev.triton(
        kernel, (*grid, count), out, *operands, each, warps=warps, stages=stages,
        cost=cost(grid[0] * grid[1] * steps * 2 * bm * bn * bk, read, [out]),
        **constexprs, PRECISION=DOT[precision], INTERPRETED=dev.interpreted, DEPENDENT=dev.dependent,
    )  # fmt: skip
    if count > 1:
        reduce_later(dev, dw, out)
