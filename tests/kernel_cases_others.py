"""The checks of batch norm, element-wise operations, latent layer, losses, optimisers, batches and random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_check import Case, Draw, Slot
from kernel_shapes import EPS, masked_sums, normal_layer

from kernels.augmentation import AUTHORS, Augmentation


def batch_norm(shape: tuple[int, ...], groups: tuple[int, ...]) -> Iterator[Case]:
    """The four operations of batch norm; the statistics of values far from 0, where a plain sum of squares would cancel."""
    c, label = shape[-1], f"{shape}, groups {groups}"
    terms = int(np.prod(shape[:-1]))

    def statistics(d: Draw) -> Any:
        outputs = d.out(len(groups), c, role="wide"), d.out(len(groups), c, role="wide", kind="loose")
        return (*outputs, d.act(*shape, shift=30.0), groups), {}

    def forward(d: Draw, relu: bool) -> Any:
        v = normal_layer(d, shape, groups)
        return (d.out(*shape), v.pre, v.mean, v.var, v.gamma, v.beta, groups), {"eps": EPS, "relu": relu}

    def backward(d: Draw, relu: bool, training: bool, summed: bool) -> Any:
        v = normal_layer(d, shape, groups)
        dy = v.error(d)
        extra: dict[str, Any] = {}
        if summed:
            dy = d.given(dy.values * (v.y.values > 0))
            extra = {"sums": masked_sums(d, dy.values, v, groups)}
        outputs = {"dgamma": d.out(c, role="wide", kind="loose"), "dbeta": d.out(c, role="wide")}
        return (d.out(*shape), dy, v.pre, v.y, v.mean, v.var, v.gamma, groups), {
            "eps": EPS, "relu": relu, "batch_statistics": training, **outputs, **extra,
        }  # fmt: skip

    def running(d: Draw) -> Any:
        old = [d.wide(c).as_use("inout"), d.given(0.5 + d.rng.random(c), "wide").as_use("inout")]
        return (*old, d.wide(len(groups), c), d.given(0.5 + d.rng.random((len(groups), c)), "wide"), groups), {"momentum": 0.9}

    yield Case("batch_norm_statistics", label, statistics, terms)
    for relu in (False, True):
        yield Case("batch_norm_forward", f"{label}, relu {relu}", lambda d, relu=relu: forward(d, relu))
    for relu, training, summed in ((False, True, False), (True, True, False), (True, False, False), (True, True, True)):
        yield Case(
            "batch_norm_backward", f"{label}, relu {relu}, batch {training}, sums given {summed}",
            lambda d, relu=relu, training=training, summed=summed: backward(d, relu, training, summed), terms,
        )  # fmt: skip
    yield Case("batch_norm_update_running", label, running)


def elementwise(shape: tuple[int, ...]) -> Iterator[Case]:
    """Activations and the sums of the layer graph."""
    label = str(shape)

    def one(d: Draw) -> Any:
        return (d.out(*shape), d.act(*shape, scale=2.0)), {}

    for name in ("relu", "tanh", "sigmoid"):
        yield Case(f"{name}_forward", label, one)
        yield Case(f"{name}_backward", label, lambda d: ((d.out(*shape), d.act(*shape), unit(d, shape)), {}))
    yield Case("sigmoid_forward", f"{label}, wide", lambda d: ((d.out(*shape, role="wide"), d.wide(*shape, scale=4.0)), {}))
    yield Case("add", label, lambda d: ((d.out(*shape), d.act(*shape), d.act(*shape)), {"alpha": 0.3, "beta": -1.7}))
    yield Case("scale", label, lambda d: ((d.out(*shape), d.act(*shape), -0.37), {}))
    yield Case("fill", label, lambda d: ((d.out(*shape, kind="exact"), 0.5), {}))
    for role, of in (("act", "act"), ("act", "wide"), ("wide", "act"), ("wide", "wide")):
        yield Case("copy", f"{label}, {role} from {of}", lambda d, to=role, of=of: ((d.out(*shape, role=to), as_role(d, shape, of)), {}))


def unit(d: Draw, shape: tuple[int, ...]) -> Slot:
    """An activation's output: in (0, 1), with zeros among it where ReLU would give them."""
    return d.given(np.clip(d.rng.uniform(-0.5, 1.0, shape), 0.0, 0.99))


def as_role(d: Draw, shape: tuple[int, ...], role: str) -> Slot:
    return d.act(*shape) if role == "act" else d.wide(*shape)


