"""Launches of the weight gradients: which kernel, which tile, how many splits.

Axis letters: N images, H W rows and columns of x, OH OW of dy, KH KW kernel, Ci Co channels, I inputs, O outputs of a linear layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, boxes_or_pointers
from kernels.cuda.products import wgrad_kernel
from kernels.cuda.products.images import image_wgrad, takes_image_wgrad
from kernels.cuda.products.normed import Normed
from kernels.cuda.products.packing import pad_channels
from kernels.cuda.products.partials import column_sums
from kernels.cuda.products.splits import LONG, launch_splits
from kernels.cuda.products.tiles import Tile, wgrad_tile, with_more

#: Channels in memory are a multiple of this: 16 bytes of bf16, what one thread or a descriptor moves.
VECTOR = 8
#: Images in a box may exceed the batch by this much: what lies outside is multiplied as zero.
WASTE = 1.125
#: Units of one program of `wgrad_boxes` at most.
UNITS = 3


@boxes_or_pointers
def wgrad(
    dev: Device, precision: str, dw: Array, x: Array, dy: Array, *, stride: int, dbias: Array = None,
    normed: Normed | None = None, of_x: bool = False,
) -> None:  # fmt: skip
    """dw[kh, kw, ci, co] = Σ_{n, i, j} x[n, i·s + kh − p, j·s + kw − p, ci] · dy[n, i, j, co];  dbias[co] = Σ_{n, i, j} dy[n, i, j, co].

    Accumulated in float32 in a fixed order: equal bits in every run.

    Args:
        dw: [KH, KW, Ci, Co] float32, output.
        x: [N, H, W, Ci].
        dy: [N, OH, OW, Co], of x's dtype.
        dbias: [Co] float32, output, or None.
        normed: how dy's values, or with ``of_x`` x's, are made of its array's, where `normed.at_load` allows it; or None.
    """
    ci, co = dw.shape[2:]
    if dbias is not None:
        column_sums(dev, dbias, dy.reshape(-1, co))
    if takes_image_wgrad(ci, co, stride):
        return image_wgrad(dev, precision, dw, x, dy, stride=stride)
    _by_boxes_or_pointers(dev, precision, dw, _aligned(dev, "wgrad.x", x), _aligned(dev, "wgrad.dy", dy), stride, normed, of_x)


@boxes_or_pointers
def linear_wgrad(dev: Device, precision: str, dw: Array, x: Array, dy: Array, *, dbias: Array = None) -> None:
    """dw = xᵀ · dy, dbias = Σ_n dy. Args: dw [I, O] float32, output; x [N, I]; dy [N, O]; dbias [O] float32, output, or None."""
    if dbias is not None:
        column_sums(dev, dbias, dy)
    (images, inputs), outputs = x.shape, dy.shape[1]
    x, dy = _aligned(dev, "wgrad.x", x.reshape(images, 1, 1, inputs)), dy.reshape(images, 1, 1, outputs)
    _by_boxes_or_pointers(dev, precision, dw.reshape(1, 1, inputs, outputs), x, dy, 1)


def _aligned(dev: Device, key: str, array: Array) -> Any:
    """``array`` with its channels padded to a multiple of `VECTOR`."""
    channels = array.shape[3]
    if channels % VECTOR == 0:
        return array
    wide = dev.scratch(key, (*array.shape[:3], -(-channels // VECTOR) * VECTOR), array.dtype)
    pad_channels(dev, wide, array)
    return wide


class Boxes(NamedTuple):
    """How `wgrad_boxes` divides its operands: ``unit`` channels of x, or with ``pair`` of two taps; ``images`` in a box."""

    unit: int
    pair: bool
    images: int


def fit_boxes(x: Array, dy: Array, kernel: int, stride: int, bm: int, bk: int) -> Boxes | None:
    """The boxes of a program of at most ``bm`` rows and ``bk`` images a step, or None where tensor descriptors cannot serve.

    ``kernel`` is its columns of taps. Descriptors need pixels of 16 bytes; boxes need channels that a unit divides, or with stride 2 an
    even width, and a batch that they nearly divide.
    """
    images, _, width, channels = x.shape
    if channels % VECTOR or dy.shape[3] % VECTOR:
        return None
    # with boxes shorter than half a step, a step's waiting would cost more than its work
    bk = next((b for b in (bk, bk // 2) if -(-images // b) * b <= WASTE * images), 0)
    if not bk:
        return None
    if stride == 2 and kernel > 1 and width % 2 == 0 and 2 * channels == 64 <= bm:
        return Boxes(64, True, bk)
    unit = next((u for u in (128, 64) if channels % u == 0 and u <= bm), 0)
    return Boxes(unit, False, bk) if unit else None


def _by_boxes_or_pointers(
    dev: Device, precision: str, dw: Array, x: Array, dy: Array, stride: int, normed: Normed | None = None, of_x: bool = False
) -> None:
    """Boxes where tensor descriptors serve, else pointers. x and dy may have more channels than dw: zeros."""
    rows = dw.shape[0] * dw.shape[1] * x.shape[3]
    shape = {"rows": rows, "columns": dy.shape[3], "depth": dy.size // dy.shape[3], "channels": x.shape[3]}
    if dev.chip.tma:
        chosen = wgrad_tile("wgrad_boxes", **shape, chip=dev.chip, precision=precision)
        boxes = fit_boxes(x, dy, dw.shape[1], stride, chosen.bm, chosen.bk)
        if boxes:
            return _by_boxes(dev, precision, dw, x, dy, stride, chosen, boxes)
    _by_pointers(dev, precision, dw, x, dy, stride, wgrad_tile("wgrad", **shape, chip=dev.chip, precision=precision), normed, of_x)


def _by_boxes(dev: Device, precision: str, dw: Array, x: Array, dy: Array, stride: int, chosen: Tile, boxes: Boxes) -> None:
    """`wgrad_boxes`: x and dy as matrices with a row for each image."""
    images, height, width, xc = x.shape
    oh, ow, yc = dy.shape[1:]
    kh, kw, ci, co = dw.shape
    bm, bn, _, stages, warps = chosen
    unit, pair, bk = boxes
    units = min(UNITS, bm // unit)
    pairs = (kw // 2 + 1) // 2 + kw // 4 + 1  # of columns that begin even, from the one that holds the leftmost tap on
    count = kh * pairs if pair else kh * kw * (xc // unit)
    x_boxes = Descriptor(x, [images, height * width * xc], [height * width * xc, 1], [bk, unit])
    dy_boxes = Descriptor(dy, [images, oh * ow * yc], [oh * ow * yc, 1], [bk, bn])
    grid, steps = (-(-count // units), -(-yc // bn)), oh * ow * -(-images // bk)
    launch_splits(
        dev, precision, wgrad_kernel.wgrad_boxes, grid, dw, (x_boxes, dy_boxes, steps), (_touched(x, dw, dy, stride), dy.nbytes), steps,
        Tile(units * unit, bn, bk, stages, warps),
        H=height, W=width, XC=xc, OH=oh, OW=ow, YC=yc, KH=kh, KW=kw, CI=ci, CO=co, S=stride, BM=unit, BN=bn, BK=bk, UNITS=units, PAIR=pair,
    )  # fmt: skip


def _by_pointers(
    dev: Device, precision: str, dw: Array, x: Array, dy: Array, stride: int, chosen: Tile, normed: Normed | None, of_x: bool
) -> None:
    """`wgrad_pointers`: any sizes, any chip."""
    _, height, width, xc = x.shape
    oh, ow, yc = dy.shape[1:]
    kh, kw, ci, co = dw.shape
    bm, bn, bk, _, _ = chosen
    if normed:
        chosen = with_more(chosen, (bm if of_x else bn) * bk, dev.chip, precision)
    positions, read = dy.size // yc, (_touched(x, dw, dy, stride), dy.nbytes)
    grid = (-(-kh * kw * xc // bm), -(-yc // bn))
    launch_splits(
        dev, precision, wgrad_kernel.wgrad_pointers, grid, dw, (x, dy, *(normed or (None, None)), positions),
        (*read, *([read[not of_x], normed.coefficients.nbytes] if normed else [])), -(-positions // bk), chosen,
        H=height, W=width, XC=xc, OH=oh, OW=ow, YC=yc, KH=kh, KW=kw, CI=ci, CO=co, S=stride, BM=bm, BN=bn, BK=bk,
        LONG=max(x.size, dy.size) >= LONG, OF_X=normed is not None and of_x,
    )  # fmt: skip


def _touched(x: Array, dw: Array, dy: Array, stride: int) -> int:
    """Bytes of x under some tap: a kernel of one row, with stride 2, passes over every second row."""
    rows, columns = (dy.shape[a] if dw.shape[a - 1] < stride else x.shape[a] for a in (1, 2))
    return len(x) * rows * columns * x.shape[3] * x.dtype.itemsize
