"""The checks of batch norm, element-wise operations, latent layer and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from kernel_check import Case
from kernel_draw import Draw, Slot
from kernel_shapes import EPS, masked_sums, normal_layer

from kernels.contract.batch_norm import Running

Built = tuple[tuple[Any, ...], dict[str, Any]]


def batch_norm(shape: tuple[int, ...], groups: tuple[int, ...]) -> Iterator[Case]:
    """The operations of batch norm; the statistics of values far from 0, where a plain sum of squares would cancel."""
    c, label = shape[-1], f"{shape}, groups {groups}"
    terms = int(np.prod(shape[:-1]))

    def statistics(d: Draw) -> Built:
        outputs = d.out(len(groups), c, role="wide"), d.out(len(groups), c, role="wide", kind="loose")
        return (*outputs, d.act(*shape, shift=30.0), groups), {}

    def forward(d: Draw, relu: bool, inplace: bool) -> Built:
        v = normal_layer(d, shape, groups)
        x = v.pre.as_use("inout") if inplace else v.pre
        kept = Running(d.wide(c).as_use("inout"), d.given(0.5 + d.rng.random(c), "wide").as_use("inout"), 0.9) if relu else None
        return (x if inplace else d.out(*shape), x, v.mean, v.var, v.gamma, v.beta, groups), {"eps": EPS, "relu": relu, "running": kept}

    def backward(d: Draw, relu: bool, training: bool, summed: bool, inplace: bool) -> Built:
        v = normal_layer(d, shape, groups)
        dy, y = v.error(d), v.y
        extra: dict[str, Any] = {}
        if summed:  # y must not be looked at
            dy, y = d.given(dy.values * (v.y.values > 0)), d.given(np.full(shape, np.nan))
            extra = {"sums": masked_sums(d, dy.values, v, groups)}
        size = float(np.linalg.norm(dy.values))  # of few rows the results are small differences
        if inplace:
            dy = dy.as_use("inout", size=size)
        outputs = {"dgamma": d.out(c, role="wide", kind="loose", size=size), "dbeta": d.out(c, role="wide", size=size)}
        return (dy if inplace else d.out(*shape, size=size), dy, v.pre, y, v.mean, v.var, v.gamma, groups), {
            "eps": EPS, "relu": relu, "batch_statistics": training, **outputs, **extra,
        }  # fmt: skip

    yield Case("batch_norm_statistics", label, statistics, terms)
    for relu in (False, True):
        what = f"{label}, relu {relu}{', in place' if relu else ''}"
        yield Case("batch_norm_forward", what, lambda d, relu=relu: forward(d, relu, relu))
    for relu, training, summed in ((False, True, False), (True, True, False), (True, False, False), (True, True, True)):
        inplace = relu and training
        yield Case(
            "batch_norm_backward", f"{label}, relu {relu}, batch {training}, sums given {summed}{', in place' if inplace else ''}",
            lambda d, relu=relu, training=training, summed=summed, inplace=inplace: backward(d, relu, training, summed, inplace), terms,
        )  # fmt: skip


def elementwise(shape: tuple[int, ...]) -> Iterator[Case]:
    """Activations and the sums of the layer graph, outputs apart and in the place of an input."""
    label = str(shape)

    def two(operation: str, what: str, given: Callable[[Draw], tuple[Slot, ...]], **options: Any) -> Iterator[Case]:
        """Into an output of its own, and into the last of the inputs that ``given`` draws; backward passes into the first."""

        def inplace(d: Draw) -> Built:
            slots = list(given(d))
            at = 0 if operation.endswith("backward") else -1
            slots[at] = slots[at].as_use("inout")
            return (slots[at], *slots), options

        yield Case(operation, f"{label}{what}", lambda d: ((d.out(*shape), *given(d)), options))
        yield Case(operation, f"{label}{what}, in place", inplace)

    for name in ("relu", "tanh", "sigmoid"):
        yield from two(f"{name}_forward", "", lambda d: (d.act(*shape, scale=2.0),))
        yield from two(f"{name}_backward", "", lambda d: (d.act(*shape), unit(d, shape)))
    yield Case("sigmoid_forward", f"{label}, wide", lambda d: ((d.out(*shape, role="wide"), d.wide(*shape, scale=4.0)), {}))
    yield from two("add", "", lambda d: (d.act(*shape), d.act(*shape)), alpha=0.3, beta=-1.7)
    given = lambda d: (d.out(*shape), d.act(*shape), d.act(*shape))  # noqa: E731
    yield Case("add", f"{label}, alpha of the device", lambda d: (given(d), {"alpha": d.given(np.array([0.3]), "wide"), "beta": -1.7}))
    yield from two("scale", "", lambda d: (d.act(*shape),), factor=-0.37)
    for role, value in (("act", 0.5), ("wide", -1.5), ("uint8", 7), ("int64", 1 << 40), ("float64", 0.1)):
        yield Case("fill", f"{label}, {role}", lambda d, role=role, v=value: ((d.out(*shape, role=role, kind="exact"), v), {}))
    for role, of in (("act", "act"), ("act", "wide"), ("wide", "act"), ("wide", "wide"), ("uint8", "uint8"), ("int64", "int64")):
        kind = "exact" if role == of else ""
        yield Case(
            "copy", f"{label}, {role} from {of}",
            lambda d, to=role, of=of, kind=kind: ((d.out(*shape, role=to, kind=kind), as_role(d, shape, of)), {}),
        )  # fmt: skip


def unit(d: Draw, shape: tuple[int, ...]) -> Slot:
    """An activation's output: in (0, 1), with zeros among it where ReLU would give them."""
    return d.given(np.clip(d.rng.uniform(-0.5, 1.0, shape), 0.0, 0.99))


