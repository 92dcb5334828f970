"""The checks of the CUDA C kernels that serve the products: sums of partial results, packed weights, padded images; NumPy has formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from kernel_check import Case
from kernel_draw import Draw, Slot
from kernel_shapes import EPS

Built = tuple[tuple[Any, ...], dict[str, Any]]
# phases, first tiles of the groups, column blocks, channels, rows of a tile (0 to this many)
REDUCTIONS = [
    (1, (0, 1), 1, 1, 3), (1, (0, 3, 4), 1, 24, 9), (4, (0, 2, 7), 1, 13, 5), (1, (0, 5), 4, 32, 4), (4, (0, 1, 2, 5), 2, 3, 6),
    (1, (0, 700), 1, 3, 2), (1, (0, 2), 1, 2056, 2),
]  # fmt: skip
PACKED = [
    ("forward", (5, 5, 3, 10), (25, 16, 16)), ("forward", (1, 1, 7, 3), (1, 7, 3)), ("forward", (3, 1, 2, 2), (3, 4, 8)),
    ("dgrad1", (5, 5, 3, 10), (25, 16, 16)), ("dgrad1", (3, 3, 9, 1), (9, 1, 9)), ("phases", (5, 5, 3, 10), (9, 16, 16)),
    ("phases", (5, 5, 4, 16), (9, 16, 16)), ("image", (5, 5, 3, 10), (1, 128, 16)), ("image", (3, 3, 8, 5), (1, 72, 5)),
    ("image", (3, 3, 4, 5), (1, 36, 5)), ("image", (3, 3, 5, 5), (1, 80, 8)),  # the last channel of a pixel, and one more
    ("image_dgrad1", (5, 5, 10, 3), (1, 128, 16)), ("image_dgrad1", (3, 3, 10, 5), (1, 72, 10)), ("image_dgrad1", (1, 1, 2, 1), (1, 16, 8)),
    ("columns", (3, 5, 18, 3), (3, 32, 20)), ("columns_dgrad1", (3, 5, 3, 18), (3, 32, 20)),
]  # fmt: skip
PADDED = [((1, 1, 1, 1), 0, (1, 1, 1)), ((2, 5, 3, 3), 2, (9, 7, 8)), ((3, 4, 4, 3), 2, (9, 8, 8)), ((3, 4, 4, 3), 2, (9, 7, 4)),
          ((2, 3, 3, 5), 1, (5, 5, 5)), ((1, 30, 30, 8), 2, (34, 35, 8))]  # fmt: skip


def on_device(module: str, function: str) -> Callable[..., None]:
    """Calls a launcher of kernels.cuda.products with the engine's device."""

    def call(engine: Any, *args: Any, **options: Any) -> None:
        from kernels.cuda.products import packing, partials

        getattr({"packing": packing, "partials": partials}[module], function)(engine.device, *args, **options)

    return call


def part_cases() -> Iterator[Case]:
    def part(function: str, label: str, build: Any, formula: Any, terms: int = 1, module: str = "partials") -> Case:
        return Case(function, label, build, terms, on_device(module, function), formula)

    for shape, splits in (((1, 1), 1), ((3, 8), 5), ((7, 9), 3), ((5, 5, 3, 264), 8), ((3000,), 2), ((5, 8), 40), ((3, 5), 70)):
        for role in ("act", "wide"):
            for bias in (False, True):
                yield part(
                    "split_reduce", f"{splits} of {shape}, {role}, bias {bias}",
                    lambda d, s=shape, n=splits, role=role, bias=bias: (
                        (d.out(*s, role=role), d.wide(n, *s), d.wide(s[-1]) if bias else None), {},
                    ),
                    split_reduce, splits,
                )  # fmt: skip
    for reduction in REDUCTIONS:
        for mean in (0.0, 1e3):
            yield part("bn_finalise", f"{reduction}, mean {mean:g}", lambda d, a=(*reduction, mean): finalise(d, *a), bn_finalise)
        terms = reduction[0] * reduction[1][-1] * reduction[2]
        yield part("bn_sums_finalise", f"{reduction}", lambda d, a=reduction[:4]: sums(d, *a), bn_sums_finalise, terms)
    yield part("split_reduce", "40000 terms of one sign", many_terms, split_reduce)  # a plain float32 sum is off by more than 1e-5
    for shape in ((1, 1), (1000, 3), (1001, 3), (77, 128), (3, 2056), (5, 300), (2600, 8)):
        yield part(
            "column_sums", str(shape), lambda d, s=shape: ((d.out(s[1], role="wide"), d.act(*s)), {}),
            lambda out, matrix: np.sum(matrix, axis=0, out=out), 30 * shape[0],
        )  # fmt: skip
    for mode, w, shape in PACKED:
        yield part(
            "pack_weights", f"{mode} {w} to {shape}", lambda d, m=mode, w=w, s=shape: ((exact(d, *s), d.act(*w)), {"mode": m}),
            pack_weights, module="packing",
        )  # fmt: skip
    for shape, border, large in PADDED:
        yield part(
            "pad_images", f"{shape} to {large}", lambda d, s=shape, b=border, to=large: ((exact(d, s[0], *to), d.act(*s), b), {}),
            pad_images, module="packing",
        )  # fmt: skip
    for shape, channels in (((1, 1), 1), ((7, 3), 16), ((2, 3, 5, 24), 32), ((300, 20), 32)):
        yield part(
            "pad_channels", f"{shape} to {channels}", lambda d, s=shape, c=channels: ((exact(d, *s[:-1], c), d.act(*s)), {}), pad_channels,
            module="packing",
        )  # fmt: skip


