"""Launchers of partials.cu, partial results summed in a fixed order, and packing.cu, matmul operands in the kernels' form.

A matmul's epilogue leaves one partial row a tile: partial [P·T, 2, k·C] float32, for P phases (of a fractional-strided convolution), T
tiles a phase and k column blocks of C channels each. The groups of a batch norm are ranges of tiles, ``tile_starts``: group g has tiles
tile_starts[g] … tile_starts[g + 1] − 1 of every phase. Sums are the same bits at every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from kernels.cuda.device import Device
from kernels.ledger import cost
from kernels.shapes import check_array, check_float

FILE, PACKING = "partials.cu", "packing.cu"
THREADS = 256  # of a block, in every CUDA C file
MODES = {"forward": 0, "dgrad1": 1, "phases": 2, "image": 3, "image_dgrad1": 4, "columns": 5, "columns_dgrad1": 6}

_tables: WeakKeyDictionary[Device, dict[Any, Any]] = WeakKeyDictionary()


def table(dev: Device, key: Any, make: Callable[[], np.ndarray]) -> Any:
    """A small constant array on the device, uploaded at the first use of ``key``."""
    kept = _tables.setdefault(dev, {})
    if key not in kept:
        kept[key] = dev.upload(make())
    return kept[key]


def blocks(work: int, each: int) -> int:
    """Blocks for ``work`` items of which a block takes ``each``."""
    return -(-work // each)


def defines_of(array: Any) -> tuple[str, ...]:
    """The preprocessor names under which act_t is the type of ``array``: bfloat16 or float32."""
    return ("ACT_BF16",) if array.dtype.itemsize == 2 else ()


def check_values(name: str, array: Any, ndim: int | None = None) -> None:
    """Raise `ValueError` unless ``array`` is C-contiguous float32 or bfloat16, the types that a kernel computes with, of ``ndim`` axes."""
    check_float(name, array, ndim)
    if array.dtype.itemsize > 4:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected float32 or bfloat16")


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def channel_layout(channels: int) -> tuple[int, int, int]:
    """(lanes, vector, column blocks): how a block of `THREADS` threads lies along the channels of a row.

    ``vector`` 1 means eight channels a thread, 0 one; ``lanes``, a power of two, are the threads along a row: at most 32, which makes
    512 bytes of bfloat16 and leaves enough blocks where rows are long and few.
    """
    vector = int(channels % 8 == 0)
    units = channels // 8 if vector else channels
    lanes = min(32, power_of_two(units))
    return lanes, vector, blocks(units, lanes)


def split_reduce(dev: Device, out: Any, partials: Any, bias: Any = None) -> None:
    """out = Σ_s partials[s] (+ bias along the last axis), in the order of s.

    Args:
        out: any shape, float32 or the engine's dtype; output.
        partials: float32 [S, *out.shape].
        bias: float32 [out.shape[-1]] or None.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("out", out)
    check_array("partials", partials, (len(partials), *out.shape), np.float32)
    if bias is not None:
        check_array("bias", bias, out.shape[-1:], np.float32)
    dev.cuda(
        FILE, "split_reduce", blocks(out.size, 8 * THREADS), THREADS,
        out, partials, bias, np.int32(len(partials)), np.int64(out.size), np.int64(out.shape[-1]),
        cost=cost(0, [partials] if bias is None else [partials, bias], [out]), defines=defines_of(out),
    )  # fmt: skip


