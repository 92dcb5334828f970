"""The checks of convolutions, fractional-strided convolutions, linear layers and the blocks made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_check import Case, Draw
from kernel_shapes import EPS, Conv, Dense, below_norm, below_relu, masked_sums, normal_layer, weights


def convolution(c: Conv) -> Iterator[Case]:
    """The three products of a convolution without bias, and its dgrad with the layer below it."""
    taps, positions = c.kernel**2, int(np.prod(c.small[:3]))

    def case(operation: str, what: str, terms: int, build: Any) -> Case:
        return Case(operation, f"{c.label}{what}", build, terms)

    yield case("conv2d_forward", "", taps * c.ci, lambda d: ((d.out(*c.small), d.act(*c.large), weights(d, *c.weights)), {"stride": c.s}))
    yield case("conv2d_dgrad", "", taps * c.co, lambda d: ((d.out(*c.large), d.act(*c.small), weights(d, *c.weights)), {"stride": c.s}))
    yield case(
        "conv2d_wgrad", "", positions,
        lambda d: ((d.out(*c.weights, role="wide"), d.act(*c.large), d.act(*c.small)), {"stride": c.s}),
    )  # fmt: skip
    if c.ci > 3:
        for what, below in ((", below BN", lambda d: below_norm(d, c.large, c.lots)), (", below ReLU", lambda d: below_relu(d, c.large))):
            yield case(
                "conv2d_dgrad", what, taps * c.co,
                lambda d, below=below: (
                    (d.out(*c.large), d.act(*c.small), weights(d, *c.weights)), {"stride": c.s, "previous": below(d)},
                ),
            )  # fmt: skip


def with_bias(c: Conv) -> Iterator[Case]:
    """Stride-1 convolutions with bias and each activation, their gradients, and the same as fractional-strided ones."""
    taps, positions = c.kernel**2, int(np.prod(c.small[:3]))
    for activation in (None, "relu", "tanh"):
        yield Case(
            "conv2d_forward", f"{c.label}, bias, {activation}",
            lambda d, activation=activation: (
                (d.out(*c.small), d.act(*c.large), weights(d, *c.weights), d.wide(c.co)), {"stride": c.s, "activation": activation},
            ),
            taps * c.ci,
        )  # fmt: skip
    yield Case(
        "conv2d_dgrad", c.label,
        lambda d: ((d.out(*c.large), d.act(*c.small), weights(d, *c.weights)), {"stride": c.s}), taps * c.co,
    )  # fmt: skip
    if c.ci > 3:
        yield Case(
            "conv2d_dgrad", f"{c.label}, below BN",
            lambda d: (
                (d.out(*c.large), d.act(*c.small), weights(d, *c.weights)), {"stride": c.s, "previous": below_norm(d, c.large, c.lots)},
            ),
            taps * c.co,
        )  # fmt: skip
    yield Case(
        "conv2d_wgrad", f"{c.label}, dbias",
        lambda d: (
            (d.out(*c.weights, role="wide"), d.act(*c.large), d.act(*c.small)), {"stride": c.s, "dbias": d.out(c.co, role="wide")},
        ),
        positions,
    )  # fmt: skip


def transposed(c: Conv) -> Iterator[Case]:
    """The three products of a fractional-strided convolution: from the small image to the large one."""
    taps, positions = c.kernel**2, int(np.prod(c.small[:3]))
    for bias, activation in ((False, None), (True, "tanh")):
        yield Case(
            "conv_transpose2d_forward", f"{c.label}, {'bias, tanh' if bias else 'plain'}",
            lambda d, bias=bias, activation=activation: (
                (d.out(*c.large), d.act(*c.small), weights(d, *c.weights), d.wide(c.ci) if bias else None),
                {"stride": c.s, "activation": activation},
            ),
            taps * c.co,
        )  # fmt: skip
    yield Case(
        "conv_transpose2d_dgrad", c.label,
        lambda d: ((d.out(*c.small), d.act(*c.large), weights(d, *c.weights)), {"stride": c.s}), taps * c.ci,
    )  # fmt: skip
    yield Case(
        "conv_transpose2d_dgrad", f"{c.label}, below BN",
        lambda d: (
            (d.out(*c.small), d.act(*c.large), weights(d, *c.weights)), {"stride": c.s, "previous": below_norm(d, c.small, c.lots)},
        ),
        taps * c.ci,
    )  # fmt: skip
    yield Case(
        "conv_transpose2d_wgrad", f"{c.label}, dbias",
        lambda d: (
            (d.out(*c.weights, role="wide"), d.act(*c.small), d.act(*c.large)), {"stride": c.s, "dbias": d.out(c.ci, role="wide")},
        ),
        positions,
    )  # fmt: skip


def linear(c: Dense) -> Iterator[Case]:
    """The three products of a linear layer, outputs of both types, and the layer below it."""
    n, i, o = c.n, c.inputs, c.outputs
    for role, bias in (("act", False), ("wide", True)):  # blocks have no bias; the heads' results are wide
        yield Case(
            "linear_forward", f"{c.label}, {role}{', bias' if bias else ''}",
            lambda d, role=role, bias=bias: ((d.out(n, o, role=role), d.act(n, i), weights(d, i, o), d.wide(o) if bias else None), {}), i,
        )  # fmt: skip
    yield Case("linear_dgrad", c.label, lambda d: ((d.out(n, i), d.act(n, o), weights(d, i, o)), {}), o)
    yield Case(
        "linear_dgrad", f"{c.label}, below BN of {c.channels} channels",
        lambda d: (
            (d.out(n, i), d.act(n, o), weights(d, i, o)), {"previous": below_norm(d, (n, i), c.lots, c.channels)},
        ),
        o,
    )  # fmt: skip
    yield Case(
        "linear_wgrad", f"{c.label}, dbias",
        lambda d: ((d.out(i, o, role="wide"), d.act(n, i), d.act(n, o)), {"dbias": d.out(o, role="wide")}), n,
    )  # fmt: skip
    yield Case("linear_wgrad_rmsprop", c.label, lambda d: wgrad_rmsprop(d, c), n)


def wgrad_rmsprop(d: Draw, c: Dense) -> Any:
    """w, ms and the compute copy of w; without weight decay, so that the gradient alone decides."""
    w = d.wide(c.inputs, c.outputs, scale=0.05).as_use("inout", "loose")
    ms = d.given(0.1 + d.rng.random((c.inputs, c.outputs)), "wide").as_use("inout", "loose")
    copy = d.out(c.inputs, c.outputs, kind="act")
    return (w, ms, copy, d.act(c.n, c.inputs), d.act(c.n, c.outputs)), {"lr": 1e-3, "weight_decay": 2e-5, "enabled": None}


def block(kind: str, c: Conv | Dense) -> Iterator[Case]:
    """Product, batch norm and ReLU as one operation: forward in training and inference, backward with each of its variants."""
    source, result, w_shape, forward_terms, backward_terms, options = geometry(kind, c)
    channels = result[-1]

    def forward(d: Draw, training: bool) -> Any:
        groups = c.lots if training else (c.n,)
        statistics = [d.out(len(groups), channels, role="wide", kind="loose") for _ in range(2)]
        if not training:
            statistics = [d.wide(1, channels, scale=0.3), d.given(0.5 + d.rng.random((1, channels)), "wide")]
        affine = d.wide(channels, scale=0.3, shift=1.0), d.wide(channels, scale=0.3)
        outputs = d.out(*result, kind="loose"), d.out(*result, kind="loose")
        return (*outputs, *statistics, d.act(*source), weights(d, *w_shape), *affine, groups), {
            **options, "eps": EPS, "batch_statistics": training,
        }  # fmt: skip

    def backward(d: Draw, training: bool, dx: bool, dw: bool, summed: bool = False) -> Any:
        groups = c.lots if training else (c.n,)
        layer = normal_layer(d, result, groups)
        dy = layer.error(d)
        if summed:  # masked already, its sums given
            dy = d.given(dy.values * (layer.y.values > 0))
        extra: dict[str, Any] = {"sums": masked_sums(d, dy.values, layer, groups)} if summed else {}
        if dx and source[-1] > 3:
            extra["previous"] = below_norm(d, source, c.lots, c.channels if isinstance(c, Dense) else None)
        wanted = (
            d.out(*source, kind="loose") if dx else None, d.out(*w_shape, role="wide", kind="loose") if dw else None,
            *(d.out(channels, role="wide", kind="loose") if dw else None for _ in range(2)),
        )  # fmt: skip
        arrays = (layer.y, layer.pre, layer.mean, layer.var, d.act(*source), weights(d, *w_shape), layer.gamma)
        return (*wanted, dy.as_use("scrap"), *arrays, groups), {**options, "eps": EPS, "batch_statistics": training, **extra}

    name = f"{kind}_bn_relu"
    yield Case(f"{name}_forward", c.label, lambda d: forward(d, True), forward_terms)
    yield Case(f"{name}_forward", f"{c.label}, running statistics", lambda d: forward(d, False), forward_terms)
    for what, chosen in (
        ("", {"training": True, "dx": True, "dw": True}), (", sums given", {"training": True, "dx": True, "dw": True, "summed": True}),
        (", dx alone", {"training": True, "dx": True, "dw": False}), (", dw alone", {"training": True, "dx": False, "dw": True}),
        (", running statistics", {"training": False, "dx": True, "dw": True}),
    ):  # fmt: skip
        yield Case(f"{name}_backward", f"{c.label}{what}", lambda d, chosen=chosen: backward(d, **chosen), backward_terms)


def geometry(kind: str, c: Conv | Dense) -> tuple[Any, ...]:
    """Shapes of a block's input, output and weights, the terms of its forward and backward sums, and its options."""
    if isinstance(c, Dense):
        return (c.n, c.inputs), (c.n, c.outputs), (c.inputs, c.outputs), c.inputs, max(c.outputs, c.n), {}
    taps, positions = c.kernel**2, int(np.prod(c.small[:3]))
    if kind == "conv2d":
        return c.large, c.small, c.weights, taps * c.ci, max(taps * c.co, positions), {"stride": c.s}
    return c.small, c.large, c.weights, taps * c.co, max(taps * c.ci, positions), {"stride": c.s}
