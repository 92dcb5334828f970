"""Launch of the weight gradient of a linear layer fused with its RMSProp update.

Axis letters: N images, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.products import wgrad_rmsprop_kernel
from kernels.cuda.products.splits import DOT
from kernels.cuda.products.tiles import wgrad_tile
from kernels.ledger import cost


def wgrad_rmsprop(
    dev: Device, precision: str, w: Array, ms: Array, copy: Array, x: Array, dy: Array, *,
    lr: Any, decay: float, eps: float, weight_decay: float, enabled: Array,
) -> None:  # fmt: skip
    """g = xᵀ · dy + weight_decay · w;  ms ← decay · ms + (1 − decay) g²;  w ← w − lr · g / (sqrt(ms) + eps);  copy ← w, in one kernel.

    Args:
        w, ms: [I, O] float32, updated in place.
        copy: [I, O] of x's dtype, written; None or ``w`` itself where there is none.
        x: [N, I].
        dy: [N, O], of x's dtype.
        lr: a float, or a float32 array [1].
        enabled: uint8 [1], 0 leaves all three as they are, or None.
    """
    images, inputs = x.shape
    outputs = dy.shape[1]
    copy = None if copy is w else copy
    by_array = hasattr(lr, "flags") and not isinstance(lr, np.generic)
    bm, bn, bk, stages, warps = wgrad_tile(
        "wgrad_rmsprop", rows=inputs, columns=outputs, depth=images, channels=inputs, chip=dev.chip, precision=precision
    )
    grid = (-(-outputs // bn), -(-inputs // bm))
    steps = -(-images // bk)
    read = [a for a in (w, ms, x, dy, lr if by_array else None, enabled) if a is not None]
    dev.triton(
        wgrad_rmsprop_kernel.wgrad_rmsprop, grid, w, ms, copy, x, dy, enabled, lr if by_array else float(lr),
        float(decay), 1.0 - decay, float(eps), float(weight_decay), images, warps=warps, stages=stages,
        cost=cost(grid[0] * grid[1] * steps * 2 * bm * bn * bk, read, [w, ms] if copy is None else [w, ms, copy]),
        INPUTS=inputs, OUTPUTS=outputs, RATE_ARRAY=by_array, BM=bm, BN=bn, BK=bk, PRECISION=DOT[precision],
        INTERPRETED=dev.interpreted, DEPENDENT=dev.dependent,
    )  # fmt: skip
