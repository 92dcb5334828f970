"""Section ``tma``: what descriptors read outside their tensor, and a Triton kernel inside a captured graph.

The products rely on both: zeros outside replace every boundary mask, and a step is one graph. Boxes of axes in another order than in
memory are tried too: ``cuda.h`` does not promise them and no product needs them, but one that is planned may want to know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl

from bench.gpu.common import Options, Report, about, open_engine
from kernels.cuda.device.base import Descriptor
from kernels.ledger import cost

SIZE = 64
PIXELS = ((0, 0), (3, 5), (7, 7), (-1, 4), (4, 8))  # of 8x8: within, and outside


@triton.jit
def copy_box(out, source, first, second, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out [ROWS, COLUMNS] = the box of a matrix that begins at (first, second)."""
    box = source.load([first, second])
    r = tl.arange(0, ROWS)
    c = tl.arange(0, COLUMNS)
    tl.store(out + r[:, None] * COLUMNS + c[None, :], box)


@triton.jit
def copy_image_box(out, source, n, h, v, c, BN: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr):
    """out [BN·BH·BW, BC] = the box of images [N, H, W, C] that begins at (n, h, v, c)."""
    box = tl.reshape(source.load([n, h, v, c]), [BN * BH * BW, BC])
    r = tl.arange(0, BN * BH * BW)
    k = tl.arange(0, BC)
    tl.store(out + r[:, None] * BC + k[None, :], box)


@triton.jit
def copy_pair_box(out, source, n, h, v, c, BN: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr):
    """The same of images seen as pairs of rows and columns, [N, H/2, 2, W/2, 2C]: one of four phases, from pixel (h, v) on."""
    box = source.load([n, h >> 1, h & 1, v >> 1, c])
    r = tl.arange(0, BN * BH * BW)
    k = tl.arange(0, BC)
    tl.store(out + r[:, None] * BC + k[None, :], tl.reshape(box, [BN * BH * BW, BC]))


@triton.jit
def copy_permuted_box(out, source, h, v, n, c, BN: tl.constexpr, BC: tl.constexpr):
    """out [BN, BC] = a box of BN images at one pixel, of images seen as [H, W, N, C]."""
    r = tl.arange(0, BN)
    k = tl.arange(0, BC)
    tl.store(out + r[:, None] * BC + k[None, :], tl.reshape(source.load([h, v, n, c]), [BN, BC]))


@triton.jit
def add_one(x, n, BLOCK: tl.constexpr):
    """x += 1."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, mask=i < n) + 1.0, mask=i < n)


def window(array: np.ndarray, starts: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
    """The box of ``array``, zeros outside."""
    result = np.zeros(sizes, array.dtype)
    inner, outer = [], []
    for start, size, length in zip(starts, sizes, array.shape, strict=True):
        low, high = max(0, start), min(length, start + size)
        inner.append(slice(low, max(low, high)))
        outer.append(slice(low - start, max(low, high) - start))
    result[tuple(outer)] = array[tuple(inner)]
    return result


def matrix_box(engine: Any, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """A 16x32 box of a 64x64 matrix: got and expected."""
    values = np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32)
    source, out = engine.asarray(values), engine.empty((16, 32))
    descriptor = Descriptor(source, [SIZE, SIZE], [SIZE, 1], [16, 32])
    engine.device.triton(
        copy_box, (1,), out, descriptor, first, second, warps=4, stages=1, cost=cost(0, [source], [out]), ROWS=16, COLUMNS=32
    )
    return engine.to_numpy(out), window(values.astype(engine.dtype).astype(np.float32), (first, second), (16, 32))


def image_box(engine: Any, pairs: bool, n: int, h: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """A box of two images of 8x8 pixels and 16 channels, 4x4 positions: got and expected. ``pairs``: every second pixel from (h, v) on."""
    values = np.random.default_rng(2).standard_normal((2, 8, 8, 16)).astype(np.float32)
    source, out = engine.asarray(values), engine.empty((2 * 4 * 4, 16))
    sizes = {"BN": 2, "BH": 4, "BW": 4, "BC": 16}
    exact = values.astype(engine.dtype).astype(np.float32)
    if pairs:
        descriptor = Descriptor(source, [2, 4, 2, 4, 32], [1024, 256, 128, 32, 1], [2, 4, 1, 4, 16])
        kernel, column = copy_pair_box, v % 2 * 16
        expected = window(exact[:, h % 2 :: 2, v % 2 :: 2], (n, h // 2, v // 2, 0), (2, 4, 4, 16))
    else:
        descriptor = Descriptor(source, [2, 8, 8, 16], [1024, 128, 16, 1], [2, 4, 4, 16])
        kernel, column = copy_image_box, 0
        expected = window(exact, (n, h, v, 0), (2, 4, 4, 16))
    engine.device.triton(kernel, (1,), out, descriptor, n, h, v, column, warps=4, stages=1, cost=cost(0, [source], [out]), **sizes)
    return engine.to_numpy(out), expected.reshape(-1, 16)


def pixel_box(engine: Any, h: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """A pixel of sixteen images, as `wgrad_boxes` loads it: images as the rows of a matrix, a pixel as columns, those outside behind its
    end. Of 14 images, so that two rows are zeros, too."""
    source, exact, out = _images(engine, 14)
    size = 8 * 8 * 16
    column = (8 * h + v) * 16 if 0 <= h < 8 and 0 <= v < 8 else size
    descriptor = Descriptor(source, [14, size], [size, 1], [16, 16])
    engine.device.triton(copy_box, (1,), out, descriptor, 0, column, warps=4, stages=1, cost=cost(0, [source], [out]), ROWS=16, COLUMNS=16)
    return engine.to_numpy(out), window(exact, (0, h, v, 0), (16, 1, 1, 16)).reshape(16, 16)


class Permuted(Descriptor):
    """A descriptor of axes in any order, which `Descriptor` refuses."""

    def __post_init__(self) -> None:
        pass


def permuted_box(engine: Any, h: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by a descriptor of [H, W, N, C], whose strides rise and fall."""
    source, exact, out = _images(engine, 14)
    descriptor = Permuted(source, [8, 8, 14, 16], [128, 16, 1024, 1], [1, 1, 16, 16])
    engine.device.triton(
        copy_permuted_box, (1,), out, descriptor, h, v, 0, 0, warps=4, stages=1, cost=cost(0, [source], [out]), BN=16, BC=16
    )
    return engine.to_numpy(out), window(exact, (0, h, v, 0), (16, 1, 1, 16)).reshape(16, 16)


