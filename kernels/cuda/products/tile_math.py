"""What the Triton kernels share: their first statement, and one step of a tile's matrix product."""

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
