"""Shapes of the kernel checks: paper64's layers with a small batch, and odd ones; and the layers that are drawn for them.

Axis letters: N images, H W rows and columns of the large image of a convolution, CI its channels, CO those of the small image, S stride,
C channels, G groups of images with batch statistics of their own.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from kernel_draw import Draw, Slot

EPS = 1e-5  # of batch norm, in every case


class Conv(NamedTuple):
    """A convolution from [n, h, w, ci] to co channels; an upconv is its transpose. ``groups``: of the images' statistics."""

    name: str
    n: int
    h: int
    w: int
    ci: int
    co: int
    s: int
    groups: tuple[int, ...] = ()
    kernel: tuple[int, int] = (5, 5)

    @property
    def small(self) -> tuple[int, ...]:
        return (self.n, -(-self.h // self.s), -(-self.w // self.s), self.co)

    @property
    def large(self) -> tuple[int, ...]:
        return (self.n, self.h, self.w, self.ci)

    @property
    def weights(self) -> tuple[int, ...]:
        return (*self.kernel, self.ci, self.co)

    @property
    def lots(self) -> tuple[int, ...]:
        return self.groups or (self.n,)

    @property
    def label(self) -> str:
        kernel = "" if self.kernel == (5, 5) else f", kernel {self.kernel[0]}x{self.kernel[1]}"
        return f"{self.name} {self.n}x{self.h}x{self.w}, {self.ci}-{self.co}, stride {self.s}{kernel}, groups {self.lots}"

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def positions(self) -> int:
        return math.prod(self.small[:3])


class Dense(NamedTuple):
    """A linear layer of n rows. ``channels``: the channels of the image that its input was flattened from; 0 where it was none."""

    name: str
    n: int
    inputs: int
    outputs: int
    channels: int = 0
    groups: tuple[int, ...] = ()

    @property
    def lots(self) -> tuple[int, ...]:
        return self.groups or (self.n,)

    @property
    def label(self) -> str:
        return f"{self.name} {self.n}x{self.inputs}-{self.outputs}, groups {self.lots}"


class Shapes(NamedTuple):
    """``convs``: with batch norm; ``plain``: without (bias and an activation); ``upconvs``; ``dense``; ``maps``: [N, ..., C] and groups;
    ``vectors``: for what is done element by element. ``products``: convolutions and linear layers for their three products alone, and
    ``forwards``, ``dgrads`` and ``wgrads`` convolutions for one of them. ``variants``: of each block, and below each dgrad, or
    else of the first block of its kind.
    """

    convs: list[Conv]
    plain: list[Conv]
    upconvs: list[Conv]
    dense: list[Dense]
    maps: list[tuple[tuple[int, ...], tuple[int, ...]]]
    vectors: list[tuple[int, ...]]
    products: tuple[Conv | Dense, ...] = ()
    forwards: tuple[Conv, ...] = ()
    dgrads: tuple[Conv, ...] = ()
    wgrads: tuple[Conv, ...] = ()
    variants: bool = True


PAPER = Shapes(
    convs=[
        Conv("enc conv1", 4, 64, 64, 3, 64, 2), Conv("enc conv2", 4, 32, 32, 64, 128, 2), Conv("enc conv3", 4, 16, 16, 128, 256, 2),
        Conv("dis conv2", 6, 64, 64, 32, 128, 2, (2, 2, 2)), Conv("dis conv3", 6, 32, 32, 128, 256, 2),
        Conv("dis conv4", 6, 16, 16, 256, 256, 2, (2, 4)), Conv("odd", 3, 9, 13, 20, 24, 2, (1, 2)), Conv("odd", 5, 7, 11, 48, 40, 2),
        Conv("small32 conv3", 3, 16, 16, 32, 48, 2, (1, 1, 1)), Conv("3x3", 2, 8, 8, 16, 32, 2, (), (3, 3)),
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
    vectors=[(6, 32, 32, 128), (6, 8, 8, 256), (24, 512), (5, 7, 9, 33)],
)  # fmt: skip

#: A part of them, for further precisions and paths.
CORE = Shapes(
    convs=[c for c in PAPER.convs if c.name in ("enc conv2", "dis conv2", "3x3") or (c.name == "odd" and c.ci % 8)],
    plain=[c for c in PAPER.plain if c.name in ("dis conv1", "dec image") or c.ci == 5],
    upconvs=[c for c in PAPER.upconvs if c.name == "dec up3" or (c.name == "odd" and c.ci % 16)],
    dense=[c for c in PAPER.dense if c.name in ("enc mu", "dis output", "odd")],
    maps=PAPER.maps[1:],
    vectors=PAPER.vectors[1:],
)

#: What the paper's layers leave out, each for its reason, and small enough for the interpreter. The GPU takes them too.
ODD = Shapes(
    convs=[
        Conv("odd", 3, 5, 7, 12, 24, 2, (1, 2)), Conv("tma", 2, 8, 8, 16, 32, 2), Conv("groups", 4, 6, 8, 16, 12, 2, (1, 2, 1), (3, 3)),
        Conv("image, groups", 3, 9, 7, 3, 20, 1, (1, 2)),
    ],
    plain=[Conv("image out", 2, 8, 8, 16, 3, 1), Conv("image in", 2, 8, 8, 3, 16, 1)],
    upconvs=[
        Conv("odd", 3, 7, 5, 12, 20, 2, (2, 1)), Conv("shuffled", 4, 8, 8, 16, 20, 2, (1, 2, 1)),
        Conv("apart", 4, 6, 8, 12, 16, 2, (1, 1, 1, 1), (3, 3)),
    ],
    dense=[Dense("even", 4, 64, 32, 16, (2, 2)), Dense("odd", 5, 24, 7, 12), Dense("groups", 64, 32, 12, 16, (16, 32, 16))],
    maps=[
        ((3, 4, 5, 12), (1, 2)), ((4, 16), (4,)), ((1, 1), (1,)), ((5, 1), (2, 3)),  # one row, one channel
        ((4, 3, 3, 3), (1, 2, 1)), ((3, 7, 5, 24), (1, 2)),  # lanes that do not divide the threads; vectors, three lanes of four used
        ((2, 33, 33, 8), (2,)), ((6, 300), (4, 2)), ((5, 2056), (5,)),  # more rows than a tile; two blocks of columns: single, vectors
    ],
    vectors=[(3, 5), (1,), (16 * 256,), (2, 3, 1031)],  # an incomplete block, one element, exactly one block, one and a part
    products=(
        # positions that are boxes
        Conv("rows ≠ columns", 3, 8, 16, 32, 20, 1, (), (3, 3)), Conv("1x1", 2, 4, 4, 48, 16, 1, (), (1, 1)),
        Conv("one pixel", 1, 1, 1, 16, 16, 1), Conv("kernel larger than the picture", 1, 2, 4, 16, 16, 2, (), (7, 7)),
        Conv("boxes beyond the last image", 5, 2, 4, 16, 18, 1, (), (3, 3)), Conv("columns in pieces", 5, 4, 4, 16, 250, 1, (), (1, 1)),
        Dense("one image", 1, 9, 5), Dense("one output", 5, 19, 1), Dense("one input", 3, 1, 4), Dense("nothing divides", 7, 300, 129),
        Dense("rows beyond a tile", 130, 32, 16), Dense("boxes", 16, 128, 72), Dense("flattened", 70, 48, 10, 16, (40, 30)),
        Dense("update", 5, 70, 66), Dense("attributes", 5, 99, 24), Dense("attributes", 5, 136, 24), Dense("attributes", 5, 169, 24),
        # and that are none
        Conv("channels padded", 2, 7, 9, 12, 18, 2), Conv("even height, odd width", 1, 6, 9, 16, 11, 2),
        Conv("most pixels unread", 3, 5, 6, 16, 24, 2, (), (1, 1)), Conv("not square", 2, 6, 7, 9, 17, 2, (), (3, 5)),
        Conv("kernel of one row", 2, 6, 6, 16, 16, 2, (), (1, 5)), Conv("one row", 2, 1, 9, 16, 16, 2),
        Conv("largest kernel", 1, 3, 3, 16, 16, 1, (), (31, 1)),
    ),
    forwards=(
        # into at most four channels
        Conv("few, two images a tile", 3, 8, 4, 16, 3, 1), Conv("few, one channel", 1, 4, 64, 48, 1, 1),
        Conv("few, two pixels", 1, 1, 2, 16, 3, 1),
        Conv("few, widest row", 1, 2, 128, 16, 4, 1, (), (3, 3)), Conv("few, no box", 1, 7, 16, 16, 2, 1, (), (3, 7)),
        Conv("few, height no power of two", 2, 12, 32, 16, 3, 1), Conv("few, higher than the picture", 2, 5, 4, 16, 3, 1, (), (7, 5)),
        # from at most eight
        Conv("image, one channel", 1, 7, 5, 1, 7, 2, (), (3, 5)), Conv("image of eight", 3, 5, 6, 8, 16, 1, (), (5, 1)),
        Conv("image, two blocks of columns", 1, 6, 6, 3, 130, 1, (), (3, 3)), Conv("image, stride 2", 2, 8, 6, 3, 20, 2),
        Conv("image of four", 2, 5, 6, 4, 12, 1, (), (3, 3)), Conv("image of five", 2, 7, 6, 5, 12, 2, (), (3, 3)),
        Conv("image, whole rows a tile", 1, 16, 16, 3, 16, 1), Conv("image, part of a row a tile", 1, 2, 256, 4, 16, 1, (), (3, 3)),
        Conv("image, two in a tile", 3, 7, 8, 3, 16, 1, (), (3, 3)), Conv("image, rows end in a tile", 1, 16, 12, 3, 16, 1, (), (3, 3)),
    ),
    dgrads=(
        Conv("two groups", 4, 6, 8, 16, 9, 1, (1, 3), (3, 3)), Conv("three groups, odd rows", 3, 7, 6, 16, 16, 2, (1, 1, 1)),
        Conv("phases", 2, 8, 8, 24, 16, 2, (2,)), Conv("to an image", 3, 7, 6, 24, 3, 1, (1, 2)),
        Conv("to one channel", 3, 7, 6, 24, 1, 1, (1, 2), (3, 5)), Conv("from few, H ≠ W", 2, 16, 32, 3, 32, 1),
        Conv("from few, one channel", 1, 4, 64, 1, 48, 1), Conv("from few, no box", 1, 7, 16, 2, 16, 1, (), (3, 7)),
        Conv("to an image of four", 2, 5, 6, 12, 4, 1, (), (3, 3)), Conv("to an image of five", 2, 5, 6, 12, 5, 1, (), (3, 3)),
    ),
    wgrads=(
        # boxes of images: one tap, two taps, three units a program; and what boxes do not fit
        Conv("boxes", 16, 4, 6, 64, 24, 2, (), (3, 3)), Conv("boxes, three units", 32, 4, 4, 64, 32, 2),
        Conv("boxes of two taps", 32, 4, 4, 32, 16, 2, (), (3, 3)), Conv("boxes of two taps", 32, 2, 4, 32, 16, 2, (), (3, 5)),
        Conv("boxes of two taps", 32, 2, 4, 32, 16, 2, (), (3, 7)), Conv("boxes, stride 1", 32, 2, 3, 128, 40, 1, (), (3, 3)),
        Conv("boxes larger than the batch", 31, 4, 4, 64, 8, 2, (), (3, 3)), Conv("one tap a tile", 2, 8, 8, 64, 48, 2, (), (3, 3)),
        Conv("several taps a tile", 3, 5, 6, 24, 16, 1, (), (5, 3)), Conv("few outputs, stride 2", 2, 4, 4, 40, 3, 2, (), (3, 3)),
        Conv("image, two blocks of columns", 2, 8, 6, 3, 70, 2), Conv("image, one channel", 1, 7, 5, 1, 7, 2, (), (3, 5)),
        Conv("to an image", 2, 6, 5, 24, 3, 1), Conv("to one channel", 1, 5, 6, 20, 1, 1, (), (3, 5)),
        Conv("image of four", 2, 5, 6, 4, 12, 1, (), (3, 3)), Conv("image of five", 2, 7, 6, 5, 12, 2, (), (3, 3)),
        Conv("image of eight", 2, 5, 6, 8, 12, 1, (), (3, 3)), Conv("to an image of four", 2, 5, 6, 12, 4, 1, (), (3, 3)),
        Conv("to an image of five", 2, 5, 6, 12, 5, 1, (), (3, 3)), Conv("to an image of eight", 2, 5, 6, 12, 8, 1, (), (3, 3)),
        Conv("image, whole rows a step", 2, 16, 16, 3, 16, 1), Conv("image, part of a row a step", 1, 2, 256, 4, 16, 2, (), (3, 3)),
        Conv("image, two in a step", 3, 7, 8, 3, 16, 1, (), (3, 3)), Conv("image, rows end in a step", 1, 16, 12, 3, 16, 1, (), (3, 3)),
    ),
    variants=False,
)  # fmt: skip

#: Layers of `ODD` for a further precision or path: one of each kind.
FEW = Shapes(
    convs=ODD.convs[:1], plain=ODD.plain[:1], upconvs=ODD.upconvs[:2], dense=ODD.dense[:1], maps=ODD.maps[:2], vectors=ODD.vectors[:1],
    products=tuple(c for c in ODD.products if c.name in ("rows ≠ columns", "attributes", "update")), forwards=ODD.forwards[5:9:2],
    dgrads=ODD.dgrads[2:6], wgrads=ODD.wgrads[1:3], variants=False,
)  # fmt: skip


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


def normal_layer(d: Draw, shape: tuple[int, ...], groups: tuple[int, ...], channels: int = 0) -> Norm:
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


def previous_norm(d: Draw, shape: tuple[int, ...], groups: tuple[int, ...], channels: int = 0) -> dict[str, Any]:
    """The keyword for an error of ``shape`` that reaches a layer of batch norm and ReLU, the layer's sums as an output."""
    layer = normal_layer(d, shape, groups, channels)
    sums = d.out(2, len(groups), channels or shape[-1], role="wide", kind="loose")
    return {"previous": _previous(layer.y, layer.pre, layer.mean, layer.var, layer.gamma, layer.beta, EPS, groups, sums)}


def previous_relu(d: Draw, shape: tuple[int, ...]) -> dict[str, Any]:
    """The same for ReLU alone."""
    y = d.given(np.maximum(d.act(*shape).values, 0.0))
    sums = d.out(1, 1, shape[-1], role="wide", kind="loose")
    return {"previous": _previous(y, None, None, None, None, None, 0.0, (shape[0],), sums)}


def _previous(*parts: Any) -> Any:
    from kernels import Previous

    return Previous(*parts)
