"""Weights of a stride-1 convolution for several pixels at once (Triton).

A position stands for GH × GW neighbouring output pixels; pixel (u, v) has a block of C columns, and meets kernel tap (a − u, b − v) at tap
(a, b) of the common kernel, which has (KH + GH − 1) × (KW + GW − 1) taps. Where a pixel has no such tap the weight is zero.

Axis letters: KH KW kernel, K source channels, C output channels; WK WN the same as stored, WN for all pixels.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from kernels.cuda.device import Device
from kernels.ledger import cost

BLOCK = 1024


@triton.jit
def pixel_weights(
    out,  # [taps, WK, WN], or with TRANSPOSED [taps, WN, WK]
    w,  # [KH, KW, K, C], or with BACK [KH, KW, C, K], turned by 180°
    KH: tl.constexpr, KW: tl.constexpr, GH: tl.constexpr, GW: tl.constexpr, K: tl.constexpr, C: tl.constexpr,
    WK: tl.constexpr, WN: tl.constexpr, BACK: tl.constexpr, TRANSPOSED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK weights of one tap."""
    tap = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = at % WK if TRANSPOSED else at // WN
    n = at // WK if TRANSPOSED else at % WN
    pixel = n // C
    a = tap // (KW + GW - 1) - pixel // GW
    b = tap % (KW + GW - 1) - pixel % GW
    inside = (a >= 0) & (a < KH) & (b >= 0) & (b < KW) & (pixel < GH * GW) & (k < K) & (at < WK * WN)
    if BACK:
        source = (((KH - 1 - a) * KW + KW - 1 - b) * C + n % C) * K + k
    else:
        source = ((a * KW + b) * K + k) * C + n % C
    tl.store(out + tap * (WK * WN) + at, tl.load(w + source, mask=inside, other=0.0), mask=at < WK * WN)


def pack_pixels(dev: Device, out: Any, w: Any, block: tuple[int, int], *, back: bool, transposed: bool) -> None:
    """Pack w for ``block`` = (GH, GW) pixels.

    Args:
        out: [taps, WK, WN], or ``transposed`` [taps, WN, WK], of w's dtype; output.
        w: [KH, KW, Ci, Co]; the source has Ci channels, or with ``back`` (the gradient by the input) Co.
    """
    kh, kw, ci, co = w.shape
    wk, wn = (out.shape[2], out.shape[1]) if transposed else out.shape[1:]
    dev.triton(
        pixel_weights, (out.shape[0], -(-wk * wn // BLOCK)), out, w, KH=kh, KW=kw, GH=block[0], GW=block[1],
        K=co if back else ci, C=ci if back else co, WK=wk, WN=wn, BACK=back, TRANSPOSED=transposed, BLOCK=BLOCK,
        warps=4, stages=1, cost=cost(0, [w], [out]),
    )  # fmt: skip