def _reduction(
    dev: Device, partial: Any, tile_starts: tuple[int, ...], channels: int
) -> tuple[Any, int, int, int, int, tuple[int, int], int]:
    """How to sum ``partial``: (starts on the device, phases, column blocks, width, vector; grid, threads).

    With ``vector`` 1 a thread has four channels, else one; ``width`` threads lie along the channels.
    """
    tiles, columns = tile_starts[-1], partial.shape[-1]
    if tile_starts[0] != 0 or any(a >= b for a, b in zip(tile_starts[:-1], tile_starts[1:], strict=True)):
        raise ValueError(f"tile_starts: got {tile_starts}, expected 0 and then larger and larger numbers")
    if len(partial) % tiles or columns % channels:
        raise ValueError(f"partial: got shape {partial.shape}, expected a multiple of {tiles} tiles and of {channels} columns")
    phases, k = len(partial) // tiles, columns // channels
    terms = phases * k * max(b - a for a, b in zip(tile_starts[:-1], tile_starts[1:], strict=True))
    vector = int(channels % 4 == 0)
    lanes = min(256 if vector else 128, power_of_two(blocks(terms, 4)))  # threads that share a channel
    width = max(2 if vector else 8, THREADS // lanes)  # at least 32 bytes of neighbours; at most 2048 channels a block
    starts = table(dev, ("starts", tile_starts), lambda: np.array(tile_starts, np.int32))
    grid = blocks(channels, width * (4 if vector else 1)), len(tile_starts) - 1
    return starts, phases, k, width, vector, grid, width * lanes


def bn_finalise(dev: Device, mean: Any, var: Any, partial: Any, counts: Any, tile_starts: tuple[int, ...], channels: int) -> None:
    """Mean and biased variance of each group from tiles' sums and squares about the tiles' own means (Chan et al. 1979).

    Args:
        mean, var: float32 [G, C], outputs.
        partial: float32 [P·T, 2, k·C].
        counts: float32 [P·T], rows that each tile summed; a tile with 0 is not read.
        tile_starts: G + 1 numbers from 0 to T.
        channels: C.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    groups = len(tile_starts) - 1
    check_array("mean", mean, (groups, channels), np.float32)
    check_array("var", var, (groups, channels), np.float32)
    check_array("partial", partial, (len(partial), 2, partial.shape[-1]), np.float32)
    check_array("counts", counts, (len(partial),), np.float32)
    starts, phases, k, width, vector, grid, threads = _reduction(dev, partial, tile_starts, channels)
    dev.cuda(
        FILE, "bn_finalise", grid, threads,
        mean, var, partial, counts, starts, *map(np.int32, (groups, phases, k, channels, width, vector)),
        cost=cost(0, [partial, counts], [mean, var]),
    )  # fmt: skip


def bn_sums_finalise(dev: Device, sums: Any, partial: Any, tile_starts: tuple[int, ...], channels: int, var: Any, eps: float) -> None:
    """Σ g and Σ g x̂ of each group from the tiles' Σ g and Σ g·(x − mean).

    Args:
        sums: float32 [2, G, C], output; [1, G, C] with var None.
        partial: float32 [P·T, 2, k·C]; with var None [P·T, 1 or 2, k·C], of which the first row counts.
        tile_starts, channels: as in `bn_finalise`.
        var: float32 [G, C], or None where there is no batch norm.
        eps: of the batch norm.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    groups, rows = len(tile_starts) - 1, partial.shape[1]
    check_array("sums", sums, (1 if var is None else 2, groups, channels), np.float32)
    check_array("partial", partial, (len(partial), rows if var is None else 2, partial.shape[-1]), np.float32)
    if var is not None:
        check_array("var", var, (groups, channels), np.float32)
    starts, phases, k, width, vector, grid, threads = _reduction(dev, partial, tile_starts, channels)
    dev.cuda(
        FILE, "bn_sums_finalise", grid, threads,
        sums, partial, starts, var, np.float32(eps), *map(np.int32, (groups, phases, rows, k, channels, width, vector)),
        cost=cost(0, [partial.nbytes // rows if var is None else partial], [sums]),
    )  # fmt: skip


def column_sums(dev: Device, out: Any, matrix: Any) -> None:
    """out[c] = Σ_rows matrix[row, c]. Args: out float32 [C]; matrix [rows, C], float32 or the engine's dtype.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("matrix", matrix, 2)
    rows, channels = matrix.shape
    check_array("out", out, (channels,), np.float32)
    k = 8 if channels % 8 and rows % 8 == 0 else 1  # eight rows as one: vectors for an odd number of channels
    rows, columns = rows // k, channels * k
    lanes, vector, column_blocks = channel_layout(columns)
    step = 4 * THREADS // lanes
    tile_rows = step * min(16, blocks(rows, step * blocks(512, column_blocks)))
    partial = dev.scratch("column_sums", (blocks(rows, tile_rows), 1, columns), np.float32)
    dev.cuda(
        FILE, "column_partials", (len(partial), column_blocks), THREADS,
        partial, matrix, np.int64(rows), np.int64(tile_rows), *map(np.int32, (columns, lanes, vector)),
        cost=cost(0, [matrix], [partial]), defines=defines_of(matrix),
    )  # fmt: skip
    bn_sums_finalise(dev, out.reshape(1, 1, channels), partial, (0, len(partial)), channels, None, 0.0)


def pack_weights(dev: Device, dst: Any, w: Any, *, mode: str) -> None:
    """Weights in the order, and padded with zeros to the sizes, that a matmul kernel reads.

    Args:
        dst: [taps, K, N], the engine's dtype; output. n and k below are its indices, t the tap of w, T = KH·KW.
        w: [KH, KW, Ci, Co], as dst.
        mode: "forward": w[t, k, n]. "dgrad1" (stride 1): w[T−1−t, n, k]. "phases" (fractional stride, 5×5 kernel): taps are 3×3,
            (dh, dw) ∈ −1…1, n = (ph·2 + pw)·Ci + c: w[2+ph−2dh, 2+pw−2dw, c, k]. "image": one tap, K index t·8 + ci: w[t, ci, n].
            "image_dgrad1": likewise w[T−1−t, n, ci]. "columns" (at most four Co): t is a kernel row, k = 4·kw + co: w[t, kw, n, co].
            "columns_dgrad1" (at most four Ci): likewise, k = 4·kw + ci: w[KH−1−t, KW−1−kw, ci, n].

    Raises:
        ValueError: an unknown mode, or a dst that is too small, or of another dtype.
    """
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(MODES)}")
    check_values("w", w, 4)
    check_values("dst", dst, 3)
    kh, kw, ci, co = w.shape
    least = {
        "forward": (kh * kw, ci, co), "dgrad1": (kh * kw, co, ci), "phases": (9, co, 4 * ci),
        "image": (1, 8 * kh * kw, co), "image_dgrad1": (1, 8 * kh * kw, ci),
        "columns": (kh, 4 * kw, ci), "columns_dgrad1": (kh, 4 * kw, co),
    }[mode]  # fmt: skip
    check_array("dst", dst, (least[0], *dst.shape[1:]), w.dtype)
    if dst.shape[1] < least[1] or dst.shape[2] < least[2]:
        raise ValueError(f"dst: got shape {dst.shape}, expected at least {least}")
    if mode == "phases" and (kh, kw) != (5, 5):
        raise ValueError(f"w: got a {kh}x{kw} kernel, expected 5x5")
    if mode.startswith("image") and (co if mode == "image_dgrad1" else ci) > 8:
        raise ValueError(f"w: got shape {w.shape}, expected at most 8 channels for mode {mode!r}")
    if mode.startswith("columns") and (ci if mode == "columns_dgrad1" else co) > 4:
        raise ValueError(f"w: got shape {w.shape}, expected at most 4 channels for mode {mode!r}")
    taps, rows, columns = dst.shape
    dev.cuda(
        PACKING, "pack_weights", (blocks(columns, 32), blocks(rows, 32), taps), THREADS,
        dst, w, *map(np.int32, (MODES[mode], kh, kw, ci, co, rows, columns)), cost=cost(0, [w], [dst]), defines=defines_of(dst),
    )  # fmt: skip


def pad_images(dev: Device, dst: Any, src: Any, border: int) -> None:
    """src with ``border`` zeros above and to the left of it, and zeros up to dst's size on the other sides and channels.

    Args:
        dst: [N, H', W', C'], output, at least the size of src and the border.
        src: [N, H, W, C], as dst.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("src", src, 4)
    check_values("dst", dst, 4)
    n, h, w, c = src.shape
    check_array("dst", dst, (n, *dst.shape[1:]), src.dtype)
    if border < 0 or dst.shape[1] < h + border or dst.shape[2] < w + border or dst.shape[3] < c:
        raise ValueError(f"dst: got shape {dst.shape}, expected at least {(n, h + border, w + border, c)}")
    _pad(dev, dst, src, dst.shape[1:], src.shape[1:], border)


def pad_channels(dev: Device, dst: Any, src: Any) -> None:
    """src with zeros behind its last axis. Args: dst [..., C'], output; src [..., C], C ≤ C', same dtype.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("src", src)
    check_array("dst", dst, (*src.shape[:-1], dst.shape[-1]), src.dtype)
    if dst.shape[-1] < src.shape[-1]:
        raise ValueError(f"dst: got shape {dst.shape}, expected at least {src.shape[-1]} channels")
    _pad(dev, dst, src, (1, 1, dst.shape[-1]), (1, 1, src.shape[-1]), 0)


def _pad(dev: Device, dst: Any, src: Any, large: tuple[int, ...], small: tuple[int, ...], border: int) -> None:
    dev.cuda(
        PACKING, "pad", blocks(dst.size, 8 * THREADS), THREADS,
        dst, src, np.int64(dst.size), *map(np.int32, (*large, *small, border)), cost=cost(0, [src], [dst]), defines=defines_of(dst),
    )  # fmt: skip
