"""What the Triton kernels share: their first statement, one step of a tile's matrix product, rounding, an operand made at its load."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def after_previous_launch(DEPENDENT: tl.constexpr):
    """Wait for the end of the launch before, and for what it wrote (programmatic dependent launch; common.cuh has the same)."""
    if DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr, INTERPRETED: tl.constexpr):
    """acc + a · b. The interpreter would multiply the raw bits of bf16 operands."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def to_type(x, kind: tl.constexpr, INTERPRETED: tl.constexpr):
    """float32 as ``kind``, to the nearest. The interpreter truncates to bf16, so there the rounding is added first."""
    if INTERPRETED and kind == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        x = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return x.to(kind)


@triton.jit
def before_norm(g, pre, scale, slope, offset, inside, INTERPRETED: tl.constexpr):
    """The error at a batch norm's input, of g's type: scale · g + slope · pre + offset (`Normed`), 0 where nothing is ``inside``."""
    error = scale * g.to(tl.float32) + (slope * pre.to(tl.float32) + offset)
    return to_type(tl.where(inside, error, 0.0), g.dtype, INTERPRETED)
