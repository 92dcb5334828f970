"""Layers over the operations of kernels: plain ones (Conv, Linear) and the fused block op + batch norm + ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels import Array, Previous, Running
from models.layer import EPS_CONV, EPS_LINEAR, MOMENTUM, Context, Layer, Pass, Saved
from models.parameter import Parameter, Statistic

KERNEL = 5  # every convolution of the paper is 5x5


def _norm(name: str, channels: int) -> tuple[list[Parameter], list[Statistic]]:
    parameters = [Parameter(f"{name}/gamma", (channels,), start=1.0), Parameter(f"{name}/beta", (channels,))]
    statistics = [Statistic(f"{name}/running_mean", channels, 0.0), Statistic(f"{name}/running_var", channels, 1.0)]
    return parameters, statistics


def _conv_weight(name: str, ci: int, co: int, *, transposed: bool = False) -> Parameter:
    """[5, 5, Ci, Co], or [5, 5, Co, Ci] for an upconv, whose fan-in the authors count as Co · 25."""
    shape = (KERNEL, KERNEL, co, ci) if transposed else (KERNEL, KERNEL, ci, co)
    fan_in = KERNEL * KERNEL * (co if transposed else ci)
    return Parameter(f"{name}/weight", shape, fan_in=fan_in, decay=True)


def _flat(array: Array) -> Array:
    """[N, h, w, c] seen as [N, h·w·c]; None stays None (a gradient that is not wanted)."""
    return None if array is None else array.reshape(len(array), -1)


def _flat_previous(previous: Previous | None) -> Previous | None:
    """For a linear layer after images: their arrays flattened, the channels still those of gamma."""
    return previous._replace(y=_flat(previous.y), pre=_flat(previous.pre)) if previous is not None else None


class Conv(Layer):
    """Convolution with an optional bias and activation ("relu", "tanh" or None) and no batch norm."""

    def __init__(self, context: Context, name: str, ci: int, co: int, *, stride: int = 1, bias: bool = True, activation: str | None = None):
        self.weight, self.bias = _conv_weight(name, ci, co), Parameter(f"{name}/bias", (co,)) if bias else None
        super().__init__(context, [self.weight, *([self.bias] if self.bias else [])])
        self.stride, self.activation = stride, activation

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, h, w, _ = shape
        return n, -(-h // self.stride), -(-w // self.stride), self.weight.shape[3]

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        y = self.pool.take(self.output_shape(x.shape)) if out is None else out
        bias = self.bias.data if self.bias else None
        self.engine.conv2d_forward(y, x, self.weight.compute, bias, stride=self.stride, activation=self.activation)
        return y, Saved(x, y, (y,) if out is None else ())

    def backward(
        self, dy: Array, saved: Saved, *, dx: bool, dw: bool, done: Previous | None = None, previous: Previous | None = None,
        rows: slice = slice(None),
    ) -> Array:  # fmt: skip
        """``rows``: the images whose error at x is wanted (all by default)."""
        if self.activation and done is None:
            (self.engine.relu_backward if self.activation == "relu" else self.engine.tanh_backward)(dy, dy, saved.y)
        result = self.pool.take(saved.x[rows].shape) if dx else None
        with self.engine.unchanged(dy):
            if dw:
                dbias = self.bias.grad if self.bias and done is None else None  # else it came with dy
                self.engine.conv2d_wgrad(self.weight.grad, saved.x, dy, stride=self.stride, dbias=dbias)
            if dx:
                self.engine.conv2d_dgrad(result, dy[rows], self.weight.compute, stride=self.stride, previous=previous)
        self.pool.give(dy)
        return result

    def as_previous(self, saved: Saved, dw: bool) -> Previous | None:
        if self.activation != "relu":
            return None
        sums = self.bias.grad.reshape(1, 1, -1) if self.bias and dw else None
        return Previous(saved.y, None, None, None, None, None, 0.0, (len(saved.y),), sums)


class Linear(Layer):
    """x · w + bias, wide: losses read it. An image batch is flattened in (h, w, c) order. The latent heads pass ``decay=False``."""

    def __init__(self, context: Context, name: str, inputs: int, outputs: int, *, decay: bool = True):
        self.weight = Parameter(f"{name}/weight", (inputs, outputs), fan_in=inputs, decay=decay)
        self.bias = Parameter(f"{name}/bias", (outputs,))
        super().__init__(context, [self.weight, self.bias])

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], self.weight.shape[1]

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        y = self.pool.take(self.output_shape(x.shape), self.engine.wide) if out is None else out
        self.engine.linear_forward(y, _flat(x), self.weight.compute, self.bias.data)
        return y, Saved(x, y, (y,) if out is None else ())

    def backward(
        self, dy: Array, saved: Saved, *, dx: bool, dw: bool, done: Previous | None = None, previous: Previous | None = None
    ) -> Array:  # fmt: skip
        if dw:
            self.engine.linear_wgrad(self.weight.grad, _flat(saved.x), dy, dbias=self.bias.grad)
        result = None
        if dx:
            result = self.pool.take(saved.x.shape)
            self.engine.linear_dgrad(_flat(result), dy, self.weight.compute, previous=_flat_previous(previous))
        self.pool.give(dy)
        return result


class BNReLU(Layer):
    """Batch norm and ReLU on their own: behind Dis_l, which the metric reads before them."""

    def __init__(self, context: Context, name: str, channels: int, eps: float = EPS_CONV):
        parameters, statistics = _norm(name, channels)
        super().__init__(context, parameters, statistics)
        self.gamma, self.beta = parameters[-2:]
        self.running_mean, self.running_var = statistics
        self.eps = eps

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def statistics_for(self, pass_: Pass) -> tuple[Array, Array]:
        """Arrays for the batch's mean and variance [G, C], or the running statistics as [1, C]."""
        if not pass_.train:
            return self.running_mean.data.reshape(1, -1), self.running_var.data.reshape(1, -1)
        shape = (len(pass_.groups), self.gamma.shape[0])
        return self.pool.take(shape, self.engine.wide), self.pool.take(shape, self.engine.wide)

    def running(self, pass_: Pass) -> Running | None:
        """The running statistics where a pass moves them."""
        moves = pass_.train and pass_.update_running
        return Running(self.running_mean.data, self.running_var.data, MOMENTUM) if moves else None

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        y = self.pool.take(x.shape) if out is None else out
        mean, var = self.statistics_for(pass_)
        if pass_.train:
            self.engine.batch_norm_statistics(mean, var, x, pass_.groups)
        gamma, beta = self.gamma.data, self.beta.data
        self.engine.batch_norm_forward(y, x, mean, var, gamma, beta, pass_.groups, eps=self.eps, relu=True, running=self.running(pass_))
        own = (mean, var) if pass_.train else ()
        return y, Saved(x, y, (*own, *((y,) if out is None else ())), (x, mean, var, pass_.groups), pass_.train)

    def backward(
        self, dy: Array, saved: Saved, *, dx: bool, dw: bool, done: Previous | None = None, previous: Previous | None = None
    ) -> Array:  # fmt: skip
        assert previous is None  # Dis_l is no ReLU's output
        x, mean, var, groups = saved.norm
        dgamma, dbeta = (self.gamma.grad, self.beta.grad) if dw else (None, None)
        self.engine.batch_norm_backward(
            dy, dy, x, saved.y, mean, var, self.gamma.data, groups, eps=self.eps, relu=True, batch_statistics=saved.train,
            dgamma=dgamma, dbeta=dbeta, sums=self._consumed(done),
        )  # fmt: skip
        return dy

    def as_previous(self, saved: Saved, dw: bool) -> Previous | None:
        pre, mean, var, groups = saved.norm
        sums = self.pool.take((2, *mean.shape), self.engine.wide)
        return Previous(saved.y, pre, mean, var, self.gamma.data, self.beta.data, self.eps, groups, sums)

    def _consumed(self, done: Previous | None) -> Array:
        """The sums that came with dy, or None. Back in the pool: nothing is taken from it before they are read."""
        if done is not None:
            self.pool.give(done.sums)
        return done.sums if done else None


