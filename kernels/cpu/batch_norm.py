"""Batch norm with an optional ReLU behind it, and its gradient, in row pieces that never cross a group; contract:
`kernels.contract.batch_norm`.
"""

from __future__ import annotations

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.previous import Previous
from kernels.cpu.activations import clip
from kernels.cpu.reduce import repeated, row_pieces, sum_products, sum_rows, widen
from kernels.cpu.threads import parallel, scratch

Cut = tuple[int, int, int]  # group, first row, last row


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _cuts(x: np.ndarray, groups: tuple[int, ...]) -> tuple[list[Cut], np.ndarray]:
    """Row pieces that never cross a group, and the row count M of each group."""
    per_image = x.size // (len(x) * x.shape[-1])
    cuts, start = [], 0
    for g, images in enumerate(groups):
        rows = images * per_image
        cuts += [(g, start + a, start + b) for a, b in row_pieces(rows, x.shape[-1])]
        start += rows
    return cuts, np.array(groups, np.float64)[:, None] * per_image


def batch_norm_statistics(mean: np.ndarray, var: np.ndarray, x: np.ndarray, groups: tuple[int, ...]) -> None:
    """Pieces combined by Chan et al.'s formula in float64."""
    rows, c = _rows(x), x.shape[-1]
    cuts, count = _cuts(x, groups)
    means, squares = np.empty((len(cuts), c)), np.empty((len(cuts), c))

    def work(i: int) -> None:
        _, a, b = cuts[i]
        piece = rows[a:b]
        means[i] = sum_rows(piece) / (b - a)
        wide = widen(piece)
        centred = scratch("bn", wide.shape, x.dtype)
        np.subtract(wide, repeated(means[i].astype(x.dtype), wide), out=centred)
        centred = centred.reshape(piece.shape)
        squares[i] = sum_products(centred, centred)

    parallel(work, range(len(cuts)))
    group = np.array([cut[0] for cut in cuts])
    size = np.array([b - a for _, a, b in cuts], np.float64)[:, None]
    for g in range(len(groups)):
        own = group == g
        centre = (means[own] * size[own]).sum(axis=0) / count[g]
        mean[g] = centre
        var[g] = (squares[own] + size[own] * (means[own] - centre) ** 2).sum(axis=0) / count[g]


def batch_norm_forward(
    y: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    groups: tuple[int, ...], *, eps: float, relu: bool = False, running: Running | None = None,
) -> None:  # fmt: skip
    xs, ys = _rows(x), _rows(y)
    scale = gamma / np.sqrt(var + x.dtype.type(eps))

    def work(cut: Cut) -> None:
        g, a, b = cut
        source, out = widen(xs[a:b]), widen(ys[a:b])
        np.subtract(source, repeated(mean[g], out), out=out)  # before scaling: x · scale − mean · scale would cancel
        out *= repeated(scale[g], out)
        out += repeated(beta, out)
        if relu:
            clip(out, out)

    parallel(work, _cuts(x, groups)[0])
    move_running(running, mean, var, groups)


