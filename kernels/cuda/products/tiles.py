"""Tile sizes of the matmul kernels: a list for each kind of chip, a rule that chooses from it, and a tuner's results, which come first.

The lists follow from shared memory, registers and spills of the compiled code; the choice from `time_model`. None was timed yet.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

from kernels.cuda.device.boards import board_of
from kernels.cuda.device.chips import Chip
from kernels.cuda.products import time_model
from kernels.cuda.products.time_model import Tile, split

#: Convolutions and linear layers, by chip family and precision. `tile` chooses from a list, and makes its entries fit.
TILES: dict[str, dict[str, tuple[Tile, ...]]] = {
    "data-centre": {
        "bf16": (
            Tile(128, 256, 64, 4, 8), Tile(256, 128, 64, 4, 8), Tile(128, 128, 64, 4, 8), Tile(64, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4),
        ),
        "tf32": (Tile(128, 128, 32, 4, 8), Tile(64, 128, 32, 4, 4), Tile(64, 64, 32, 4, 4)),
        "float32": (Tile(128, 128, 16, 3, 8), Tile(128, 64, 16, 3, 8), Tile(64, 64, 16, 3, 8)),
    },
    "consumer": {
        "bf16": (Tile(128, 128, 32, 4, 8), Tile(64, 128, 32, 4, 4), Tile(64, 64, 32, 4, 4)),
        "tf32": (Tile(128, 64, 32, 3, 4), Tile(64, 64, 32, 3, 4)),
        "float32": (Tile(128, 128, 16, 3, 8), Tile(128, 64, 16, 3, 8), Tile(64, 64, 16, 3, 8)),
    },
}  # fmt: skip

#: Rows of a tile at most where rows are loaded by pointers: those and their boundary checks need registers.
POINTER_ROWS = 128
#: Columns at most before sm_80: without asynchronous copies what is loaded for the next step waits in registers, and 128 spill.
OLD_COLUMNS = 64

#: Kinds of product that choose from TILES; others have rules of their own.
KINDS = ("forward", "dgrad", "phases", "fused", "linear", "linear_whole")

_overrides: dict[str, Tile] = {}
_used: dict[str, Tile] = {}


def tile(kind: str, *, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> Tile:
    """The tile for a product.

    Args:
        kind: "forward", "dgrad" (stride 1), "phases" or "fused" (fractional stride), "linear" (its inputs may
            be split) or "linear_whole".
        rows, columns: of the result, the rows of all phases together.
        depth: length of the summed axis.
        channels: bk divides them, so that a step has one tap.
        precision: "bf16", "tf32" or "float32".

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"tile: got kind {kind!r}, expected one of {', '.join(KINDS)}")
    name = key(kind, rows, columns, depth, chip, precision)
    if name not in _overrides:
        seconds = functools.partial(
            _seconds, kind=kind, rows=rows, columns=columns, depth=depth, channels=channels, chip=chip, precision=precision
        )
        return used(name, min(fitted(columns, channels, chip, precision), key=seconds))
    return used(name, _overrides[name])


def with_more(tile: Tile, more: int, chip: Chip, precision: str) -> Tile:
    """``tile`` where ``more`` elements are loaded each step, of another operand: stages that fit the shared memory, and down to three so
    that a multiprocessor holds as many programs as without. Before sm_80 nothing is staged in shared memory."""
    size, board, shared = 2 if precision == "bf16" else 4, board_of(chip), chip.shared_bytes
    held = time_model.resident(tile, size, shared, board)

    def room(stages: int, programs: int) -> bool:
        return programs * stages * ((tile.bm + tile.bn) * tile.bk + more) * size <= shared - 2048

    stages = tile.stages
    while chip.bf16 and stages > 2 and not room(stages, held if stages > 3 else 1):
        stages -= 1
    return tile._replace(stages=stages)


