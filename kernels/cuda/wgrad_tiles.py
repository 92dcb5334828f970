"""Tiles of the weight gradients and of the few-channel convolutions: a rule, behind a tuner's results.

Chosen from compiled code (registers, spills, shared memory) and counted traffic; none was timed yet.
"""

from __future__ import annotations

from kernels.cuda import tiles
from kernels.cuda.chips import Chip
from kernels.cuda.tiles import Tile

#: Rows, columns, depth of a step, stages, warps.
Sizes = tuple[int, int, int, int, int]


def tile(kind: str, *, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> Tile:
    """The tile of ``kind``: "wgrad", "wgrad_boxes", "image", "image_wgrad" or "wgrad_rmsprop".

    Args:
        rows, columns: of the product; depth: length of the summed axis.
        channels: of x as stored. A tile of boxes has units of 64 or 128 of them: 256 rows mean the most units that a program takes.
    """
    name = tiles.key(kind, rows, columns, depth, chip, precision)
    return tiles.used(name, tiles.tuned(name) or Tile(*_rule(kind, rows, columns, depth, channels, chip, precision)))


def _rule(kind: str, rows: int, columns: int, depth: int, channels: int, chip: Chip, precision: str) -> Sizes:
    width = max(16, 1 << (columns - 1).bit_length())
    if precision == "float32":
        return _strict(kind, width)
    large = chip.family == "data-centre"
    if kind == "wgrad_rmsprop":
        return 64, 64, 64 if precision == "bf16" else 32, 2, 8
    if kind == "image":
        bn = min(width, 128)
        return 128, bn, 32, 4 if large else 3, 8 if bn == 128 else 4
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