def _mask_and_sum(
    g: np.ndarray, dy: np.ndarray, x: np.ndarray | None, y: np.ndarray | None, mean: np.ndarray | None, cuts: list[Cut], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """g = dy · [y > 0] (dy where y is None), by rows [R, C]; returns Σ g and Σ g (x − mean) of each of ``count`` groups, float64
    (the latter empty where x is None)."""
    c = g.shape[1]
    sums, products = np.empty((len(cuts), c)), np.empty((len(cuts) if x is not None else 0, c))

    def work(i: int) -> None:
        group, a, b = cuts[i]
        wide = widen(g[a:b])
        if y is not None:
            positive = scratch("positive", wide.shape, bool)
            np.greater(widen(y[a:b]), 0, out=positive)
            np.multiply(widen(dy[a:b]), positive, out=wide)
        elif g is not dy:
            np.copyto(wide, widen(dy[a:b]))
        sums[i] = sum_rows(g[a:b])
        if x is not None and mean is not None:
            centred = scratch("bn", wide.shape, g.dtype)
            np.subtract(widen(x[a:b]), repeated(mean[group], wide), out=centred)
            products[i] = sum_products(centred.reshape(b - a, c), g[a:b])

    parallel(work, range(len(cuts)))
    groups = np.array([cut[0] for cut in cuts])

    def total(parts: np.ndarray) -> np.ndarray:
        return np.stack([parts[groups == i].sum(axis=0) for i in range(count)])

    return total(sums), total(products) if x is not None else products


def batch_norm_backward(
    dx: np.ndarray, dy: np.ndarray, x: np.ndarray, y: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray,
    groups: tuple[int, ...], *, eps: float, relu: bool = False, batch_statistics: bool = True,
    dgamma: np.ndarray | None = None, dbeta: np.ndarray | None = None, sums: np.ndarray | None = None,
) -> None:  # fmt: skip
    xs, ys, out, errors = _rows(x), _rows(y), _rows(dx), _rows(dy)
    cuts, count = _cuts(x, groups)
    rstd = 1.0 / np.sqrt(var.astype(np.float64) + eps)
    if sums is None:
        g_sum, products = _mask_and_sum(out, out if dx is dy else errors, xs, ys if relu else None, mean, cuts, len(groups))
        g_xhat = products * rstd
    else:
        g_sum, g_xhat = sums[0].astype(np.float64), sums[1].astype(np.float64)
        if dx is not dy:
            np.copyto(dx, dy)
    if dbeta is not None:
        dbeta[...] = g_sum.sum(axis=0)
    if dgamma is not None:
        dgamma[...] = g_xhat.sum(axis=0)
    # dx = scale · g + slope · (x − mean) + offset, the coefficients a channel and group
    scale = gamma * rstd
    slope = (-scale * rstd * g_xhat / count).astype(x.dtype)
    offset = (-scale * g_sum / count).astype(x.dtype)
    scale = scale.astype(x.dtype)

    def finish(cut: Cut) -> None:
        g, a, b = cut
        wide = widen(out[a:b])
        wide *= repeated(scale[g], wide)
        if batch_statistics:
            centred = scratch("bn", wide.shape, x.dtype)
            np.subtract(widen(xs[a:b]), repeated(mean[g], wide), out=centred)
            centred *= repeated(slope[g], wide)
            wide += centred
            wide += repeated(offset[g], wide)

    parallel(finish, cuts)


def finish_previous(dx: np.ndarray, previous: Previous | None) -> None:
    """What a dgrad does for the previous layer: dx ← g = dx · [y > 0], and the sums of `Previous`, in place."""
    if previous is None:
        return
    c = previous.y.shape[-1] if previous.pre is None else len(previous.gamma)
    shape = (len(dx), dx.size // (len(dx) * c), c)
    y, g = previous.y.reshape(shape), dx.reshape(shape)
    cuts, _ = _cuts(y, previous.groups)
    if previous.pre is None:
        sums, _ = _mask_and_sum(_rows(g), _rows(g), None, _rows(y), None, cuts, len(previous.groups))
        if previous.sums is not None:
            previous.sums[0] = sums
        return
    rows = _rows(g)
    sums, products = _mask_and_sum(rows, rows, previous.pre.reshape(-1, c), _rows(y), previous.mean, cuts, len(previous.groups))
    previous.sums[0], previous.sums[1] = sums, products / np.sqrt(previous.var.astype(np.float64) + previous.eps)


def move_running(running: Running | None, mean: np.ndarray, var: np.ndarray, groups: tuple[int, ...]) -> None:
    """Move running statistics, if there are any, by those of the batch."""
    if running is None:
        return
    share = np.array(groups, np.float64) / sum(groups)
    for kept, statistics in ((running.mean, mean), (running.var, var)):
        kept *= running.momentum
        kept += (1.0 - running.momentum) * (share @ statistics)
