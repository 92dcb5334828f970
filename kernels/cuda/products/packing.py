"""Launchers of packing.cu: operands of the matrix products in the kernels' order, padded with zeros."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.contract.checks import check_array
from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, check_values, constant, defines_of
from kernels.ledger import cost

FILE = "products/packing.cu"
SIDE = 32  # of the square that a block packs
MODES = {"forward": 0, "dgrad1": 1, "phases": 2, "image": 3, "image_dgrad1": 4, "columns": 5, "columns_dgrad1": 6}

#: Channels that an image may have for kernels.cuda.products.images.
MOST_CHANNELS = 8
KEPT = 1 << 22  # bytes of packed weights at most that `FixedWeights` keeps from one step to the next


class FixedWeights:
    """A context in which weights do not change: what was packed in it once is packed in one launch whenever it is entered again.

    Attributes:
        weights: what was packed, by address, shape and order: (array, weights, mode).
        images: ranges of addresses that do not change now (`unchanged`): each one's number, and what was made of arrays in it.
    """

    def __init__(self, dev: Device):
        self._dev = dev
        self.weights: dict[Any, tuple[Array, Array, str]] = {}
        self.images: dict[tuple[int, int], tuple[int, dict[Any, Any]]] = {}

    def __enter__(self) -> None:
        if self.weights:
            self._pack(tuple(self.weights))
        self._dev.fixed = self

    def __exit__(self, *_: object) -> None:
        self.images.clear()
        self._dev.fixed = None

    def packed(self, shape: tuple[int, ...], w: Array, mode: str) -> Any:
        """w by `pack_weights` in an array of ``shape``."""
        name = self._dev._address(w), w.shape, mode, shape
        if name not in self.weights:
            self.weights[name] = self._dev.empty(shape, w.dtype), w, mode
            self._pack((name,))
        return self.weights[name][0]

    def _pack(self, names: tuple[Any, ...]) -> None:
        dev, words, squares = self._dev, [], []
        chosen = [self.weights[name] for name in names]
        for row, (dst, w, mode) in enumerate(chosen):
            numbers = np.array([MODES[mode], *w.shape, *dst.shape[1:], 0], np.int32).view(np.uint64)
            words.append((dev._address(dst), dev._address(w), *numbers.tolist()))
            x, y = blocks(dst.shape[2], SIDE), blocks(dst.shape[1], SIDE)
            squares += [(row, i, j, tap) for tap in range(len(dst)) for j in range(y) for i in range(x)]
        key = tuple(words)
        table = constant(dev, ("packings", key), lambda: np.array(words, np.uint64))
        places = constant(dev, ("squares of packings", key), lambda: np.array(squares, np.int32))
        dev.cuda(
            FILE, "pack_list", len(squares), THREADS, table, places,
            cost=cost(0, [w for _, w, _ in chosen], [dst for dst, _, _ in chosen]), defines=defines_of(chosen[0][0]),
        )  # fmt: skip


def pixel_channels(channels: int) -> int:
    """Channels of a pixel as `pad_images` and the modes "image" store it: a vector of 8 or 16 bytes in bf16."""
    return 4 if channels <= 4 else MOST_CHANNELS


def packed_weights(dev: Device, key: str, shape: tuple[int, ...], w: Array, mode: str) -> Any:
    """w in an array of ``shape``, by `pack_weights`: scratch of ``key``; within `FixedWeights` one that is packed once a step."""
    kept: FixedWeights | None = dev.fixed
    if kept is not None and math.prod(shape) * w.dtype.itemsize <= KEPT:
        return kept.packed(shape, w, mode)
    dst = dev.scratch(key, shape, w.dtype)
    pack_weights(dev, dst, w, mode=mode)
    return dst


@contextmanager
def unchanged(dev: Device, array: Array) -> Iterator[None]:
    """Within it nobody writes to ``array``; within `FixedWeights` too, `with_border` makes a copy of it, or of a part, once."""
    kept: FixedWeights | None = dev.fixed
    if kept is None:
        yield
        return
    start = dev._address(array)
    span, taken = (start, start + array.nbytes), [number for number, _ in kept.images.values()]
    kept.images[span] = min(set(range(len(taken) + 1)) - set(taken)), {}
    try:
        yield
    finally:
        kept.images.pop(span, None)


def with_border(dev: Device, src: Array, shape: tuple[int, ...], border: int) -> Any:
    """src by `pad_images` in an array of ``shape``."""
    kept: FixedWeights | None = dev.fixed
    start = dev._address(src)
    found = [made for span, made in kept.images.items() if span[0] <= start and start + src.nbytes <= span[1]] if kept else []
    number, made = found[0] if found else ("", {})
    name = start, src.shape, shape, border
    if name not in made:
        made[name] = dev.scratch(f"image.source {number} {len(made)}", shape, src.dtype)
        pad_images(dev, made[name], src, border)
    return made[name]


def pack_weights(dev: Device, dst: Array, w: Array, *, mode: str) -> None:
    """Weights in the order, and padded with zeros to the sizes, that a matmul kernel reads.

    Args:
        dst: [taps, K, N], the engine's dtype; output. k and n index it, t is the tap of w, T = KH·KW.
        w: [KH, KW, Ci, Co], as dst.
        mode: "forward": w[t, k, n]. "dgrad1" (stride 1): w[T−1−t, n, k]. "phases" (fractional stride, 5×5 kernel): taps are 3×3,
            (dh, dw) ∈ −1…1, n = (ph·2 + pw)·Ci + c: w[2+ph−2dh, 2+pw−2dw, c, k]. "image": one tap, k = t·P + ci, where
            P is `pixel_channels` of Ci: w[t, ci, n]. "image_dgrad1": likewise with Co: w[T−1−t, n, co].
            "columns" (at most four Co): t is a kernel row, k = 4·kw + co: w[t, kw, n, co].
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
        "image": (1, kh * kw * pixel_channels(ci), co), "image_dgrad1": (1, kh * kw * pixel_channels(co), ci),
        "columns": (kh, 4 * kw, ci), "columns_dgrad1": (kh, 4 * kw, co),
    }[mode]  # fmt: skip
    check_array("dst", dst, (least[0], *dst.shape[1:]), w.dtype)
    if dst.shape[1] < least[1] or dst.shape[2] < least[2]:
        raise ValueError(f"dst: got shape {dst.shape}, expected at least {least}")
    if mode == "phases" and (kh, kw) != (5, 5):
        raise ValueError(f"w: got a {kh}x{kw} kernel, expected 5x5")
    if mode.startswith("image") and (co if mode == "image_dgrad1" else ci) > MOST_CHANNELS:
        raise ValueError(f"w: got shape {w.shape}, expected at most {MOST_CHANNELS} channels for mode {mode!r}")
    if mode.startswith("columns") and (ci if mode == "columns_dgrad1" else co) > 4:
        raise ValueError(f"w: got shape {w.shape}, expected at most 4 channels for mode {mode!r}")
    taps, rows, columns = dst.shape
    dev.cuda(
        FILE, "pack_weights", (blocks(columns, SIDE), blocks(rows, SIDE), taps), THREADS,
        dst, w, *map(np.int32, (MODES[mode], kh, kw, ci, co, rows, columns)), cost=cost(0, [w], [dst]), defines=defines_of(dst),
    )  # fmt: skip


def pad_images(dev: Device, dst: Array, src: Array, border: int) -> None:
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


def pad_channels(dev: Device, dst: Array, src: Array) -> None:
    """src with zeros appended to its last axis. Args: dst [..., C'], output; src [..., C], C ≤ C', same dtype.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("src", src)
    check_array("dst", dst, (*src.shape[:-1], dst.shape[-1]), src.dtype)
    if dst.shape[-1] < src.shape[-1]:
        raise ValueError(f"dst: got shape {dst.shape}, expected at least {src.shape[-1]} channels")
    _pad(dev, dst, src, (1, 1, dst.shape[-1]), (1, 1, src.shape[-1]), 0)


def _pad(dev: Device, dst: Array, src: Array, large: tuple[int, ...], small: tuple[int, ...], border: int) -> None:
    dev.cuda(
        FILE, "pad", blocks(dst.size, 8 * THREADS), THREADS,
        dst, src, np.int64(dst.size), *map(np.int32, (*large, *small, border)), cost=cost(0, [src], [dst]), defines=defines_of(dst),
    )  # fmt: skip
