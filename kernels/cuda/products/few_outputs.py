"""Launches of the convolutions with stride 1 into at most four channels: images out of features, forward or as a gradient.

Axis letters: N images, H W rows and columns, KH KW kernel, Ci Co channels.
"""

from __future__ import annotations

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, boxes_or_pointers
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.launch import power_of_two
from kernels.cuda.products import few_outputs_kernel, tiles
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.packing import packed_weights
from kernels.cuda.products.splits import DOT
from kernels.cuda.products.tiles import Tile
from kernels.ledger import cost

#: Output channels at most.
MOST_OUTPUTS = few_outputs_kernel.MOST_OUTPUTS.value
#: Image columns at most: a tile holds whole rows. Kernel columns at most, and the divisor of the source's channels.
WIDEST, WIDEST_KERNEL, CHANNELS = 128, 8, 16


def takes_few_outputs(out: Array, src: Array, w: Array, stride: int, epilogue: Epilogue) -> bool:
    """Whether `few_outputs` serves a convolution or its gradient by the input."""
    width, channels = out.shape[2:]
    return (
        stride == 1
        and channels <= MOST_OUTPUTS
        and src.shape[3] % CHANNELS == 0
        and width <= WIDEST
        and width & (width - 1) == 0
        and 1 < w.shape[1] <= WIDEST_KERNEL
        and epilogue.statistics is None
        and epilogue.previous is None
    )


@boxes_or_pointers
def few_outputs(dev: Device, precision: str, out: Array, src: Array, w: Array, *, kind: str, epilogue: Epilogue) -> None:
    """out = conv(src, w), or with kind "dgrad" its transpose, then bias and activation; stride 1.

    Args:
        out: [N, H, W, c], output, c ≤ 4: c is Co, or for the dgrad Ci. W a power of two, at most 128.
        src: [N, H, W, C], C a multiple of 16: C is Ci, or for the dgrad Co.
        w: [KH, KW, Ci, Co], of src's dtype, KW from 2 to 8.
        kind: "forward" or "dgrad".
        epilogue: with neither statistics nor a previous layer.

    Raises:
        ValueError: what `takes_few_outputs` refuses.
    """
    if not takes_few_outputs(out, src, w, 1, epilogue):
        raise ValueError(f"out, src, w: got shapes {out.shape}, {src.shape}, {w.shape}, which this kernel does not take")
    images, height, width, channels = out.shape
    kh, kw = w.shape[:2]
    depth = src.shape[3]
    columns = MOST_OUTPUTS * power_of_two(kw)
    weights = packed_weights(dev, "few_outputs.weights", (kh, columns, depth), w, "columns" if kind == "forward" else "columns_dgrad1")
    rows = images * height * width
    chosen = _tile(dev.chip, precision, rows, columns, kh, depth, width)
    programs = tiles.programs(chosen, rows, columns)
    boxes = _boxes(dev, src, weights, chosen)
    bias = epilogue.bias
    dev.triton(
        few_outputs_kernel.few_outputs, (programs,), *(boxes or (src, weights)), out, bias, rows, warps=chosen.warps, stages=chosen.stages,
        cost=cost(programs * 2 * chosen.bm * columns * kh * depth, [src, weights, 0 if bias is None else bias], [out]),
        H=height, W=width, SC=depth, CO=channels, KH=kh, KW=kw, ACTIVATION=epilogue.activation,
        BM=chosen.bm, BN=columns, BK=chosen.bk, TMA=boxes is not None, PRECISION=DOT[precision],
        INTERPRETED=dev.interpreted, DEPENDENT=dev.dependent,
    )  # fmt: skip


def _tile(chip: Chip, precision: str, rows: int, columns: int, kernel: int, channels: int, width: int) -> Tile:
    """The tuner's tile, where it has whole image rows, all columns and a depth that divides the channels; else the rule's.

    Chosen from compiled code: with four warps, the kernel's columns lie in a thread's registers, so that their sum crosses no warp.
    Longer tiles spread the address arithmetic over more products, where registers allow it. None was timed.
    """
    if precision == "float32":
        bm = max(64, width)
        bk = 16 if bm == 64 or chip.tma else 32  # the other way spills
    else:
        long = precision == "bf16" and chip.tma and chip.family == "data-centre" and rows >= 256 * 2 * chip.multiprocessors
        bm = 256 if long else 128
        bk = 32 if precision == "tf32" or chip.family == "consumer" else 64
    while channels % bk:
        bk //= 2
    default = Tile(bm, columns, bk, 3, 4)
    name = tiles.key("few_outputs", rows, columns, kernel * channels, chip, precision)
    tuned = tiles.tuned(name)
    fits = tuned is not None and tuned.bm % width == 0 and tuned.bn == columns and channels % tuned.bk == 0
    return tiles.used(name, tuned if tuned is not None and fits else default)


def _boxes(dev: Device, src: Array, w: Array, chosen: Tile) -> tuple[Descriptor, Descriptor] | None:
    """Descriptors of source and weights, or None where the chip has no TMA or a tile is no box of whole rows or whole images."""
    images, height, width, channels = src.shape
    kh, columns, _ = w.shape
    bh = min(height, chosen.bm // width)
    bi = chosen.bm // (bh * width)
    if not dev.chip.tma or bh & (bh - 1) or height % bh or bi * bh * width != chosen.bm:
        return None
    shape, strides = [images, height, width, channels], [height * width * channels, width * channels, channels, 1]
    return (
        Descriptor(src, shape, strides, [bi, bh, width, chosen.bk]),
        Descriptor(w, [kh * columns, channels], [channels, 1], [columns, chosen.bk]),
    )