def as_role(d: Draw, shape: tuple[int, ...], role: str) -> Slot:
    if role in ("act", "wide"):
        return d.act(*shape) if role == "act" else d.wide(*shape)
    return d.given(d.rng.integers(0, 200, shape), role)


def not_finite() -> Iterator[Case]:
    """NaN and infinity come out where NumPy has them: nothing hides what has gone wrong."""
    x, dy = np.array([[np.nan, np.inf, -np.inf, 0.0, -1.0]]), np.array([[1.0, 2.0, np.inf, np.nan, np.inf]])

    def finite(*shape: int, role: str = "act") -> Slot:
        return Draw.out(*shape, role=role, kind="finite")

    for name in ("relu", "tanh", "sigmoid"):
        yield Case(f"{name}_forward", "not finite", lambda d: ((finite(1, 5), d.given(x)), {}))
        yield Case(f"{name}_backward", "not finite", lambda d: ((finite(1, 5), d.given(dy), d.given(x)), {}))

    shape, groups = (4, 3, 3, 8), (2, 2)

    def layer(d: Draw) -> Any:
        v = normal_layer(d, shape, groups)
        pre, error, y = v.pre.values.copy(), d.act(*shape).values, v.y.values.copy()
        pre[0, 0, 0, 0], pre[3, 1, 1, 1], pre[2, 0, 2, 2] = np.nan, np.inf, -np.inf
        error[1, 1, 1, 3], y[1, 1, 1, 3] = np.inf, 0.0  # an infinite error behind a closed ReLU: NaN, not 0
        return v._replace(pre=d.given(pre), y=d.given(y)), d.given(error)

    def forward(d: Draw) -> Built:
        v, _ = layer(d)
        return (finite(*shape), v.pre, v.mean, v.var, v.gamma, v.beta, groups), {"eps": EPS, "relu": True}

    def backward(d: Draw) -> Built:
        v, error = layer(d)
        sums = {"dgamma": finite(8, role="wide"), "dbeta": finite(8, role="wide")}
        return (finite(*shape), error, v.pre, v.y, v.mean, v.var, v.gamma, groups), {"eps": EPS, "relu": True, **sums}

    yield Case(
        "batch_norm_statistics", "not finite",
        lambda d: ((finite(2, 8, role="wide"), finite(2, 8, role="wide"), layer(d)[0].pre, groups), {}), 18,
    )  # fmt: skip
    yield Case("batch_norm_forward", "not finite", forward)
    yield Case("batch_norm_backward", "not finite", backward, 18)
    for bad in (np.nan, np.inf):
        yield Case(
            "reparametrize_forward", f"{bad}",
            lambda d, bad=bad: (
                (finite(1, 2), finite(1, role="float64"), d.given([[0.5, bad]], "wide"), d.wide(1, 2), d.wide(1, 2)), {},
            ),
        )  # fmt: skip
    logits = np.array([np.nan, 1.0, 1.0, np.inf])
    for real in (2, 3):
        yield Case(
            "gan_loss", f"not finite, {real} real",
            lambda d, k=real: ((finite(2, role="float64"), finite(4), d.given(logits, "wide"), k, (1.0, 1.0)), {}),
        )  # fmt: skip
    for real, values in ((3, logits), (2, logits[[1, 2, 0, 1]])):  # real rows count for nothing
        yield Case(
            "generator_loss", f"not finite, {real} real",
            lambda d, k=real, v=values: ((finite(1, role="float64"), finite(4), d.given(v, "wide"), k), {}),
        )  # fmt: skip
    yield Case(
        "rmsprop_update", "not finite",
        lambda d: (
            (*(d.given([1.0, 1.0, 1.0], "wide").as_use("inout", "finite") for _ in range(2)), d.given([np.inf, np.nan, 1.0], "wide")),
            {"lr": 0.1},
        ),
    )  # fmt: skip


