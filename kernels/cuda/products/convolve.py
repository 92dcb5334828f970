"""Launches of `convolve_kernel`: which form a convolution takes, how its operands are brought into shape, which tile.

Axis letters: N images, H W rows and columns of the larger image, OH OW of the smaller, KH KW kernel, Ci Co channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cuda.device.base import Descriptor, Device
from kernels.cuda.products import tiles
from kernels.cuda.products.convolve_kernel import convolve_kernel
from kernels.cuda.products.epilogue import NOTHING, Epilogue, prepare
from kernels.cuda.products.few_outputs import few_outputs, takes_few_outputs
from kernels.cuda.products.images import PIXEL, image_convolve
from kernels.cuda.products.packing import pack_weights, pad_channels
from kernels.cuda.products.partials import split_reduce
from kernels.cuda.products.splits import DOT, splits
from kernels.ledger import cost

#: Kernel rows or columns at most: whether each lies inside the image is a bit of a word.
LARGEST = 31
#: Channels are padded to a multiple of this.
CHANNELS = 16
#: And inputs of a linear layer which that does not divide (attributes behind them, say) to a multiple of this: a whole step of any tile.
DEEP = 64
#: Up to this many output channels the four phases of a fractional stride are one product: 44 % more operations, but the source is read
#: for 9 taps and 4 times the columns instead of for 25 taps.
FUSED_COLUMNS = 32


class Form(NamedTuple):
    """A convolution as `convolve_kernel` sees it.

    Attributes:
        kind: of tile.
        stride, kernel: S, (KH, KW).
        positions: (PH, PW).
        columns: N.
        back, fractional, shuffled: the constexprs.
        transposed, turned: how the weights lie, as they are or packed.
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
    turned: bool = False
    mode: str | None = None


def convolve(dev: Device, precision: str, out: Any, src: Any, w: Any, *, kind: str, stride: int, epilogue: Epilogue = NOTHING) -> None:
    """out = conv(src, w) (``kind`` "forward") or its gradient by the input (``kind`` "dgrad"), then ``epilogue``.

    Args:
        out: [N, OH, OW, Co] (forward) or [N, H, W, Ci] (dgrad), output.
        src: [N, H, W, Ci] or [N, OH, OW, Co].
        w: [KH, KW, Ci, Co], of src's dtype.

    Raises:
        ValueError: a kernel larger than `LARGEST`.
    """
    if max(w.shape[:2]) > LARGEST:
        raise ValueError(f"w: got a {w.shape[0]}x{w.shape[1]} kernel, expected at most {LARGEST}x{LARGEST}")
    if src.shape[3] <= PIXEL and (kind == "forward" or stride == 1) and not _is_linear(out, w):
        return image_convolve(dev, precision, out, src, w, kind=kind, stride=stride, epilogue=epilogue)
    if takes_few_outputs(out, src, w, stride, epilogue):
        return few_outputs(dev, precision, out, src, w, kind=kind, epilogue=epilogue)
    form = _form(dev, precision, out, src, w, kind, stride)
    if src.shape[3] % CHANNELS:
        padded = dev.scratch("convolve.src", (*src.shape[:3], _padded(src.shape[3], form.kind == "linear")), src.dtype)
        pad_channels(dev, padded, src)
        src = padded
    _launch(dev, precision, out, src, _packed(dev, w, form, src.shape[3]), form, epilogue)


def linear_splits(dev: Device, precision: str, rows: int, inputs: int, outputs: int) -> int:
    """Programs among which `convolve` cuts the inputs of a linear layer; more than one leave no tile to take statistics of."""
    depth = _padded(inputs, True)
    return _splits(dev, precision, rows, outputs, depth, _tile(dev, precision, "linear", rows, outputs, depth, depth))[0]


