"""Weight gradient of a linear layer fused with its RMSProp update (Triton).

    g = xᵀ · dy + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps)

The gradient of a large layer is as large as the layer and is read once; here it never leaves the registers.

Axis letters: N rows (images), I inputs, O outputs. A tile has BM inputs, BN outputs and BK images a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.cuda.products.epilogue import to_type
from kernels.cuda.products.tile_math import after_previous_launch, dot


@triton.jit
def wgrad_rmsprop(
    w,  # [I, O] float32, updated
    ms,  # [I, O] float32, updated
    copy,  # [I, O] of x's type, written; or None
    x,  # [N, I]
    dy,  # [N, O]
    enabled,  # uint8 [1]: 0 leaves everything as it is; or None
    lr,  # float32, or float32 [1]
    decay, rest, eps, weight_decay,  # rest = 1 − decay, rounded once
    images,  # N
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, RATE_ARRAY: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """One program: BM x BN weights."""
    after_previous_launch(DEPENDENT)
    active = 1
    if enabled is not None:
        active = tl.load(enabled).to(tl.int32)
    if active != 0:
        rate = tl.load(lr) if RATE_ARRAY else lr
        i = tl.program_id(1) * BM + tl.arange(0, BM)
        o = tl.program_id(0) * BN + tl.arange(0, BN)
        inside = (i < INPUTS)[:, None] & (o < OUTPUTS)[None, :]
        offset = i.to(tl.int64)[:, None] * OUTPUTS + o[None, :]
        # loaded before the product, so that the loads overlap it
        weights = tl.load(w + offset, mask=inside, other=0.0)
        squares = tl.load(ms + offset, mask=inside, other=0.0)
        g = tl.zeros([BM, BN], tl.float32)
        for n in range(0, images, BK):
            r = n + tl.arange(0, BK)
            a = tl.load(x + r[None, :] * INPUTS + i[:, None], mask=(r < images)[None, :] & (i < INPUTS)[:, None], other=0.0)
            b = tl.load(dy + r[:, None] * OUTPUTS + o[None, :], mask=(r < images)[:, None] & (o < OUTPUTS)[None, :], other=0.0)
            g = dot(a, b, g, PRECISION, INTERPRETED)
        g += weight_decay * weights
        squares = decay * squares + rest * (g * g)
        weights -= rate * tl.div_rn(g, tl.sqrt_rn(squares) + eps)
        tl.store(ms + offset, squares, mask=inside)
        tl.store(w + offset, weights, mask=inside)
        if copy is not None:
            tl.store(copy + offset, to_type(weights, copy.dtype.element_ty, INTERPRETED), mask=inside)