class _Fused(BNReLU):
    """op → batch norm → ReLU as one operation of the engine; subclasses give it and the weight."""

    options: dict[str, Any]

    def __init__(self, context: Context, name: str, weight: Parameter, channels: int, eps: float):
        super().__init__(context, name, channels, eps)
        self.weight = weight
        self.parameters = [weight, *self.parameters]

    @property
    def operations(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """Forward and backward, of the engine."""
        raise NotImplementedError

    @staticmethod
    def flat(array: Array) -> Array:
        """The array as the operation wants it: images for a convolution."""
        return array

    @staticmethod
    def flat_previous(previous: Previous | None) -> Previous | None:
        return previous

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        shape = self.output_shape(x.shape)
        y, pre = self.pool.take(shape) if out is None else out, self.pool.take(shape)
        mean, var = self.statistics_for(pass_)
        flat = self.flat
        self.operations[0](
            flat(y), flat(pre), mean, var, flat(x), self.weight.compute, self.gamma.data, self.beta.data,
            pass_.groups, eps=self.eps, batch_statistics=pass_.train, running=self.running(pass_), **self.options,
        )  # fmt: skip
        own = (mean, var) if pass_.train else ()
        return y, Saved(x, y, (pre, *own, *((y,) if out is None else ())), (pre, mean, var, pass_.groups), pass_.train)

    def backward(
        self, dy: Array, saved: Saved, *, dx: bool, dw: bool, done: Previous | None = None, previous: Previous | None = None
    ) -> Array:  # fmt: skip
        pre, mean, var, groups = saved.norm
        joined = saved.source is not None  # with attributes, at which no error is wanted: the product that follows leaves their weights out
        result = self.pool.take((saved.source if joined else saved.x).shape) if dx else None
        flat, update = self.flat, self.weight.fused_update if dw else None
        gradients = (None if update else self.weight.grad, self.gamma.grad, self.beta.grad) if dw else (None, None, None)
        self.operations[1](
            None if joined else flat(result), *gradients, flat(dy), flat(saved.y), flat(pre), mean, var, flat(saved.x),
            self.weight.compute, self.gamma.data, groups, eps=self.eps, batch_statistics=saved.train, sums=self._consumed(done),
            previous=None if joined else self.flat_previous(previous), **self.options,
        )  # fmt: skip
        if joined and dx:
            rows = self.weight.compute[: flat(result).shape[1]]
            self.engine.linear_dgrad(flat(result), flat(dy), rows, previous=self.flat_previous(previous))
        if update:  # last: the error at x needed the weights as they were
            update(flat(saved.x), flat(dy))
        self.pool.give(dy)
        return result


class ConvBNReLU(_Fused):
    """Stride-2 convolution, batch norm, ReLU."""

    options = {"stride": 2}

    @property
    def operations(self) -> tuple[Callable[..., None], Callable[..., None]]:
        return self.engine.conv2d_bn_relu_forward, self.engine.conv2d_bn_relu_backward

    def __init__(self, context: Context, name: str, ci: int, co: int):
        super().__init__(context, name, _conv_weight(name, ci, co), co, EPS_CONV)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, h, w, _ = shape
        return n, -(-h // 2), -(-w // 2), self.weight.shape[3]


class UpconvBNReLU(_Fused):
    """Fractional-strided convolution to exactly twice the size, batch norm, ReLU."""

    options = {"stride": 2}

    @property
    def operations(self) -> tuple[Callable[..., None], Callable[..., None]]:
        return self.engine.upconv_bn_relu_forward, self.engine.upconv_bn_relu_backward

    def __init__(self, context: Context, name: str, ci: int, co: int):
        super().__init__(context, name, _conv_weight(name, ci, co, transposed=True), co, EPS_CONV)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        n, h, w, _ = shape
        return n, 2 * h, 2 * w, self.weight.shape[2]


class LinearBNReLU(_Fused):
    """Linear layer, batch norm for each unit, ReLU.

    Images come in flattened in (h, w, c) order, and go out so with ``image=(h, w, c)``; no copy either way. A conditional network's
    layer has ``attributes`` more inputs, which the pass brings along: they are put behind x, in an array of the layer's own.
    """

    options = {}

    @property
    def operations(self) -> tuple[Callable[..., None], Callable[..., None]]:
        return self.engine.linear_bn_relu_forward, self.engine.linear_bn_relu_backward

    def __init__(
        self, context: Context, name: str, inputs: int, outputs: int, *, image: tuple[int, int, int] | None = None, attributes: int = 0
    ):  # fmt: skip
        weight = Parameter(f"{name}/weight", (inputs + attributes, outputs), fan_in=inputs + attributes, decay=True)
        super().__init__(context, name, weight, outputs, EPS_LINEAR)
        self.shape = image or (outputs,)
        self.is_image = image is not None
        self.attributes = attributes

    def forward(self, x: Array, pass_: Pass, out: Array = None) -> tuple[Array, Saved]:
        if not self.attributes:
            return super().forward(x, pass_, out)
        joined = self.pool.take((len(x), self.weight.shape[0]))
        self.engine.concatenate(joined, _flat(x), pass_.attributes[: len(x)])
        y, saved = super().forward(joined, pass_, out)
        return y, saved._replace(own=(*saved.own, joined), source=x)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], *self.shape)

    def as_previous(self, saved: Saved, dw: bool) -> Previous | None:
        """An image has statistics a unit, position by position: none for a next layer that sums over positions."""
        return None if self.is_image else super().as_previous(saved, dw)

    flat = staticmethod(_flat)
    flat_previous = staticmethod(_flat_previous)