def _images(engine: Any, count: int) -> tuple[Any, np.ndarray, Any]:
    """``count`` images of 8x8 pixels and 16 channels on the device, their values as it has them, and an output [16, 16]."""
    values = np.random.default_rng(3).standard_normal((count, 8, 8, 16)).astype(np.float32)
    return engine.asarray(values), values.astype(engine.dtype).astype(np.float32), engine.empty((16, 16))


def tma_section(options: Options, report: Report) -> None:
    """Boxes inside, before and past the ends of their tensor; then a captured kernel, replayed."""
    engines: list[Any] = []
    for precision in options.precisions[:1] if options.host else ("bf16", "float32"):
        try:
            engine = open_engine(options, precision)
        except (RuntimeError, ValueError) as error:
            report.row(f"{precision}: {error}", label=precision, why=str(error))
            continue
        report.note(about=about(engine))
        if engine.device.chip.tma:
            check_boxes(engine, report)
        else:
            report.row(f"{precision}: {engine.device.chip.name} has no TMA: boxes are not used there", label=precision, skipped=True)
        check_capture(engine, report)
        engines.append(engine)
    for engine in engines[-1:]:
        if engine.device.chip.tma:
            try_permuted(engine, report)
    rows = report.result["rows"]
    report.note(
        summary=[f"{sum(r['ok'] for r in rows)} of {len(rows)} as expected: boxes before, behind and across the ends; a captured kernel"]
    )


def check_boxes(engine: Any, report: Report) -> None:
    starts = ((0, 0), (16, 32), (-3, 0), (0, -8), (-20, 0), (56, 0), (0, 40), (60, 56), (64, 0), (-1, -8), (-7, 48))
    runs = [("matrix", start, lambda start=start: matrix_box(engine, *start)) for start in starts]
    for pairs, name in ((False, "images"), (True, "pairs")):
        corners = ((0, 0, 0), (0, -2, -2), (0, -1, -1), (1, 2, 3), (0, 5, 6), (0, -2, 5), (-1, 0, 0))
        runs += [(name, corner, lambda pairs=pairs, corner=corner: image_box(engine, pairs, *corner)) for corner in corners]
    runs += [("pixel", pixel, lambda pixel=pixel: pixel_box(engine, *pixel)) for pixel in PIXELS]
    for name, start, run in runs:
        label, outside = f"{engine.precision} {name} box at {start}", what_differs(run)
        report.row(f"{label}: {outside or 'as expected'}", ok=not outside, label=label, why=outside)


def try_permuted(engine: Any, report: Report) -> None:
    """Last of all, since what a driver does not promise may end in anything. Whatever it does, nothing failed."""
    for pixel in PIXELS:
        label, found = f"{engine.precision} permuted box at {pixel}", what_differs(lambda pixel=pixel: permuted_box(engine, *pixel))
        report.row(f"{label}, which no product uses: {found or 'as if promised'}", label=label, permuted=found or "as if promised")


def what_differs(run: Any) -> str:
    """What is wrong with the first of the two arrays that ``run`` returns, or with the run; nothing: an empty text."""
    try:
        got, expected = run()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if np.array_equal(got, expected):
        return ""
    return f"{int((got != expected).sum())} of {got.size} elements differ, {int(np.isnan(got).sum())} NaN"


def check_capture(engine: Any, report: Report) -> None:
    """Three calls of a recorded kernel (the last launches a captured graph), and one outside: x must be 4."""
    x = engine.empty((1000,), np.float32)
    engine.put(x, np.zeros(1000, np.float32))

    def body() -> None:
        engine.device.triton(add_one, (4,), x, 1000, warps=4, stages=1, cost=cost(0, [x], [x]), BLOCK=256)

    replay = engine.record(body)
    for _ in range(3):
        replay()
    body()
    engine.synchronize()
    values = engine.to_numpy(x)
    ok = bool((values == 4.0).all())
    label = f"{engine.precision} a Triton kernel in a captured graph"
    report.row(f"{label}: {'as expected' if ok else f'got {np.unique(values)[:5]}, expected 4'}", ok=ok, label=label)
