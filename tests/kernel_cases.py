"""The list of kernel checks: every operation, at the shapes of paper64's layers (a small batch) and at odd ones."""

from __future__ import annotations

from collections.abc import Iterator

import kernel_cases_layers as layers
import kernel_cases_others as others
from kernel_check import Case
from kernel_shapes import PAPER, Shapes


def cases(shapes: Shapes = PAPER) -> Iterator[Case]:
    """Every check, for these shapes."""
    for conv in shapes.convs:
        yield from layers.convolution(conv)
        yield from layers.block("conv2d", conv)
    for conv in shapes.plain:
        yield from layers.with_bias(conv)
    for conv in shapes.upconvs:
        yield from layers.transposed(conv)
        yield from layers.block("upconv", conv)
    for dense in shapes.dense:
        yield from layers.linear(dense)
        yield from layers.block("linear", dense)
    for shape, groups in shapes.maps:
        yield from others.batch_norm(shape, groups)
        yield from others.elementwise(shape)
    yield from others.latent_and_losses()
    yield from others.optimizers()
    yield from others.batches()