def latent_and_losses() -> Iterator[Case]:
    """Reparametrisation, KL, feature likelihood, the GAN's losses, the gate."""
    for n, latent in ((64, 128), (3, 7)):
        shape, label = (n, latent), f"{n}x{latent}"
        yield Case(
            "reparametrize_forward", label,
            lambda d, shape=shape: (
                (d.out(*shape), d.out(1, role="float64"), d.wide(*shape), d.wide(*shape, scale=0.5), d.wide(*shape)), {},
            ),
            n * latent,
        )  # fmt: skip
        yield Case(
            "reparametrize_backward", label,
            lambda d, shape=shape: (
                (d.out(*shape), d.out(*shape), d.act(*shape), d.wide(*shape), d.wide(*shape, scale=0.5), d.wide(*shape)), {},
            ),
        )  # fmt: skip
    for shape in ((4, 8, 8, 256), (3, 5, 5, 7)):
        yield Case(
            "feature_likelihood", str(shape), lambda d, s=shape: ((d.out(1, role="float64"), d.out(*s), d.act(*s), d.act(*s)), {}),
        )  # fmt: skip
    yield Case(
        "feature_likelihood", "wide (5, 73)",
        lambda d: ((d.out(1, role="float64"), d.out(5, 73, role="wide"), d.wide(5, 73), d.wide(5, 73)), {}),
    )  # fmt: skip
    for rows, real in ((192, 64), (7, 3), (128, 64)):
        for log_eps in (1e-3, 0.0):
            label = f"{real} real of {rows}, log eps {log_eps}"
            yield Case(
                "gan_loss", label,
                lambda d, r=rows, k=real, e=log_eps: (
                    (d.out(2, role="float64"), d.out(r, 1), d.wide(r, 1, scale=4.0), k, (0.66, 0.17)), {"log_eps": e},
                ),
                rows,
            )  # fmt: skip
            yield Case(
                "generator_loss", label,
                lambda d, r=rows, k=real, e=log_eps: (
                    (d.out(1, role="float64"), d.out(r, 1), d.wide(r, 1, scale=4.0), k), {"log_eps": e},
                ),
                rows,
            )  # fmt: skip
    yield from cross_entropy()
    for losses in ((0.7, 0.7), (0.2, 0.7), (1.2, 0.7), (0.2, 1.2)):
        yield Case(
            "equilibrium_gate", str(losses),
            lambda d, losses=losses: (
                (d.out(2, role="uint8", kind="exact"), d.given(np.array(losses) * (4, 8), "float64"), 4, 8),
                {"equilibrium": 0.68, "margin": 0.35},
            ),
        )  # fmt: skip
    yield Case(
        "count_gate", "one step",
        lambda d: (
            (d.given(np.array([5.0, 2.0, 4.0]), "float64").as_use("inout", "exact"), d.given(np.array([1, 0], np.uint8), "uint8")), {},
        ),
    )  # fmt: skip


def cross_entropy() -> Iterator[Case]:
    """A classifier's loss: more rows than a block has threads, few and many classes, rows without a label."""
    for shape in ((64, 10), (301, 2), (5, 73), (1, 1)):
        label = f"{shape}"

        def labels(d: Draw, s: tuple[int, int] = shape) -> Slot:
            values = d.rng.integers(-1, s[1], s[0])
            values[0] = s[1] - 1
            return d.given(values.astype(np.int32), "int32")

        def probabilities(d: Draw, s: tuple[int, int] = shape) -> Slot:
            odds = np.exp(d.rng.standard_normal(s))
            return d.given(0.9 * odds / odds.sum(axis=1, keepdims=True), "wide")  # never 1: the error at a single class is no zero

        yield Case(
            "softmax_cross_entropy_forward", label,
            lambda d, s=shape, y=labels: ((d.out(1, role="float64"), d.out(*s, role="wide"), d.wide(*s, scale=4.0), y(d)), {}), shape[0],
        )  # fmt: skip
        yield Case(
            "softmax_cross_entropy_backward", label, lambda d, s=shape, y=labels, p=probabilities: ((d.out(*s), p(d), y(d)), {}),
        )  # fmt: skip


def optimizers() -> Iterator[Case]:
    """Both update rules one array at a time and in a table, gated and not, the rate as a number and as an array."""
    shapes = ((5, 5, 20, 24), (1031,))
    for shape in shapes:
        for gate in (None, 1, 0):
            for kind in ("rmsprop", "adam"):
                label = f"{shape}, gate {gate}"
                yield Case(f"{kind}_update", label, lambda d, k=kind, s=shape, g=gate: one_update(d, k, s, g))
    for kind in ("rmsprop", "adam"):
        yield Case(f"{kind}_update_all", "a table of six", lambda d, k=kind: table(d, k), call=update_all)


def states(d: Draw, kind: str, shape: tuple[int, ...]) -> tuple[Slot, ...]:
    """An optimiser's arrays of one parameter, in the middle of a training."""
    positive = d.given(0.1 + d.rng.random(shape), "wide").as_use("inout")
    if kind == "rmsprop":
        return (positive,)
    return d.wide(*shape).as_use("inout"), positive, d.given(np.array([6]), "int64").as_use("inout", "exact")


def one_update(d: Draw, kind: str, shape: tuple[int, ...], gate: int | None) -> Any:
    enabled = None if gate is None else d.given(np.array([gate], np.uint8), "uint8")
    rate = 1e-2 if gate is None else d.given(np.array([1e-2]), "wide")
    w = d.wide(*shape).as_use("inout")
    return (w, *states(d, kind, shape), d.wide(*shape)), {"lr": rate, "weight_decay": 2e-5, "enabled": enabled}


