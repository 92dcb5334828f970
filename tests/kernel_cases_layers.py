"""The checks of convolutions, fractional-strided convolutions, linear layers and the blocks made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kernel_check import Case
from kernel_draw import Draw, Slot
from kernel_shapes import EPS, Conv, Dense, masked_sums, normal_layer, previous_norm, previous_relu, weights

from kernels.contract.batch_norm import Running

Built = tuple[tuple[Any, ...], dict[str, Any]]


def forward(d: Draw, c: Conv, bias: bool, activation: str | None) -> Built:
    arrays = d.out(*c.small), d.act(*c.large), weights(d, *c.weights), d.wide(c.co) if bias else None
    return arrays, {"stride": c.s, "activation": activation}


def dgrad(d: Draw, c: Conv, **options: Any) -> Built:
    return (d.out(*c.large), d.act(*c.small), weights(d, *c.weights)), {"stride": c.s, **options}


def wgrad(d: Draw, c: Conv, bias: bool) -> Built:
    arrays = d.out(*c.weights, role="wide"), d.act(*c.large), d.act(*c.small)
    return arrays, {"stride": c.s, "dbias": d.out(c.co, role="wide") if bias else None}


def one_forward(c: Conv) -> Iterator[Case]:
    activation = "relu" if c.co > 4 else "tanh"
    yield Case("conv2d_forward", f"{c.label}, bias, {activation}", lambda d: forward(d, c, True, activation), c.taps * c.ci)


def one_wgrad(c: Conv, bias: bool = True) -> Iterator[Case]:
    yield Case("conv2d_wgrad", f"{c.label}{', dbias' if bias else ''}", lambda d: wgrad(d, c, bias), c.positions)


def dgrads(c: Conv, below: bool = True) -> Iterator[Case]:
    """The gradient by the input, and with the layers below it."""
    terms = c.taps * c.co
    yield Case("conv2d_dgrad", c.label, lambda d: dgrad(d, c), terms)
    if below and c.ci > 3:
        yield Case("conv2d_dgrad", f"{c.label}, previous BN", lambda d: dgrad(d, c, **previous_norm(d, c.large, c.lots)), terms)
        yield Case("conv2d_dgrad", f"{c.label}, previous ReLU", lambda d: dgrad(d, c, **previous_relu(d, c.large)), terms)


def products(c: Conv | Dense) -> Iterator[Case]:
    """The three products of a layer with bias and activation."""
    if isinstance(c, Dense):
        yield from linear(c)
        return
    yield from one_forward(c)
    yield from dgrads(c, False)
    yield from one_wgrad(c)


def convolution(c: Conv, below: bool = True) -> Iterator[Case]:
    """The three products of a convolution without bias, and its dgrad with the layers below it."""
    yield Case("conv2d_forward", c.label, lambda d: forward(d, c, False, None), c.taps * c.ci)
    yield from dgrads(c, below)
    yield from one_wgrad(c, False)


def with_bias(c: Conv, below: bool = True) -> Iterator[Case]:
    """Convolutions with bias and each activation, and their gradients."""
    for name in (None, "relu", "tanh"):
        yield Case("conv2d_forward", f"{c.label}, bias, {name}", lambda d, name=name: forward(d, c, True, name), c.taps * c.ci)
    yield from dgrads(c, below)
    yield from one_wgrad(c)


def transposed(c: Conv) -> Iterator[Case]:
    """The three products of a fractional-strided convolution: from the small image to the large one."""

    def up(d: Draw, bias: bool, activation: str | None) -> Built:
        arrays = d.out(*c.large), d.act(*c.small), weights(d, *c.weights), d.wide(c.ci) if bias else None
        return arrays, {"stride": c.s, "activation": activation}

    def back(d: Draw, **options: Any) -> Built:
        return (d.out(*c.small), d.act(*c.large), weights(d, *c.weights)), {"stride": c.s, **options}

    def weight_gradient(d: Draw) -> Built:
        arrays = d.out(*c.weights, role="wide"), d.act(*c.small), d.act(*c.large)
        return arrays, {"stride": c.s, "dbias": d.out(c.ci, role="wide")}

    yield Case("conv_transpose2d_forward", f"{c.label}, plain", lambda d: up(d, False, None), c.taps * c.co)
    yield Case("conv_transpose2d_forward", f"{c.label}, bias, tanh", lambda d: up(d, True, "tanh"), c.taps * c.co)
    yield Case("conv_transpose2d_dgrad", c.label, back, c.taps * c.ci)
    yield Case("conv_transpose2d_dgrad", f"{c.label}, previous BN", lambda d: back(d, **previous_norm(d, c.small, c.lots)), c.taps * c.ci)
    yield Case("conv_transpose2d_wgrad", f"{c.label}, dbias", weight_gradient, c.positions)


def linear(c: Dense) -> Iterator[Case]:
    """The products of a linear layer, outputs of both types, the layer below it, and its update without a stored gradient."""
    n, i, o = c.n, c.inputs, c.outputs

    def product(d: Draw, role: str, bias: bool) -> Built:
        return (d.out(n, o, role=role), d.act(n, i), weights(d, i, o), d.wide(o) if bias else None), {}

    def back(d: Draw, **options: Any) -> Built:
        return (d.out(n, i), d.act(n, o), weights(d, i, o)), options

    yield Case("linear_forward", f"{c.label}, act", lambda d: product(d, "act", False), i)  # blocks have no bias
    yield Case("linear_forward", f"{c.label}, wide, bias", lambda d: product(d, "wide", True), i)  # the heads' results are wide
    yield Case("linear_dgrad", c.label, back, o)
    what = f"previous BN of {c.channels or i} channels"
    yield Case("linear_dgrad", f"{c.label}, {what}", lambda d: back(d, **previous_norm(d, (n, i), c.lots, c.channels)), o)
    if c.name == "attributes":  # they get no error: the first rows of the weights
        yield Case(
            "linear_dgrad", f"{c.label}, of the features alone",
            lambda d: ((d.out(n, 96), d.act(n, o), weights(d, i, o)), {}), o, lambda e, dx, dy, w: e.linear_dgrad(dx, dy, w[:96]),
        )  # fmt: skip
    yield Case(
        "linear_wgrad", f"{c.label}, dbias",
        lambda d: ((d.out(i, o, role="wide"), d.act(n, i), d.act(n, o)), {"dbias": d.out(o, role="wide")}), n,
    )  # fmt: skip
    for gate in (None, 1, 0):
        yield Case("linear_wgrad_rmsprop", f"{c.label}, gate {gate}", lambda d, gate=gate: wgrad_rmsprop(d, c, gate), n)


def wgrad_rmsprop(d: Draw, c: Dense, gate: int | None) -> Built:
    """w, ms and the compute copy of w; a rate and decays that show, with a gate the rate in an array."""
    w = d.wide(c.inputs, c.outputs, scale=0.05).as_use("inout", "loose" if gate != 0 else "exact")
    ms = d.given(0.1 + d.rng.random((c.inputs, c.outputs)), "wide").as_use("inout", w.kind)
    copy = d.out(c.inputs, c.outputs, kind="act") if gate != 0 else d.act(c.inputs, c.outputs).as_use("inout", "exact")
    options = {"lr": 1e-2, "enabled": None}
    if gate is not None:
        options = {"lr": d.given([1e-2], "wide"), "enabled": d.given([gate], "uint8")}
    return (w, ms, None if c.name == "update" else copy, d.act(c.n, c.inputs), d.act(c.n, c.outputs)), {"weight_decay": 0.1, **options}


def block(kind: str, c: Conv | Dense, variants: bool) -> Iterator[Case]:
    """Product, batch norm and ReLU as one operation: forward, backward, and with ``variants`` in inference and in part."""
    source, result, w_shape, forward_terms, backward_terms, options = geometry(kind, c)
    channels = result[-1]

    def ahead(d: Draw, training: bool, alone: bool = False) -> Built:
        groups = c.lots if training else (c.n,)
        statistics = [d.out(len(groups), channels, role="wide", kind="loose") for _ in range(2)]
        if not training:
            statistics = [d.wide(1, channels, scale=0.3), d.given(0.5 + d.rng.random((1, channels)), "wide")]
        affine = d.wide(channels, scale=0.3, shift=1.0), d.wide(channels, scale=0.3)
        outputs = None if alone else d.out(*result, kind="loose"), d.out(*result, kind="loose")
        kept = {"running": Running(d.wide(channels), d.wide(channels), 0.9)} if alone else {}  # which does not move
        # in float32 about means that are large beside the deviation; of two values that may be nearly equal
        enough = min(groups) * math.prod(result[1:-1]) > 4
        x = d.act(*source, shift=4.0 if d.precision == "float32" and enough else 0.0)
        return (*outputs, *statistics, x, weights(d, *w_shape), *affine, groups), {
            **options,
            **kept,
            "eps": EPS,
            "batch_statistics": training,
        }

    def backward(d: Draw, training: bool = True, dx: bool = True, dw: bool = True, summed: bool = False) -> Built:
        groups = c.lots if training else (c.n,)
        layer = normal_layer(d, result, groups)
        dy = layer.error(d)
        if summed:  # masked already, its sums given
            dy = d.given(dy.values * (layer.y.values > 0))
        extra: dict[str, Any] = {"sums": masked_sums(d, dy.values, layer, groups)} if summed else {}
        if dx and source[-1] > 3:
            extra |= previous_norm(d, source, c.lots, c.channels if isinstance(c, Dense) else 0)

        def out(wanted: bool, *shape: int, role: str = "wide") -> Slot | None:
            return d.out(*shape, role=role, kind="loose") if wanted else None

        wanted = out(dx, *source, role="act"), out(dw, *w_shape), out(dw, channels), out(dw, channels)
        arrays = (layer.y, layer.pre, layer.mean, layer.var, d.act(*source), weights(d, *w_shape), layer.gamma)
        return (*wanted, dy.as_use("scrap"), *arrays, groups), {**options, "eps": EPS, "batch_statistics": training, **extra}

    name = f"{kind}_bn_relu"
    yield Case(f"{name}_forward", c.label, lambda d: ahead(d, True), forward_terms)
    yield Case(f"{name}_forward", f"{c.label}, statistics alone", lambda d: ahead(d, True, True), forward_terms)
    yield Case(f"{name}_backward", c.label, backward, backward_terms)
    if not variants:
        return
    yield Case(f"{name}_forward", f"{c.label}, running statistics", lambda d: ahead(d, False), forward_terms)
    for what, chosen in (
        (", sums given", {"summed": True}), (", dx alone, sums given", {"summed": True, "dw": False}), (", dx alone", {"dw": False}),
        (", dw alone", {"dx": False}), (", running statistics", {"training": False}),
    ):  # fmt: skip
        yield Case(f"{name}_backward", f"{c.label}{what}", lambda d, chosen=chosen: backward(d, **chosen), backward_terms)


def geometry(kind: str, c: Conv | Dense) -> tuple[Any, ...]:
    """Shapes of a block's input, output and weights, the terms of its forward and backward sums, and its options."""
    if isinstance(c, Dense):
        return (c.n, c.inputs), (c.n, c.outputs), (c.inputs, c.outputs), c.inputs, max(c.outputs, c.n), {}
    if kind == "conv2d":
        return c.large, c.small, c.weights, c.taps * c.ci, max(c.taps * c.co, c.positions), {"stride": c.s}
    return c.small, c.large, c.weights, c.taps * c.co, max(c.taps * c.ci, c.positions), {"stride": c.s}