def programs(tile: Tile, rows: int, columns: int) -> int:
    """Tiles of a result."""
    return -(-rows // tile.bm) * -(-columns // tile.bn)


def phase_taps(kernel: int) -> tuple[int, int]:
    """Kernel rows (or columns) of the two phases of a fractional stride, the longer first."""
    return (kernel + 1) // 2, kernel // 2


def key(kind: str, rows: int, columns: int, depth: int, chip: Chip, precision: str) -> str:
    """The name of a product in a tuner's file."""
    return f"{kind} {rows}x{columns}x{depth} {precision} sm_{chip.sm}"


def tuned(name: str) -> Tile | None:
    """The tuner's tile for the product called ``name``, if there is one."""
    return _overrides.get(name)


def used(name: str, tile: Tile) -> Tile:
    """Note that the product called ``name`` runs with ``tile``; returns it."""
    _used[name] = tile
    return tile


def override(path: str | Path | None) -> None:
    """Take a tuner's tiles, JSON ``{key: [bm, bn, bk, stages, warps]}``, in place of those taken before; None: take none.

    Raises:
        ValueError: numbers that are no tile.
    """
    read = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    for name, numbers in read.items():
        if len(numbers) != 5 or any(not isinstance(n, int) or n < 1 for n in numbers) or any(n & (n - 1) for n in numbers[:3]):
            raise ValueError(f"{path}: got {numbers} for {name!r}, expected [bm, bn, bk, stages, warps], the first three powers of two")
    _overrides.clear()
    _overrides.update({name: Tile(*numbers) for name, numbers in read.items()})


def describe() -> dict[str, Any]:
    """TILES, a tuner's tiles, and the tiles of all products that ran in this process so far, as JSON can hold them."""
    table = {family: {precision: [list(t) for t in row] for precision, row in rows.items()} for family, rows in TILES.items()}
    tuned, used = ({name: list(tiles[name]) for name in sorted(tiles)} for tiles in (_overrides, _used))
    return {"table": table, "tuned": tuned, "used": used}


def fitted(columns: int, channels: int, chip: Chip, precision: str) -> list[Tile]:
    """What `tile` chooses from."""
    return [_fit(entry, columns, channels, chip, precision) for entry in TILES[chip.family][precision]]


def _fit(entry: Tile, columns: int, channels: int, chip: Chip, precision: str) -> Tile:
    """An entry of TILES with no more columns than there are, a depth that divides the channels, stages that fit the shared memory."""
    bm, bn, bk, stages, warps = entry
    bm = bm if chip.tma else min(bm, POINTER_ROWS)
    bn = min(bn, max(16, 1 << (columns - 1).bit_length()))
    bn = bn if chip.bf16 else min(bn, OLD_COLUMNS)
    while channels % bk:
        bk //= 2
    size = 2 if precision == "bf16" else 4
    while stages > 2 and stages * (bm + bn) * bk * size > chip.shared_bytes - 2048:
        stages -= 1
    small = 4096 if precision != "float32" else 2048  # without tensor cores four warps' registers do not hold 64 x 64 sums
    return Tile(bm, bn, bk, stages, warps if bm * bn > small else min(warps, 4))


@functools.lru_cache(1024)
def _seconds(tile: Tile, kind: str, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> float:
    """The model's seconds of a product with ``tile``."""
    board, size = board_of(chip), 2 if precision == "bf16" else 4
    steps = depth // tile.bk
    if kind == "linear":
        return split(programs(tile, rows, columns), steps, tile, rows * columns, chip, precision)[2]
    classes: tuple[tuple[int, int], ...] = ((programs(tile, rows, columns), steps),)
    if kind == "phases":
        both = phase_taps(math.isqrt(depth // channels))
        each = programs(tile, rows // 4, columns)
        classes = tuple((each, a * b * channels // tile.bk) for a in both for b in both)
    return time_model.product(board, precision, tile, classes, tma=chip.tma, shared=chip.shared_bytes, stored=2 * size).seconds


# ---- weight gradients and few-channel convolutions ----

#: Rows, columns, depth of a step, stages, warps.
Sizes = tuple[int, int, int, int, int]


def wgrad_tile(kind: str, *, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> Tile:
    """The tile of ``kind``: "wgrad", "wgrad_boxes", "image", "image_wgrad" or "wgrad_rmsprop".

    Args:
        rows, columns: of the product; depth: length of the summed axis.
        channels: of x as stored. A tile of boxes has units of 64 or 128 of them: 256 rows mean the most units that a program takes.
    """
    name = key(kind, rows, columns, depth, chip, precision)
    if (found := tuned(name)) is not None:
        return used(name, found)

    def seconds(tile: Tile) -> float:
        return split(programs(tile, rows, columns), -(-depth // tile.bk), tile, rows * columns, chip, precision)[2]

    largest = Tile(*_largest(kind, rows, columns, depth, channels, chip, precision))
    return used(name, min(_smaller(kind, largest), key=seconds))


def _smaller(kind: str, tile: Tile) -> list[Tile]:
    """The largest tile of a weight gradient, and narrower ones whose code is no worse: with 64 columns and steps of 64 it spills."""
    if kind not in ("wgrad", "wgrad_boxes") or tile.bm > 128 or tile.warps < 8:
        return [tile]
    columns = (128, 64) if tile.bk <= 32 else (128,)
    return [tile, *(tile._replace(bn=bn, warps=8 if tile.bm * bn > 8192 else 4) for bn in columns if bn < tile.bn)]


def _largest(kind: str, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> Sizes:
    width = max(16, 1 << (columns - 1).bit_length())
    if precision == "float32":
        return _strict(kind, width)
    large = chip.family == "data-centre"
    if kind == "wgrad_rmsprop":
        return 64, 64, 64 if precision == "bf16" else 32, 2, 8
    if kind == "image":
        bn = min(width, 128)  # the four steps of 25 taps with four channels are all in flight where they fit
        return 128, bn, 32, 4 if large or precision == "bf16" else 3, 8 if bn == 128 else 4
    if kind == "image_wgrad":
        return _image_wgrad(rows, width, large, precision)
    if kind == "wgrad":
        return _pointers(rows, width, chip, precision)
    return _boxes(width, rows == channels and depth <= 512, channels, large, precision)


def _strict(kind: str, width: int) -> Sizes:
    """float32 without tensor cores: small tiles of many registers."""
    if kind == "wgrad_rmsprop":
        return 64, 64, 32, 2, 8
    return 64, min(width, 64), 32, 3, 8 if kind == "image" and width > 32 else 4  # the statistics of 64 columns spill with 4 warps


def _image_wgrad(rows: int, width: int, large: bool, precision: str) -> Sizes:
    """All taps in one program, where they fit, so that each position is loaded once."""
    bm = 64 if rows <= 64 else 128 if rows <= 128 or (not large and precision == "tf32") else 256
    bn = min(width, 64)
    return bm, bn, 64 if large and precision == "bf16" else 32, 3, 8 if bm * bn > 8192 else 4


def _pointers(rows: int, width: int, chip: Chip, precision: str) -> Sizes:
    bm, bn = 64 if rows <= 64 else 128, min(width, 128)
    warps = 8 if bm * bn > 8192 else 4
    if chip.family == "consumer":
        return (bm, bn, 32, 3, warps) if precision == "bf16" else (bm, min(bn, 64), 32, 3, warps)
    return bm, bn, 64 if precision == "bf16" else 32, 4 if chip.tma else 3, warps


def _boxes(width: int, short: bool, channels: int, large: bool, precision: str) -> Sizes:
    """Units of 128 channels where there are so many; else two or three of 64, which share the other operand."""
    whole = channels % 128 == 0
    if not large:
        bn = min(width, 128 if precision == "bf16" else 64)
        return 128, bn, 32, 3, 8 if bn == 128 else 4
    if precision == "tf32":
        bn = min(width, 128)
        return 128, bn, 32, 3 if whole else 2, 8 if bn == 128 else 4
    if short:  # linear layers: a few steps, then stores: many small programs
        return 64, min(width, 128), 64, 3, 4
    if not whole:
        bn = min(width, 128)
        return 256, bn, 64, 2 if bn == 128 else 3, 4
    bn = min(width, 256)
    return 128, bn, 64, 4, 8 if bn > 64 else 4