def table(d: Draw, kind: str) -> Any:
    """Entries of several sizes: with and without decay, gate and a compute copy."""
    from kernels import UpdateEntry

    entries = []
    for number, shape in enumerate(((1,), (5, 5, 20, 24), (33,), (4097,), (3, 5))):
        gate = None if number % 3 == 0 else d.given(np.array([number % 2], np.uint8), "uint8")
        master = d.wide(*shape)
        copy = None if number % 2 == 0 else d.given(master.values).as_use("inout")
        entries.append(UpdateEntry(master.as_use("inout"), copy, states(d, kind, shape), d.wide(*shape), 2e-5 * (number % 2), gate))
    entries.append(UpdateEntry(d.wide(70).as_use("inout", "exact"), None, states(d, kind, (70,)), None, 0.0, None))  # updated elsewhere
    return (kind, entries), {"lr": d.given(np.array([1e-2]), "wide")}


def update_all(engine: Any, kind: str, entries: Any, **options: Any) -> None:
    """What an optimiser does each step: one launch over all entries."""
    getattr(engine, f"{kind}_update_all")(engine.update_list(kind, entries), **options)


def batches() -> Iterator[Case]:
    """The batch of a step from the data set on the device, noise, initial values, and the numbers that change from step to step."""

    def gather(d: Draw, n: int, size: int, c: int, flip: bool) -> Any:
        images = d.given(d.rng.integers(0, 256, (17, size, size, c), np.uint8), "uint8")
        order = d.given(d.rng.permutation(17).astype(np.int32), "int32")
        counter = d.given(np.array([3 + 17 // n]), "int64")
        return (d.out(n, size, size, c), images, order, counter), {"per_epoch": 17 // n, "seed": 5, "flip": flip}

    def varied(case: Any, strengths: Augmentation) -> Any:
        return case[0], {**case[1], "strengths": strengths}

    def rows(d: Draw, n: int, columns: int) -> Any:
        order = d.given(d.rng.permutation(17).astype(np.int32), "int32")
        counter = d.given(np.array([3 + 17 // n]), "int64")
        return (d.out(n, columns, role="wide", kind="exact"), d.wide(17, columns), order, counter), {"per_epoch": 17 // n}

    def counted(d: Draw) -> Slot:
        return d.given(np.array([41]), "int64")

    for n, size, c, flip in ((4, 32, 3, True), (3, 8, 1, False), (5, 7, 3, True)):
        yield Case("gather_batch", f"{n}x{size}x{size}x{c}, flip {flip}", lambda d, a=(n, size, c, flip): gather(d, *a))
    for n, size, c, strengths in ((4, 32, 3, AUTHORS), (3, 8, 1, AUTHORS), (5, 7, 3, Augmentation(0.1, 0.1, 0.5, 0.3, 0.3, 0.2))):
        label = f"{n}x{size}x{size}x{c}"
        yield Case("augment_batch", label, lambda d, a=(n, size, c, True), s=strengths: varied(gather(d, *a), s))
    for s in ((4, 40), (3, 73)):
        yield Case("gather_rows", f"{s}", lambda d, s=s: rows(d, *s))
    yield Case(
        "gather_rows", "labels",
        lambda d: (
            (d.out(6, 1, role="int32", kind="exact"), d.given(d.rng.integers(-1, 2**31 - 1, (17, 1)).astype(np.int32), "int32"),
             d.given(d.rng.permutation(17).astype(np.int32), "int32"), d.given(np.array([4]), "int64")), {"per_epoch": 2},
        ),
    )  # fmt: skip
    for n, columns, attributes in ((5, 24, 40), (3, 4099, 73)):
        yield Case(
            "concatenate", f"{n}x{columns} and {attributes}",
            lambda d, n=n, k=columns, a=attributes: ((d.out(n, k + a), d.act(n, k), d.wide(n, a)), {}),
        )  # fmt: skip
    yield Case(
        "gather_images", "5 of 9",
        lambda d: (
            (d.out(5, 8, 8, 3), d.given(d.rng.integers(0, 256, (9, 8, 8, 3), np.uint8), "uint8"),
             d.given(np.array([8, 0, 3, 3, 7], np.int64), "int64"), d.given(np.array([1, 0, 1, 0, 1], bool), "bool")), {},
        ),
    )  # fmt: skip
    for s in ((64, 128), (3, 7)):
        yield Case("normal", f"{s}", lambda d, s=s: ((d.out(*s, role="wide"),), {"seed": 2**40 + 3, "step": 7, "stream": 2}))
        yield Case("normal", f"{s}, counter", lambda d, s=s: ((d.out(*s, role="wide"),), {"seed": 3, "step": counted(d), "stream": 1}))
    yield Case("uniform_init", "25001", lambda d: ((d.out(25001, role="wide", kind="exact"), 0.07), {"seed": 11, "index": 4}))
    yield Case(
        "look_up_rate", "inside", lambda d: ((d.out(1, role="wide", kind="exact"), d.wide(50), counted(d)), {}),
    )  # fmt: skip
    yield Case("look_up_rate", "behind the end", lambda d: ((d.out(1, role="wide", kind="exact"), d.wide(9), counted(d)), {}))
    yield Case("advance", "by one", lambda d: ((counted(d).as_use("inout", "exact"),), {}))
