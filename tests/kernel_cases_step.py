"""The checks of optimisers, batches, random numbers and the numbers that change from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_check import Case
from kernel_draw import Draw, Slot

from kernels.augmentation import AUTHORS, Augmentation

Built = tuple[tuple[Any, ...], dict[str, Any]]
KINDS = ("rmsprop", "adam")


def optimizers() -> Iterator[Case]:
    """Both update rules one array at a time and in a table, gated and not, the rate as a number and as an array."""
    for kind in KINDS:
        for shape in ((5, 5, 20, 24), (1031,), (1,), (129, 33), (20_001,)):  # the last one in three chunks
            for gate in (None, 1, 0):
                yield Case(f"{kind}_update", f"{shape}, gate {gate}", lambda d, a=(kind, shape, gate): one_update(d, *a))
        for size in (1e-6, 30.0):  # of the gradient, so that eps and the bias correction matter
            yield Case(f"{kind}_update", f"gradients of {size:g}", lambda d, k=kind, size=size: one_update(d, k, (33,), None, size))
        for gates in ((1, 1), (0, 1), (1, 0)):
            yield Case(f"{kind}_update_all", f"a table of eight, gates {gates}", lambda d, a=(kind, gates): table(d, *a), call=update_all)


def states(d: Draw, kind: str, shape: tuple[int, ...], use: str = "") -> tuple[Slot, ...]:
    """An optimiser's arrays of one parameter, in the middle of a training."""
    positive = d.given(0.1 + d.rng.random(shape), "wide").as_use("inout", use)
    if kind == "rmsprop":
        return (positive,)
    return d.wide(*shape).as_use("inout", use), positive, d.given(np.array([6]), "int64").as_use("inout", "exact")


def one_update(d: Draw, kind: str, shape: tuple[int, ...], gate: int | None, size: float = 1.0) -> Built:
    enabled = None if gate is None else d.given(np.array([gate], np.uint8), "uint8")
    rate = 1e-2 if gate is None else d.given(np.array([1e-2]), "wide")
    use = "exact" if gate == 0 else ""
    w = d.wide(*shape).as_use("inout", use)
    return (w, *states(d, kind, shape, use), d.wide(*shape, scale=size)), {"lr": rate, "weight_decay": 0.02, "enabled": enabled}


def table(d: Draw, kind: str, gates: tuple[int, int]) -> Built:
    """Entries of several sizes: with and without decay, gate, gradient, average, a rate and a compute copy of its own."""
    from kernels import UpdateEntry

    flags, entries = [d.given(np.array([gate], np.uint8), "uint8") for gate in gates], []
    for number, shape in enumerate(((1,), (20_001,), (5, 5, 3, 4), (64, 128), (7,), (4097,), (3, 5), (70,))):
        updated = number != 4  # that one elsewhere
        enabled = None if number % 3 == 2 else number % 2
        use = "" if updated and (enabled is None or gates[enabled]) else "exact"
        master = d.wide(*shape).as_use("inout", use)
        copy = None if number % 2 == 0 else d.act(*shape).as_use("inout", use or "act")
        gate = None if enabled is None else flags[enabled]
        grad = d.wide(*shape) if updated else None
        average = None if number in (0, 3) else d.wide(*shape).as_use("inout")
        numbers = {"weight_decay": 0.02 * (number % 3), "rate": 0.7 if number == 5 else 1.0}
        entries.append(UpdateEntry(master, copy, states(d, kind, shape, use), grad, enabled=gate, average=average, **numbers))
    return (kind, entries), {"lr": d.given(np.array([1e-2]), "wide"), "blend": d.given(np.array([0.1]), "wide")}


def update_all(engine: Any, kind: str, entries: Any, **options: Any) -> None:
    """What an optimiser does each step: one launch over all entries."""
    getattr(engine, f"{kind}_update_all")(engine.update_list(kind, entries), **options)


def pictures(d: Draw, *shape: int) -> Slot:
    values = d.rng.integers(0, 256, shape, np.uint8)
    values[0], values[1] = 0, 255
    return d.given(values, "uint8")


def gather(d: Draw, size: tuple[int, ...], flip: bool, step: int, **options: Any) -> Built:
    order, counter, epoch = given_step(d, size[0], step)
    return (d.out(*size), pictures(d, 17, *size[1:]), order, counter), {**epoch, "seed": 2**63 + 5, "flip": flip, **options}


