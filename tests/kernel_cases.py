"""The list of kernel checks: every operation, at the shapes of paper64's layers (a small batch) and at odd ones."""

from __future__ import annotations

from collections.abc import Iterator

import kernel_cases_layers as layers
import kernel_cases_others as others
import kernel_cases_parts as parts
import kernel_cases_shares as shares
import kernel_cases_step as step
from kernel_check import Case
from kernel_shapes import PAPER, Shapes


def cases(*chosen: Shapes) -> Iterator[Case]:
    """Every check of the engine's operations, for these shapes (none given: `PAPER`); each name once."""
    seen: set[str] = set()
    for shapes in chosen or (PAPER,):
        for case in _cases(shapes):
            if case.name not in seen:
                seen.add(case.name)
                yield case


def part_cases() -> Iterator[Case]:
    """Those of the CUDA C kernels that serve the products: no operations of the engine."""
    return parts.part_cases()


def _cases(shapes: Shapes) -> Iterator[Case]:
    for number, conv in enumerate(shapes.convs):
        yield from layers.convolution(conv, shapes.variants)
        yield from layers.block("conv2d", conv, shapes.variants or number == 0)
    for conv in shapes.plain:
        yield from layers.with_bias(conv, shapes.variants)
    for number, conv in enumerate(shapes.upconvs):
        yield from layers.transposed(conv)
        yield from layers.block("upconv", conv, shapes.variants or number == 0)
    for number, dense in enumerate(shapes.dense):
        yield from layers.linear(dense)
        yield from layers.block("linear", dense, shapes.variants or number == 0)
    for given, make in (
        (shapes.products, layers.products), (shapes.forwards, layers.one_forward), (shapes.dgrads, layers.dgrads),
        (shapes.wgrads, layers.one_wgrad), (shapes.vectors, others.elementwise), (shapes.maps, shares.finished),
    ):  # fmt: skip
        for each in given:
            yield from make(each)
    for shape, groups in shapes.maps:
        yield from others.batch_norm(shape, groups)
    yield from others.not_finite()
    yield from others.latent_and_losses()
    yield from step.optimizers()
    yield from step.batches()
    yield from shares.draws_and_batches()
    yield from shares.put_together()