def exact(d: Draw, *shape: int) -> Slot:
    return d.out(*shape, kind="exact")


def split_reduce(out: Any, parts: Any, bias: Any) -> None:
    out[...] = parts.sum(axis=0) + (0.0 if bias is None else bias)


def finalise(d: Draw, phases: int, starts: tuple[int, ...], k: int, channels: int, most: int, mean: float) -> Built:
    """Sums and squares of random tiles; a tile without rows, whose NaN must not be looked at."""
    tiles, groups = phases * starts[-1], len(starts) - 1
    counts = d.rng.integers(1, most + 1, tiles)
    if phases * (starts[1] - starts[0]) > 1:
        counts[0] = 0  # a phase without positions
    rows = [mean + d.rng.standard_normal((n, k * channels)) for n in counts]
    partial = [(r.sum(axis=0), ((r - r.mean(axis=0)) ** 2).sum(axis=0)) if len(r) else np.full((2, k * channels), np.nan) for r in rows]
    outputs = d.out(groups, channels, role="wide"), d.out(groups, channels, role="wide", kind="loose")
    return (*outputs, d.given(np.array(partial), "wide"), d.given(counts, "wide"), starts, channels), {}


def tiles_of(partial: Any, starts: tuple[int, ...], channels: int) -> list[Any]:
    """For each group its tiles in all phases, [tiles, rows, column blocks, C]."""
    phases = len(partial) // starts[-1]
    whole = partial.reshape(phases, starts[-1], partial.shape[1], -1, channels)
    return [whole[:, a:b].reshape(-1, *whole.shape[2:]) for a, b in zip(starts, starts[1:], strict=False)]


def bn_finalise(mean: Any, var: Any, partial: Any, counts: Any, starts: tuple[int, ...], channels: int) -> None:
    n = np.broadcast_to(counts[:, None, None], (len(counts), 1, partial.shape[2]))
    for g, (tile, rows) in enumerate(zip(tiles_of(partial, starts, channels), tiles_of(n, starts, channels), strict=True)):
        (total, squares), rows = np.moveaxis(tile[rows[:, 0, 0, 0] > 0], 1, 0), rows[rows[:, 0, 0, 0] > 0, 0]
        mean[g] = total.sum(axis=(0, 1)) / rows.sum(axis=(0, 1))
        var[g] = (squares + rows * (total / rows - mean[g]) ** 2).sum(axis=(0, 1)) / rows.sum(axis=(0, 1))


def sums(d: Draw, phases: int, starts: tuple[int, ...], k: int, channels: int) -> Built:
    groups = len(starts) - 1
    partial, var = d.wide(phases * starts[-1], 2, k * channels), d.given(0.3 + d.rng.random((groups, channels)), "wide")
    return (d.out(2, groups, channels, role="wide"), partial, starts, channels, var, EPS), {}


def many_terms(d: Draw) -> Built:
    values = 1.0 + d.rng.random((40_000, 1))
    values[0] = 1e6
    return (d.out(1, role="wide"), d.given(values, "wide"), None), {}


def bn_sums_finalise(out: Any, partial: Any, starts: tuple[int, ...], channels: int, var: Any, eps: float) -> None:
    for g, tile in enumerate(tiles_of(partial, starts, channels)):
        found = tile.sum(axis=(0, 2))
        out[0, g], out[1, g] = found[0], found[1] / np.sqrt(var[g] + eps)


def pack_weights(dst: Any, w: Any, *, mode: str) -> None:
    """What the kernel does, element by element."""
    kh, kw, ci, co = w.shape
    flat = w.reshape(kh * kw, ci, co)
    turned = flat[::-1].transpose(0, 2, 1)
    dst[...] = 0.0
    if mode in ("forward", "dgrad1"):
        source = flat if mode == "forward" else turned
        dst[:, : source.shape[1], : source.shape[2]] = source
    elif mode == "phases":
        for dh, dw in np.ndindex(3, 3):
            for ph, pw in np.ndindex(2, 2):
                h, v = 2 + ph - 2 * (dh - 1), 2 + pw - 2 * (dw - 1)
                if 0 <= h < 5 and 0 <= v < 5:
                    first = (ph * 2 + pw) * ci
                    dst[dh * 3 + dw, :co, first : first + ci] = w[h, v].T
    elif mode.startswith("columns"):  # rows (kernel column, channel), four channels a column
        source = (flat if mode == "columns" else turned).reshape(kh, kw, -1, ci if mode == "columns_dgrad1" else co)
        for row, column, channel in np.ndindex(kh, kw, source.shape[3]):
            dst[row, 4 * column + channel, : source.shape[2]] = source[row, column, :, channel]
    else:
        source = flat if mode == "image" else turned
        pixel = 4 if source.shape[1] <= 4 else 8
        for tap, channel in np.ndindex(source.shape[:2]):
            dst[0, tap * pixel + channel, : source.shape[2]] = source[tap, channel]


def pad_images(dst: Any, src: Any, border: int) -> None:
    dst[...] = 0.0
    dst[:, border : border + src.shape[1], border : border + src.shape[2], : src.shape[3]] = src


def pad_channels(dst: Any, src: Any) -> None:
    dst[...] = 0.0
    dst[..., : src.shape[-1]] = src