def _form(dev: Device, precision: str, out: Any, src: Any, w: Any, kind: str, stride: int) -> Form:
    kernel, positions, columns = w.shape[:2], out.shape[1:3], out.shape[3]
    name = "linear" if _is_linear(out, w) else kind
    if kind == "forward":
        # tf32 wgmma reads only operands whose summed axis is contiguous: the weights are transposed, which the packing does turned
        turn = precision == "tf32" and dev.chip.tma
        return Form(name, stride, kernel, positions, columns, transposed=turn, turned=turn, mode="dgrad1" if turn else None)
    if stride == 1:
        return Form(name, 1, kernel, positions, columns, back=True, transposed=True)
    even = out.shape[1] % 2 == 0 and out.shape[2] % 2 == 0
    if even and kernel == (5, 5) and columns <= FUSED_COLUMNS and precision == "bf16":
        return Form("fused", 1, (3, 3), src.shape[1:3], 4 * columns, shuffled=True, mode="phases")
    return Form("phases", 1, kernel, src.shape[1:3], columns, back=True, fractional=True, transposed=True)


def _is_linear(out: Any, w: Any) -> bool:
    """Whether a convolution is a linear layer: one tap on one pixel."""
    return out.shape[1:3] == w.shape[:2] == (1, 1)


def _padded(channels: int, linear: bool = False) -> int:
    unit = DEEP if linear and channels > DEEP and channels % CHANNELS else CHANNELS
    return -(-channels // unit) * unit


def _packed(dev: Device, w: Any, form: Form, channels: int) -> Any:
    """Weights [taps, WR, WC] for a source of ``channels``: w itself where it fits, else packed in scratch.

    Of a linear layer w may have fewer channels than the source where a descriptor reads zeros behind them: the copy of a large layer
    would cost as much as the product.
    """
    kh, kw, ci, co = w.shape
    zeros_behind = form.kind == "linear" and dev.chip.tma and dev._address(w) % 16 == 0
    if form.mode is None and co * w.dtype.itemsize % 16 == 0 and (zeros_behind or channels == (co if form.transposed else ci)):
        return w.reshape(kh * kw, ci, co)
    taps = form.kernel[0] * form.kernel[1]
    shape = (taps, form.columns, channels) if form.transposed else (taps, channels, _padded(form.columns))
    packed = dev.scratch("convolve.w", shape, w.dtype)
    pack_weights(dev, packed, w, mode=form.mode or "forward")
    return packed


def _launch(dev: Device, precision: str, out: Any, src: Any, w: Any, form: Form, epilogue: Epilogue) -> None:
    """One `convolve_kernel` over operands in shape, and what combines its partial results.

    Args:
        out: [N, OH, OW, OC].
        src: [N, SH, SW, SC], SC a multiple of `CHANNELS`.
        w: [taps, WR, WC].
    """
    images, sh, sw, sc = src.shape
    _, oh, ow, oc = out.shape
    (kh, kw), (ph, pw) = form.kernel, form.positions
    phases = 4 if form.fractional else 1
    rows = images * ph * pw
    whole = epilogue.statistics is not None or epilogue.previous is not None
    name = "linear_whole" if whole and form.kind == "linear" else form.kind
    chosen = _tile(dev, precision, name, rows * phases, form.columns, kh * kw * sc, sc)
    boxes = _boxes(dev, src, w, form, chosen)
    if boxes is None:
        chosen = chosen._replace(bm=min(chosen.bm, tiles.POINTER_ROWS))
    bm, bn, bk, stages, warps = chosen
    nt, chunks = -(-form.columns // bn), sc // bk
    count, each = _splits(dev, precision, rows, form.columns, sc, chosen) if name == "linear" else (1, kh * kw * chunks)
    result, bias = out, epilogue.bias
    if count > 1:
        result, epilogue = dev.scratch("convolve.partials", (count, *out.shape), np.float32), epilogue._replace(bias=None)
    plan = prepare(dev, epilogue, result, images=images, positions=ph * pw, phases=phases, columns=form.columns, bm=bm)
    taps = sum(a * b for a in _phase_taps(kh) for b in _phase_taps(kw)) if form.fractional else kh * kw
    dev.triton(
        convolve_kernel, (plan.tiles * nt, phases, count), *(boxes or (src, w)), plan.ranges, *plan.arguments, rows, plan.tiles, each,
        PH=ph, PW=pw, OH=oh, OW=ow, OC=oc, SH=sh, SW=sw, SC=sc, WR=w.shape[1], WC=w.shape[2],
        KH=kh, KW=kw, S=form.stride, BACK=form.back, FRACTIONAL=form.fractional, SHUFFLED=form.shuffled,
        TRANSPOSED=form.transposed, TURNED=form.turned, SPLIT=count > 1,
        **plan.constants, BM=bm, BN=bn, BK=bk, TMA=boxes is not None,
        PRECISION=DOT[precision], INTERPRETED=dev.interpreted, warps=warps, stages=stages,
        cost=cost(plan.tiles * nt * taps * chunks * 2 * bm * bn * bk, [_touched(src, form), w, *plan.reads], plan.writes),
    )  # fmt: skip
    plan.finish()
    if count > 1:
        split_reduce(dev, out, result, bias)


def _tile(dev: Device, precision: str, kind: str, rows: int, columns: int, depth: int, channels: int) -> tiles.Tile:
    return tiles.tile(kind, rows=rows, columns=columns, depth=depth, channels=channels, chip=dev.chip, precision=precision)


def _splits(dev: Device, precision: str, rows: int, columns: int, depth: int, chosen: tiles.Tile) -> tuple[int, int]:
    """(splits, steps in each) of a linear layer's inputs."""
    programs, size = tiles.programs(chosen, rows, columns), 2 if precision == "bf16" else 4
    return splits(programs, depth // chosen.bk, chosen, size, rows * columns, dev.chip, precision)


def _phase_taps(kernel: int) -> tuple[int, int]:
    """Kernel rows of the two phases."""
    return (kernel + 1) // 2, kernel // 2


def _touched(src: Any, form: Form) -> int:
    """Bytes of the source that some tap reads: a kernel of one row, with stride 2, passes over every second row."""
    images, sh, sw, sc = src.shape
    rows = form.positions[0] if form.kernel[0] == 1 else sh
    columns = form.positions[1] if form.kernel[1] == 1 else sw
    return images * rows * columns * sc * src.dtype.itemsize


def _boxes(dev: Device, src: Any, w: Any, form: Form, chosen: tiles.Tile) -> tuple[Descriptor, Descriptor] | None:
    """Descriptors of source and weights, or None where the chip has no TMA, it cannot address them, or a tile's positions are no box."""
    images, sh, sw, sc = src.shape
    ph, pw = form.positions
    bw = min(pw, chosen.bm)
    bh = min(ph, chosen.bm // bw)
    bi = chosen.bm // (bw * bh)
    aligned = all(dev._address(array) % 16 == 0 for array in (src, w))
    if not dev.chip.tma or not aligned or bw & (bw - 1) or bh & (bh - 1) or pw % bw or ph % bh or (bi > 1 and (bh, bw) != (ph, pw)):
        return None
    shape, strides, box = [images, sh, sw, sc], [sh * sw * sc, sw * sc, sc, 1], [bi, bh, bw, chosen.bk]
    if form.stride == 2:
        if sh % 2 or sw % 2:
            return None
        shape, box = [images, sh // 2, 2, sw // 2, 2 * sc], [bi, bh, 1, bw, chosen.bk]
        strides = [sh * sw * sc, 2 * sw * sc, sw * sc, 2 * sc, 1]
    taps, wr, wc = w.shape
    w_box = [chosen.bn, chosen.bk] if form.transposed else [chosen.bk, chosen.bn]
    return Descriptor(src, shape, strides, box), Descriptor(w, [taps * wr, wc], [wc, 1], w_box)