#: At which a float32 exponential overflows, a loss is flat, or a difference cancels.
LOGITS = (-800.0, -40.0, -3.0, -1e-4, 0.0, 2.0, 30.0, 500.0)


def latent_and_losses() -> Iterator[Case]:
    """Reparametrisation, KL, feature likelihood, the GAN's losses, the gate."""
    for n, latent in ((64, 128), (3, 7), (1, 1), (70, 257)):
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
    for shape in ((4, 8, 8, 256), (3, 5, 5, 7), (1,), (2, 2048), (3, 11, 11, 13)):
        yield Case(
            "feature_likelihood", str(shape), lambda d, s=shape: ((d.out(1, role="float64"), d.out(*s), d.act(*s), d.act(*s)), {}),
        )  # fmt: skip
    yield Case(
        "feature_likelihood", "wide (5, 73)",
        lambda d: ((d.out(1, role="float64"), d.out(5, 73, role="wide"), d.wide(5, 73), d.wide(5, 73)), {}),
    )  # fmt: skip

    def logits(d: Draw, rows: int) -> Slot:
        values, special = 4.0 * d.rng.standard_normal((rows, 1)), LOGITS[:rows]
        values[np.linspace(0, rows - 1, len(special)).astype(int), 0] = special
        return d.given(values, "wide")

    def double(d: Draw, n: int) -> Slot:
        return d.out(n, role="float64", kind="double")

    for rows, real in ((192, 64), (7, 3), (128, 64), (1, 0), (9, 9), (301, 100)):
        for log_eps in (1e-3, 0.0):
            label = f"{real} real of {rows}, log eps {log_eps}"
            for what, wanted in (("", True), (", losses alone", False)):
                yield Case(
                    "gan_loss", f"{label}{what}",
                    lambda d, r=rows, k=real, e=log_eps, wanted=wanted: (
                        (double(d, 2), d.out(r, 1) if wanted else None, logits(d, r), k, (0.66, 0.17)), {"log_eps": e},
                    ),
                    rows,
                )  # fmt: skip
            yield Case(
                "generator_loss", label,
                lambda d, r=rows, k=real, e=log_eps: ((double(d, 1), d.out(r, 1), logits(d, r), k), {"log_eps": e}), rows,
            )  # fmt: skip
    yield from cross_entropy()
    for losses in ((0.7, 0.7), (0.2, 0.7), (1.2, 0.7), (0.2, 1.2), (np.nan, 0.7), (0.7, np.nan)):
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
    for shape in ((64, 10), (301, 2), (5, 73), (1, 1), (7, 300)):
        label = f"{shape}"

        def labels(d: Draw, s: tuple[int, int] = shape) -> Slot:
            values = d.rng.integers(-1, s[1], s[0])
            values[0] = s[1] - 1
            return d.given(values.astype(np.int32), "int32")

        def logits(d: Draw, s: tuple[int, int] = shape) -> Slot:
            values = 4.0 * d.rng.standard_normal(s)
            values[s[0] // 2] *= 1e3
            return d.given(values, "wide")

        def probabilities(d: Draw, s: tuple[int, int] = shape) -> Slot:
            odds = np.exp(d.rng.standard_normal(s))
            return d.given(0.9 * odds / odds.sum(axis=1, keepdims=True), "wide")  # never 1: the error at a single class is no zero

        yield Case(
            "softmax_cross_entropy_forward", label,
            lambda d, s=shape, y=labels, z=logits: (
                (d.out(1, role="float64", kind="double"), d.out(*s, role="wide"), z(d), y(d)), {},
            ),
            shape[0],
        )  # fmt: skip
        yield Case(
            "softmax_cross_entropy_backward", label, lambda d, s=shape, y=labels, p=probabilities: ((d.out(*s), p(d), y(d)), {}),
        )  # fmt: skip
