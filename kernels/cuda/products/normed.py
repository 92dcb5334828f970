"""Batch norm's backward where dgrad and wgrad load the error, in place of a launch that reads and writes it once more.

    the error at the batch norm's input = scale · g + slope · pre + offset,   three numbers a channel

g is the error behind the ReLU, masked, whose sums the next layer has made (`Previous`). Each product reads pre beside it. That pays
where operands come by pointers and memory is slow beside the L2 cache; a descriptor's box goes to the product as it is
(bench/tuning.md has the model's figures).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks
from kernels.cuda.products.images import takes_image_wgrad
from kernels.cuda.products.partials import FILE, Finish
from kernels.ledger import cost


class Normed(NamedTuple):
    """How an operand's values are made of its array's: pre, like it, and coefficients, float32 [3, C] on the device."""

    pre: Array
    coefficients: Array


def at_load(dev: Device, precision: str, pre: Array, dw: Array, w: Array, groups: tuple[int, ...], stride: int) -> bool:
    """Whether the products of a block's backward take their error so: one group of statistics, kernels of pointers, and a chip and
    precision for which the model says that it pays, and compiled code that it does not spill."""
    chip = dev.chip
    pays = chip.family == "consumer" and not chip.tma and precision == ("bf16" if chip.bf16 else "float32")
    ci, co = w.shape[2:]
    image = dw is not None and takes_image_wgrad(ci, co, stride)
    return pays and len(groups) == 1 and pre.shape[-1] % 16 == 0 and not image


def normed(
    dev: Device, pre: Array, mean: Array, var: Array, gamma: Array, sums: Array, eps: float, dgamma: Array = None, dbeta: Array = None
) -> Normed:
    """The coefficients of one group, and its dgamma and dbeta where they are wanted.

    Args:
        pre: [N, ..., C], the batch norm's input.
        mean, var: float32 [1, C]. gamma: float32 [C].
        sums: float32 [2, 1, C], Σ g and Σ g x̂; made here where that was held back.
        dgamma, dbeta: float32 [C], outputs, or None.
    """
    channels = pre.shape[-1]
    finish = dev.taken(Finish, sums)
    if finish and finish.made:
        finish.made.launch()
    parts, width = (finish.parts, finish.width) if finish else (blocks(channels, THREADS), THREADS)
    out = dev.scratch("normed", (3, channels), np.float32)
    reads, writes = ([finish.partial], [sums]) if finish else ([sums], [])
    dev.cuda(
        FILE, "bn_coefficients", parts, THREADS, out, dgamma, dbeta, sums, mean, var, gamma, np.float32(pre.size // channels),
        np.float32(eps), np.int32(channels), np.int32(width), *((finish.partial, finish.plan) if finish else (None, None)),
        cost=cost(0, [*reads, mean, var, gamma], [out, *writes, *(array for array in (dgamma, dbeta) if array is not None)]),
    )  # fmt: skip
    return Normed(pre, out)
