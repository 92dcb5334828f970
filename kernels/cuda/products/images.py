"""Launches of the convolutions of images with few channels: forward, the data gradient, and the weight gradient.

The images are first copied into a buffer with a border of zeros and 4 or 8 channels a pixel (kernels.cuda.products.images_kernel).

Axis letters: N images, H W rows and columns, OH OW of the output, KH KW kernel, T = KH·KW taps, Ci Co channels.
"""

from __future__ import annotations

from typing import Any

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.products import images_kernel
from kernels.cuda.products.epilogue import NOTHING, Epilogue, prepare
from kernels.cuda.products.packing import MOST_CHANNELS, packed_weights, pixel_channels, with_border
from kernels.cuda.products.splits import DOT, LONG, covered, launch_splits
from kernels.cuda.products.tiles import wgrad_tile
from kernels.ledger import cost


def image_convolve(
    dev: Device, precision: str, out: Array, src: Array, w: Array, *, kind: str, stride: int, epilogue: Epilogue = NOTHING
) -> None:  # fmt: skip
    """out = conv(src, w), or with kind "dgrad" and stride 1 its transpose: the convolution with the flipped kernel.

    Args:
        kind: "forward" or "dgrad".
        out: [N, OH, OW, C], output: C is Co, or for the dgrad Ci.
        src: [N, H, W, c] with c ≤ 8: c is Ci, or for the dgrad Co.
        w: [KH, KW, Ci, Co], of src's dtype.
        epilogue: what happens to the result on its way to memory.

    Raises:
        ValueError: a dgrad with another stride, or too many channels.
    """
    if src.shape[3] > MOST_CHANNELS or (kind == "dgrad" and stride != 1):
        raise ValueError(
            f"src: got shape {src.shape}, {kind}, stride {stride}, expected at most {MOST_CHANNELS} channels, and stride 1 for a dgrad"
        )
    kh, kw = w.shape[:2]
    pixel = pixel_channels(src.shape[3])
    depth = kh * kw * pixel
    images, oh, ow, columns = out.shape
    bm, bn, bk, stages, warps = wgrad_tile(
        "image", rows=images * oh * ow, columns=columns, depth=depth, channels=pixel, chip=dev.chip, precision=precision
    )
    k, padded = -(-depth // bk) * bk, -(-columns // bn) * bn
    weights = packed_weights(dev, "image.weights", (1, k, padded), w, "image" if kind == "forward" else "image_dgrad1")
    plan = prepare(dev, epilogue, out, images=images, positions=oh * ow, phases=1, columns=columns, bm=bm)
    buffer, first = _with_border(dev, src, kh, kw)
    read = images * covered(oh, kh, stride) * covered(ow, kw, stride) * pixel * src.dtype.itemsize
    programs = plan.tiles * (padded // bn)
    dev.triton(
        images_kernel.image_convolve, (programs,), buffer, weights, plan.row_ranges, images * oh * ow, *plan.arguments,
        warps=warps, stages=stages,
        cost=cost(programs * 2 * bm * bn * k, [read, weights, *plan.reads], plan.writes),
        FIRST=first, PH=buffer.shape[1], PW=buffer.shape[2], PIXEL=pixel, OH=oh, OW=ow, KH=kh, KW=kw, S=stride, K=k, COLUMNS=padded,
        **plan.constants, BM=bm, BN=bn, BK=bk, LONG=buffer.size >= LONG, PRECISION=DOT[precision], INTERPRETED=dev.interpreted,
        DEPENDENT=dev.dependent,
    )  # fmt: skip
    plan.finish()


def takes_image_wgrad(ci: int, co: int, stride: int) -> bool:
    """Whether `image_wgrad` serves a kernel of ``ci`` and ``co`` channels: x is an image, or dy is one and the stride 1."""
    return ci <= MOST_CHANNELS or (co <= MOST_CHANNELS and stride == 1)


def image_wgrad(dev: Device, precision: str, dw: Array, x: Array, dy: Array, *, stride: int) -> None:
    """dw[kh, kw, ci, co] = Σ_{n, i, j} x[n, i·s + kh − p, j·s + kw − p, ci] · dy[n, i, j, co] with at most eight channels on one side.

    Where dy is the image, the sum is taken over x's positions instead, over dy[n, h − kh + p, v − kw + p, co].

    Args:
        dw: [KH, KW, Ci, Co] float32, output.
        x: [N, H, W, Ci].
        dy: [N, OH, OW, Co], of x's dtype.
    """
    kh, kw, ci, co = dw.shape
    swapped = ci > MOST_CHANNELS
    image, other = (dy, x) if swapped else (x, dy)
    images, oh, ow, channels = other.shape
    positions = images * oh * ow
    pixel = pixel_channels(image.shape[3])
    rows = kh * kw * pixel
    chosen = wgrad_tile("image_wgrad", rows=rows, columns=channels, depth=positions, channels=pixel, chip=dev.chip, precision=precision)
    bm, bn, bk, _, _ = chosen
    buffer, first = _with_border(dev, image, kh, kw)
    read = images * covered(oh, kh, stride) * covered(ow, kw, stride) * pixel * image.dtype.itemsize
    launch_splits(
        dev, precision, images_kernel.image_wgrad, (-(-rows // bm), -(-channels // bn)), dw, (buffer, other, positions),
        (read, other.nbytes), -(-positions // bk), chosen,
        FIRST=first, PH=buffer.shape[1], PW=buffer.shape[2], PIXEL=pixel, OH=oh, OW=ow, YC=channels, KH=kh, KW=kw, CI=ci, CO=co,
        S=stride, SWAPPED=swapped, BM=bm, BN=bn, BK=bk, LONG=max(buffer.size, other.size) >= LONG,
    )  # fmt: skip


def _with_border(dev: Device, src: Array, kh: int, kw: int) -> tuple[Any, int]:
    """src with a border of zeros, `pixel_channels` a pixel, and the number of the pixel under tap (0, 0) of the first position."""
    images, height, width, channels = src.shape
    border = max(kh, kw) // 2
    wide = width + 2 * border
    buffer = with_border(dev, src, (images, height + 2 * border, wide, pixel_channels(channels)), border)
    return buffer, (border - kh // 2) * wide + border - kw // 2
