"""The checks of what a process does with its share of a batch: draws and images from a place on, errors that no product made alone, and
results put together from parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_cases_step import gather, loose
from kernel_check import Case
from kernel_draw import Draw
from kernel_shapes import previous_norm, previous_relu

from kernels.augmentation import AUTHORS

Built = tuple[tuple[Any, ...], dict[str, Any]]


def draws_and_batches() -> Iterator[Case]:
    """Normal numbers from any element on, one draw and two in a launch; images from any number on."""
    for shape, start in (((3, 7), 1), ((3, 7), 2), ((64, 128), 3), ((64, 128), 64 * 128), ((1,), 7), ((2, 7, 333), 2**33 + 5)):
        for role in ("wide", "act"):
            key = {"seed": 2**40 + 3, "step": 7, "stream": 2, "start": start}
            yield Case("normal", f"{shape}, {role}, from {start} on", lambda d, s=shape, r=role, key=key: ((d.out(*s, role=r),), key))
    for starts in ((5, 5), (5, 6)):
        yield Case("normal", f"two, from {starts} on", lambda d, starts=starts: ((d.out(9, 5), d.out(9, 5), starts), {}), call=two_draws)
    for size, number in (((4, 32, 32, 3), 5), ((5, 7, 5, 3), 2**30 + 3)):
        label = f"{'x'.join(map(str, size))}, from {number} on"
        yield Case("gather_batch", label, lambda d, a=size, n=number: gather(d, a, True, 7, first=n))
        yield Case("augment_batch", label, lambda d, a=size, n=number: loose(gather(d, a, True, 7, first=n, strengths=AUTHORS)))


def two_draws(engine: Any, one: Any, two: Any, starts: tuple[int, int]) -> None:
    """Which are one launch where they start at the same element."""
    for stream, (out, start) in enumerate(zip((one, two), starts, strict=True)):
        engine.normal(out, seed=3, step=2, stream=stream, start=start)


def finished(given: tuple[tuple[int, ...], tuple[int, ...]]) -> Iterator[Case]:
    """An error at a layer of batch norm and ReLU, also where its images are flattened, and of ReLU alone."""
    shape, groups = given
    label, terms, flat = f"{shape}, groups {groups}", int(np.prod(shape[:-1])), (shape[0], int(np.prod(shape[1:])))

    def error(d: Draw, shape: tuple[int, ...], previous: dict[str, Any]) -> Built:
        return (d.act(*shape).as_use("inout", "exact"),), previous

    yield Case("finish_previous", label, lambda d: error(d, shape, previous_norm(d, shape, groups)), terms)
    if flat != shape:
        what = f"{label}, flattened"
        yield Case("finish_previous", what, lambda d: error(d, flat, previous_norm(d, flat, groups, shape[-1])), terms)
    yield Case("finish_previous", f"{label}, ReLU", lambda d: error(d, shape, previous_relu(d, shape)), terms)

    def unsummed(d: Draw) -> Built:
        return error(d, shape, {"previous": previous_relu(d, shape)["previous"]._replace(sums=None)})

    yield Case("finish_previous", f"{label}, ReLU, no sums", unsummed)


def put_together() -> Iterator[Case]:
    """Statistics far from 0 of unequal parts; sums of both types."""
    for parts, shape in ((1, (1, 1)), (2, (2, 33)), (8, (3, 256)), (64, (1, 2056))):

        def statistics(d: Draw, parts: int = parts, shape: tuple[int, ...] = shape) -> Built:
            images = d.rng.integers(1, 5, parts)
            given = d.given(100.0 + d.rng.standard_normal((parts, 2, *shape)), "wide")
            outputs = d.out(*shape, role="wide"), d.out(*shape, role="wide")
            return (*outputs, given, d.given(images / images.sum(), "float64")), {}

        yield Case("combine_statistics", f"{parts} of {shape}", statistics, parts)
        for role, kind in (("wide", ""), ("float64", "double")):
            yield Case(
                "sum_parts", f"{parts} of {shape}, {role}",
                lambda d, n=parts, s=shape, role=role, kind=kind: (
                    (d.out(*s, role=role, kind=kind), d.given(d.rng.standard_normal((n, *s)), role)), {"factor": 0.37},
                ),
                parts,
            )  # fmt: skip