def given_step(d: Draw, n: int, step: int) -> tuple[Slot, Slot, dict[str, Any]]:
    """What says which of 17 rows are a batch of ``n``: order, counter, batches of an epoch."""
    order = d.given(d.rng.permutation(17).astype(np.int32), "int32")
    return order, d.given(np.array([step]), "int64"), {"per_epoch": 17 // n}


def batches() -> Iterator[Case]:
    """The batch of a step from the data set on the device, noise, initial values, and the numbers that change from step to step."""

    def rows(d: Draw, n: int, columns: int, step: int) -> Built:
        order, counter, epoch = given_step(d, n, step)
        return (d.out(n, columns, role="wide", kind="exact"), d.wide(17, columns), order, counter), epoch

    def chosen(d: Draw, size: tuple[int, ...], role: str, flips: str | None) -> Built:
        indices, flipped = np.array([8, 0, 3, 3, 1]), np.array([1, 0, 1, 0, 1], bool)
        if role == "host":
            return (d.out(5, *size), pictures(d, 9, *size), indices, flipped if flips else None), {}
        return (d.out(5, *size), pictures(d, 9, *size), d.given(indices, role), d.given(flipped, flips) if flips else None), {}

    def counted(d: Draw, value: int = 41) -> Slot:
        return d.given(np.array([value]), "int64")

    for size, flip, step in (
        ((4, 32, 32, 3), True, 7), ((3, 8, 8, 1), False, 8), ((5, 7, 5, 3), True, 6), ((2, 33, 20, 3), True, 0),
        ((4, 2, 3, 11), True, 2**33), ((1, 1, 1, 1), True, 3),
    ):  # fmt: skip
        label = "x".join(map(str, size))
        yield Case("gather_batch", f"{label}, flip {flip}, step {step}", lambda d, a=(size, flip, step): gather(d, *a))
    for size, strengths in (
        ((4, 32, 32, 3), AUTHORS), ((3, 8, 8, 1), AUTHORS), ((5, 7, 7, 3), Augmentation(0.1, 0.1, 0.5, 0.3, 0.3, 0.2)),
    ):  # fmt: skip
        label = "x".join(map(str, size))
        yield Case("augment_batch", label, lambda d, size=size, s=strengths: loose(gather(d, size, True, 7, strengths=s)))
    for n, columns, step in ((4, 40, 7), (3, 73, 2**33 + 4), (1, 1, 2)):
        yield Case("gather_rows", f"{(n, columns)}", lambda d, a=(n, columns, step): rows(d, *a))
    yield Case(
        "gather_rows", "labels",
        lambda d: (
            (d.out(6, 1, role="int32", kind="exact"), d.given(d.rng.integers(-1, 2**31 - 1, (17, 1)).astype(np.int32), "int32"),
             d.given(d.rng.permutation(17).astype(np.int32), "int32"), d.given(np.array([4]), "int64")), {"per_epoch": 2},
        ),
    )  # fmt: skip
    for n, columns, attributes in ((5, 24, 40), (3, 4099, 73), (1, 1, 1), (4, 2056, 40), (3, 33, 73)):
        yield Case(
            "concatenate", f"{n}x{columns} and {attributes}",
            lambda d, n=n, k=columns, a=attributes: ((d.out(n, k + a), d.act(n, k), d.wide(n, a)), {}),
        )  # fmt: skip
    for size in ((8, 8, 3), (1, 1, 1), (7, 5, 3), (33, 20, 3), (2, 3, 11)):
        for role, flips in (("int64", "bool"), ("int32", "bool"), ("int64", None), ("host", "host"), ("host", None)):
            label = f"{size}, indices {role}, flips {flips}"
            yield Case("gather_images", label, lambda d, a=(size, role, flips): chosen(d, *a))
    for s in ((64, 128), (3, 7), (1,), (2, 7, 333)):
        for role in ("wide", "act"):
            for key in ({"seed": 2**40 + 3, "step": 7, "stream": 2}, {"seed": 2**64 - 1, "step": 2**40 + 3, "stream": 2**32 - 1}):
                yield Case("normal", f"{s}, {role}, {key}", lambda d, s=s, role=role, key=key: ((d.out(*s, role=role),), key))
            yield Case(
                "normal", f"{s}, {role}, counter",
                lambda d, s=s, role=role: ((d.out(*s, role=role),), {"seed": 3, "step": counted(d, 2**40 + 3), "stream": 1}),
            )  # fmt: skip
    for s, bound, seed, index in (
        ((25001,), 0.07, 11, 4), ((5, 5, 3, 17), 0.3, 2**64 - 1, 2**64 - 1), ((1,), 1e3, 0, 0), ((9,), 1e-6, 2**40, 2**33),
    ):  # fmt: skip
        key = {"seed": seed, "index": index}
        yield Case("uniform_init", f"{s}, {bound}", lambda d, s=s, b=bound, key=key: ((d.out(*s, role="wide", kind="exact"), b), key))
    for what, count in (("inside", 50), ("behind the end", 9)):
        yield Case("look_up_rate", what, lambda d, n=count: ((d.out(1, role="wide", kind="exact"), d.wide(n), counted(d)), {}))
    yield Case("advance", "by one", lambda d: ((counted(d).as_use("inout", "exact"),), {}))
    yield Case("advance", "beyond 32 bits", lambda d: ((counted(d, 2**40).as_use("inout", "exact"),), {}))


def loose(built: Built) -> Built:
    """An augmented image is interpolated at places that were computed in float32."""
    (x, *rest), options = built
    return (x.as_use("out", "loose"), *rest), options
