"""Shapes of the kernel checks: paper64's layers with a small batch, and odd ones; and the layers that are drawn for them.

Axis letters: N images, H W rows and columns of the large image of a convolution, CI its channels, CO those of the small image, S stride,
C channels, G groups of images with batch statistics of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from kernel_check import Draw, Slot

EPS = 1e-5  # of batch norm, in every case


class Conv(NamedTuple):
    """A 5x5 convolution from [n, h, w, ci] to co channels; an upconv is its transpose. ``groups``: of the images' statistics."""

    name: str
    n: int
    h: int
    w: int
    ci: int
    co: int
    s: int
    groups: tuple[int, ...] = ()
    kernel: int = 5

    @property
    def small(self) -> tuple[int, ...]:
        return (self.n, -(-self.h // self.s), -(-self.w // self.s), self.co)

    @property
    def large(self) -> tuple[int, ...]:
        return (self.n, self.h, self.w, self.ci)

    @property
    def weights(self) -> tuple[int, ...]:
        return (self.kernel, self.kernel, self.ci, self.co)

    @property
    def lots(self) -> tuple[int, ...]:
        return self.groups or (self.n,)

    @property
    def label(self) -> str:
        return f"{self.name} {self.n}x{self.h}x{self.w}, {self.ci}-{self.co}, stride {self.s}, groups {self.lots}"


class Dense(NamedTuple):
    """A linear layer of n rows. ``channels``: the channels of the image that its input was flattened from."""

    name: str
    n: int
    inputs: int
    outputs: int
    channels: int
    groups: tuple[int, ...] = ()

    @property
    def lots(self) -> tuple[int, ...]:
        return self.groups or (self.n,)

    @property
    def label(self) -> str:
        return f"{self.name} {self.n}x{self.inputs}-{self.outputs}, groups {self.lots}"


class Shapes(NamedTuple):
    """``convs``: with batch norm; ``plain``: without (bias and an activation); ``upconvs``; ``dense``; ``maps``: [N, ..., C]."""

    convs: list[Conv]
    plain: list[Conv]
    upconvs: list[Conv]
    dense: list[Dense]
    maps: list[tuple[tuple[int, ...], tuple[int, ...]]]


PAPER = Shapes(
    convs=[
        Conv("enc conv1", 4, 64, 64, 3, 64, 2), Conv("enc conv2", 4, 32, 32, 64, 128, 2), Conv("enc conv3", 4, 16, 16, 128, 256, 2),
        Conv("dis conv2", 6, 64, 64, 32, 128, 2, (2, 2, 2)), Conv("dis conv3", 6, 32, 32, 128, 256, 2),
        Conv("dis conv4", 6, 16, 16, 256, 256, 2, (2, 4)), Conv("odd", 3, 9, 13, 20, 24, 2, (1, 2)), Conv("odd", 5, 7, 11, 48, 40, 2),
        Conv("small32 conv3", 3, 16, 16, 32, 48, 2, (1, 1, 1)), Conv("3x3", 2, 8, 8, 16, 32, 2, (), 3),
    ],
    plain=[
        Conv("dis conv1", 6, 64, 64, 3, 32, 1), Conv("dec image", 4, 64, 64, 32, 3, 1), Conv("grey", 3, 32, 32, 1, 16, 1),
        Conv("odd", 3, 7, 9, 5, 7, 1), Conv("odd", 2, 11, 6, 24, 3, 1), Conv("wide", 2, 12, 12, 32, 48, 1),
    ],
    upconvs=[
        Conv("dec up1", 4, 16, 16, 256, 256, 2, (2, 2)), Conv("dec up2", 4, 32, 32, 128, 256, 2), Conv("dec up3", 4, 64, 64, 32, 128, 2),
        Conv("odd", 3, 13, 9, 24, 20, 2, (2, 1)), Conv("small32 up3", 4, 32, 32, 16, 32, 2), Conv("few", 2, 10, 12, 8, 16, 2),
    ],
    dense=[
        Dense("enc fc", 8, 16384, 256, 256), Dense("enc mu", 8, 2048, 128, 2048), Dense("dec fc", 16, 128, 16384, 128, (8, 8)),
        Dense("dis fc", 24, 4096, 512, 256, (8, 8, 8)), Dense("dis output", 24, 512, 1, 512), Dense("odd", 5, 72, 33, 24, (2, 3)),
        Dense("conditional enc fc", 8, 16424, 256, 8), Dense("conditional dec fc", 16, 168, 4096, 168, (8, 8)),
        Dense("odd conditional", 6, 4169, 48, 11, (2, 4)),
    ],
    maps=[((6, 32, 32, 128), (6,)), ((6, 8, 8, 256), (2, 4)), ((24, 512), (8, 8, 8)), ((5, 7, 9, 33), (2, 3))],
)  # fmt: skip

#: A part of them, for further precisions and paths.
CORE = Shapes(
    convs=[c for c in PAPER.convs if c.name in ("enc conv2", "dis conv2", "3x3") or (c.name == "odd" and c.ci % 8)],
    plain=[c for c in PAPER.plain if c.name in ("dis conv1", "dec image") or c.ci == 5],
    upconvs=[c for c in PAPER.upconvs if c.name == "dec up3" or (c.name == "odd" and c.ci % 16)],
    dense=[c for c in PAPER.dense if c.name in ("enc mu", "dis output", "odd")],
    maps=PAPER.maps[1:],
)

TINY = Shapes(
    convs=[Conv("tma", 2, 8, 8, 16, 32, 2), Conv("odd", 3, 5, 7, 12, 24, 2, (1, 2)), Conv("image", 2, 8, 8, 3, 16, 2)],
    plain=[Conv("image in", 2, 8, 8, 3, 16, 1), Conv("image out", 2, 8, 8, 16, 3, 1)],
    upconvs=[Conv("even", 2, 8, 8, 16, 16, 2), Conv("odd", 3, 7, 5, 12, 20, 2, (2, 1))],
    dense=[Dense("even", 4, 64, 32, 16, (2, 2)), Dense("odd", 5, 24, 7, 12)],
    maps=[((3, 4, 5, 12), (1, 2)), ((4, 16), (4,))],
)


class Norm(NamedTuple):
    """A batch norm layer's forward, consistent: y = relu(γ (pre − mean) rstd + β), nowhere so near 0 that rounding turns the mask."""

    y: Slot
    pre: Slot
    mean: Slot
    var: Slot
    gamma: Slot
    beta: Slot

    def error(self, d: Draw) -> Slot:
        return d.act(*self.y.shape)


def spread(vector: np.ndarray, groups: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """[G, C] → [N, 1, ..., C]: each group's row at each of its images."""
    return np.repeat(vector, groups, axis=0).reshape(shape[0], *(1,) * (len(shape) - 2), shape[-1])


def normal_layer(d: Draw, shape: tuple[int, ...], groups: tuple[int, ...], channels: int | None = None) -> Norm:
    """Draws a `Norm` of [N, ..., C]; the statistics are near pre's own but not equal to them: no operation may recompute them."""
    c = channels or shape[-1]
    mean, var = d.wide(len(groups), c, scale=0.3), d.given(0.5 + d.rng.random((len(groups), c)), "wide")
    gamma, beta = d.wide(c, scale=0.3, shift=1.0), d.wide(c, scale=0.3)
    image = (shape[0], shape[1] // c, c) if len(shape) == 2 else shape
    rstd = 1.0 / np.sqrt(var.values + EPS)

    def line(pre: np.ndarray) -> np.ndarray:
        return gamma.values * (pre - spread(mean.values, groups, image)) * spread(rstd, groups, image) + beta.values

    pre = d.act(*image).values
    for _ in range(8):
        near = np.abs(line(pre)) < 1e-3
        pre = np.where(near, d.act(*image).values, pre)
    assert not (np.abs(line(pre)) < 1e-5).any()
    y = d.given(np.maximum(line(pre), 0.0).reshape(shape))
    return Norm(y, d.given(pre.reshape(shape)), mean, var, gamma, beta)


def masked_sums(d: Draw, g: np.ndarray, layer: Norm, groups: tuple[int, ...]) -> Slot:
    """Σ g and Σ g x̂ of each group: [2, G, C], of an error that is masked already."""
    xhat = (layer.pre.values - spread(layer.mean.values, groups, g.shape)) / np.sqrt(spread(layer.var.values, groups, g.shape) + EPS)
    ends = np.cumsum((0, *groups))
    axes = tuple(range(g.ndim - 1))
    sums = [[a[i:j].sum(axes) for i, j in zip(ends, ends[1:], strict=False)] for a in (g, g * xhat)]
    return d.given(np.array(sums), "wide")


def weights(d: Draw, *shape: int) -> Slot:
    """Weights of about the size that keeps a layer's output near 1."""
    return d.act(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)


def below_norm(d: Draw, shape: tuple[int, ...], groups: tuple[int, ...], channels: int | None = None) -> Any:
    """A `kernels.Previous` with batch norm for an error of ``shape``, its sums as an output."""
    from kernels.contract.previous import Previous

    layer = normal_layer(d, shape, groups, channels)
    sums = d.out(2, len(groups), channels or shape[-1], role="wide", kind="loose")
    return Previous(layer.y, layer.pre, layer.mean, layer.var, layer.gamma, layer.beta, EPS, groups, sums)


def below_relu(d: Draw, shape: tuple[int, ...]) -> Any:
    """A `Previous` of ReLU alone."""
    from kernels.contract.previous import Previous

    y = d.given(np.maximum(d.act(*shape).values, 0.0))
    return Previous(y, None, None, None, None, None, 0.0, (shape[0],), d.out(1, 1, shape[-1], role="wide", kind="loose"))
