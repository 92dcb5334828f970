"""Launches of the convolution kernel: how a convolution becomes one matrix product, how its operands are packed, which tile.

Axis letters: N images, H W rows and columns of the larger image, OH OW of the smaller, KH KW kernel, Ci Co channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, boxes_or_pointers
from kernels.cuda.products import convolve_kernel, partials, tiles
from kernels.cuda.products.epilogue import NOTHING, Epilogue, prepare
from kernels.cuda.products.few_outputs import few_outputs, takes_few_outputs
from kernels.cuda.products.images import image_convolve
from kernels.cuda.products.normed import Normed
from kernels.cuda.products.packing import MOST_CHANNELS, packed_weights, pad_channels
from kernels.cuda.products.splits import DOT
from kernels.cuda.products.time_model import split
from kernels.ledger import cost

#: Kernel rows or columns at most: whether each lies inside the image is a bit of a word.
LARGEST = 31
#: Channels are padded to a multiple of this.
CHANNELS = 16
#: Inputs of a linear layer that 16 does not divide (with attributes appended, say) to a multiple of this: a whole step of any tile.
DEEP = 64
#: Up to this many output channels the four phases of a fractional stride are one product: 44 % more operations, but the source is read
#: for 9 taps and 4 times the columns instead of for 25 taps.
FUSED_COLUMNS = 32
#: Rows of a wgmma instruction, which are columns of a product that is computed transposed.
WGMMA_ROWS = 64
#: Sums of a tile at most that are turned back in one piece.
TURNED_AT_ONCE = 128 * 128


class Lowering(NamedTuple):
    """A convolution as one matrix product.

    Attributes:
        kind: of tile.
        stride, kernel: S, (KH, KW).
        positions: (PH, PW).
        columns: N.
        back, fractional, shuffled: the constexprs of the kernel.
        transposed, flipped: the order of the weights, as given or packed.
        mode: of `pack_weights` where the weights must be packed.
    """

    kind: str
    stride: int
    kernel: tuple[int, int]
    positions: tuple[int, int]
    columns: int
    back: bool = False
    fractional: bool = False
    shuffled: bool = False
    transposed: bool = False
    flipped: bool = False
    mode: str | None = None


@boxes_or_pointers
def convolve(
    dev: Device, precision: str, out: Array, src: Array, w: Array, *, kind: str, stride: int, epilogue: Epilogue = NOTHING,
    normed: Normed | None = None,
) -> None:  # fmt: skip
    """out = conv(src, w) (``kind`` "forward") or its gradient by the input (``kind`` "dgrad"), then ``epilogue``.

    Args:
        out: [N, OH, OW, Co] (forward) or [N, H, W, Ci] (dgrad), output.
        src: [N, H, W, Ci] or [N, OH, OW, Co].
        w: [KH, KW, Ci, Co], of src's dtype.
        normed: how src's values are made of its array's, where `normed.at_load` allows it; or None.

    Raises:
        ValueError: a kernel larger than `LARGEST`.
    """
    if max(w.shape[:2]) > LARGEST:
        raise ValueError(f"w: got a {w.shape[0]}x{w.shape[1]} kernel, expected at most {LARGEST}x{LARGEST}")
    if src.shape[3] <= MOST_CHANNELS and (kind == "forward" or stride == 1) and not _is_linear(out, w):
        return image_convolve(dev, precision, out, src, w, kind=kind, stride=stride, epilogue=epilogue)
    if takes_few_outputs(out, src, w, stride, epilogue):
        return few_outputs(dev, precision, out, src, w, kind=kind, epilogue=epilogue)
    lowering = _lower(dev, precision, out, src, w, kind, stride)
    if src.shape[3] % CHANNELS:
        padded = dev.scratch("convolve.src", (*src.shape[:3], _padded_channels(src.shape[3], lowering.kind == "linear")), src.dtype)
        pad_channels(dev, padded, src)
        src = padded
    _launch(dev, precision, out, src, _packed(dev, w, lowering, src.shape[3]), lowering, epilogue, normed)


def linear_splits(dev: Device, precision: str, rows: int, inputs: int, outputs: int) -> int:
    """Programs among which `convolve` divides the inputs of a linear layer; with more than one, none has a finished tile for statistics."""
    depth = _padded_channels(inputs, True)
    return _splits(dev, precision, rows, outputs, depth, _tile(dev, precision, "linear", rows, outputs, depth, depth))[0]


def _lower(dev: Device, precision: str, out: Array, src: Array, w: Array, kind: str, stride: int) -> Lowering:
    kernel, positions, columns = w.shape[:2], out.shape[1:3], out.shape[3]
    name = "linear" if _is_linear(out, w) else kind
    if kind == "forward":
        # tf32 wgmma reads only operands whose summed axis is contiguous: the packing transposes the weights, and flips them
        packed = precision == "tf32" and dev.chip.tma
        return Lowering(name, stride, kernel, positions, columns, transposed=packed, flipped=packed, mode="dgrad1" if packed else None)
    if stride == 1:
        return Lowering(name, 1, kernel, positions, columns, back=True, transposed=True)
    even = out.shape[1] % 2 == 0 and out.shape[2] % 2 == 0
    if even and kernel == (5, 5) and columns <= FUSED_COLUMNS and precision == "bf16":
        return Lowering("fused", 1, (3, 3), src.shape[1:3], 4 * columns, shuffled=True, mode="phases")
    return Lowering("phases", 1, kernel, src.shape[1:3], columns, back=True, fractional=True, transposed=True)


def _is_linear(out: Array, w: Array) -> bool:
    """Whether a convolution is a linear layer: one tap on one pixel."""
    return out.shape[1:3] == w.shape[:2] == (1, 1)


def _padded_channels(channels: int, linear: bool = False) -> int:
    unit = DEEP if linear and channels > DEEP and channels % CHANNELS else CHANNELS
    return -(-channels // unit) * unit


def _packed(dev: Device, w: Array, lowering: Lowering, channels: int) -> Any:
    """Weights [taps, WR, WC] for a source of ``channels``: w itself where it fits, else packed in scratch.

    A linear layer's w may have fewer channels than the source where a descriptor reads zeros past its end: the copy of a large layer
    would cost as much as the product.
    """
    kh, kw, ci, co = w.shape
    zeros_past_end = lowering.kind == "linear" and dev.chip.tma and dev._address(w) % 16 == 0
    if lowering.mode is None and co * w.dtype.itemsize % 16 == 0 and (zeros_past_end or channels == (co if lowering.transposed else ci)):
        return w.reshape(kh * kw, ci, co)
    taps = lowering.kernel[0] * lowering.kernel[1]
    shape = (taps, lowering.columns, channels) if lowering.transposed else (taps, channels, _padded_channels(lowering.columns))
    return packed_weights(dev, "convolve.w", shape, w, lowering.mode or "forward")


def _launch(
    dev: Device, precision: str, out: Array, src: Array, w: Array, lowering: Lowering, epilogue: Epilogue, normed: Normed | None
) -> None:
    """One launch over packed operands, and what combines its partial results.

    Args:
        out: [N, OH, OW, OC].
        src: [N, SH, SW, SC], SC a multiple of `CHANNELS`.
        w: [taps, WR, WC].
    """
    images, sh, sw, sc = src.shape
    _, oh, ow, oc = out.shape
    (kh, kw), (ph, pw) = lowering.kernel, lowering.positions
    phases = 4 if lowering.fractional else 1
    rows = images * ph * pw
    whole = epilogue.statistics is not None or epilogue.previous is not None
    name = "linear_whole" if whole and lowering.kind == "linear" else lowering.kind
    chosen = _tile(dev, precision, name, rows * phases, lowering.columns, kh * kw * sc, sc)
    boxes = _boxes(dev, precision, src, w, lowering, chosen)
    if boxes is None:
        chosen = chosen._replace(bm=min(chosen.bm, tiles.POINTER_ROWS))
    if normed:
        chosen = tiles.with_more(chosen, chosen.bm * chosen.bk, dev.chip, precision)
    bm, bn, bk, stages, warps = chosen
    nt, tap_steps = -(-lowering.columns // bn), sc // bk
    count, each = _splits(dev, precision, rows, lowering.columns, sc, chosen) if name == "linear" else (1, kh * kw * tap_steps)
    result, bias = out, epilogue.bias
    if count > 1:
        later = epilogue.later and out.dtype == np.float32
        shape = count, *out.shape
        result = partials.later_partials(dev, "later", shape) if later else dev.scratch("convolve.partials", shape, np.float32)
        epilogue = epilogue._replace(bias=None)
    plan = prepare(dev, epilogue, result, images=images, positions=ph * pw, phases=phases, columns=lowering.columns, bm=bm)
    operands = *(boxes or (src, w)), *(normed or (None, None))
    touched = _touched(src, lowering)
    read = [touched, w, *([touched, normed.coefficients] if normed else [])]
    taps = sum(a * b for a in tiles.phase_taps(kh) for b in tiles.phase_taps(kw)) if lowering.fractional else kh * kw
    dev.triton(
        convolve_kernel.convolve, (plan.tiles * nt, phases, count), *operands, plan.row_ranges, *plan.arguments,
        rows, plan.tiles, each,
        PH=ph, PW=pw, OH=oh, OW=ow, OC=oc, SH=sh, SW=sw, SC=sc, WR=w.shape[1], WC=w.shape[2],
        KH=kh, KW=kw, S=lowering.stride, BACK=lowering.back, FRACTIONAL=lowering.fractional, SHUFFLED=lowering.shuffled,
        TRANSPOSED=lowering.transposed, FLIPPED=lowering.flipped, SPLIT=count > 1,
        **plan.constants, BM=bm, BN=bn, BK=bk, TMA=boxes is not None, PARTS=_parts(dev, chosen, precision) if boxes else 0,
        PRECISION=DOT[precision], INTERPRETED=dev.interpreted, DEPENDENT=dev.dependent, warps=warps, stages=stages,
        cost=cost(plan.tiles * nt * taps * tap_steps * 2 * bm * bn * bk, [*read, *plan.reads], plan.writes),
    )  # fmt: skip
    plan.finish()
    if count > 1:
        (partials.reduce_later if later else partials.split_reduce)(dev, out, result, bias)


def _tile(dev: Device, precision: str, kind: str, rows: int, columns: int, depth: int, channels: int) -> tiles.Tile:
    return tiles.tile(kind, rows=rows, columns=columns, depth=depth, channels=channels, chip=dev.chip, precision=precision)


def _splits(dev: Device, precision: str, rows: int, columns: int, depth: int, chosen: tiles.Tile) -> tuple[int, int]:
    """(splits, steps in each) of a linear layer's inputs."""
    return split(tiles.programs(chosen, rows, columns), depth // chosen.bk, chosen, rows * columns, dev.chip, precision)[:2]


def _parts(dev: Device, chosen: tiles.Tile, precision: str) -> int:
    """Parts of a tile's columns where the product of operands that descriptors load is computed transposed; 0 where it is not."""
    if not dev.chip.wgmma or precision == "float32" or chosen.bn < WGMMA_ROWS:
        return 0
    return 2 if chosen.bm * chosen.bn > TURNED_AT_ONCE else 1


def _touched(src: Array, lowering: Lowering) -> int:
    """Bytes of the source that some tap reads: a kernel of one row, with stride 2, passes over every second row."""
    images, sh, sw, sc = src.shape
    rows = lowering.positions[0] if lowering.kernel[0] == 1 else sh
    columns = lowering.positions[1] if lowering.kernel[1] == 1 else sw
    return images * rows * columns * sc * src.dtype.itemsize


def _boxes(
    dev: Device, precision: str, src: Array, w: Array, lowering: Lowering, chosen: tiles.Tile
) -> tuple[Descriptor, Descriptor] | None:
    """Descriptors of source and weights, or None where the chip has no TMA, it cannot address them, or a tile's positions are no box."""
    images, sh, sw, sc = src.shape
    ph, pw = lowering.positions
    bw = min(pw, chosen.bm)
    bh = min(ph, chosen.bm // bw)
    bi = chosen.bm // (bw * bh)
    aligned = all(dev._address(array) % 16 == 0 for array in (src, w))
    if not dev.chip.tma or not aligned or bw & (bw - 1) or bh & (bh - 1) or pw % bw or ph % bh or (bi > 1 and (bh, bw) != (ph, pw)):
        return None
    shape, strides, box = [images, sh, sw, sc], [sh * sw * sc, sw * sc, sc, 1], [bi, bh, bw, chosen.bk]
    if lowering.stride == 2:
        if sh % 2 or sw % 2:
            return None
        shape, box = [images, sh // 2, 2, sw // 2, 2 * sc], [bi, bh, 1, bw, chosen.bk]
        strides = [sh * sw * sc, 2 * sw * sc, sw * sc, 2 * sc, 1]
    taps, wr, wc = w.shape
    columns = chosen.bn // max(1, _parts(dev, chosen, precision))
    w_box = [columns, chosen.bk] if lowering.transposed else [chosen.bk, columns]
    return Descriptor(src, shape, strides, box), Descriptor(w, [taps * wr, wc], [wc, 1], w_box)
