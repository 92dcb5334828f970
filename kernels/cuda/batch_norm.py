"""Batch normalisation with an optional ReLU behind it, and its gradient: launchers of batch_norm.cu. Equations: kernels/cpu/batch_norm.py.

x, y and their errors are float32 or the engine's dtype [N, ..., C]; statistics, sums and parameters float32. Statistics are two launches,
partial sums of tiles and `partials.bn_finalise`; a backward with the sums already known is one: it reads dy and x once, and writes dx.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, channel_layout, check_values, constant, defines_of
from kernels.cuda.products.partials import bn_finalise, bn_sums_finalise
from kernels.ledger import cost
from kernels.shapes import check_array, check_groups

FILE = "batch_norm.cu"
UNROLL = 4  # rows that a thread loads at once


def _tiles(dev: Device, x: Any, groups: tuple[int, ...], wanted: int, most: int) -> tuple[Any, tuple[int, ...], int, int, int]:
    """x's rows in about ``wanted`` tiles of at most ``most`` · UNROLL rows a thread, none across a group.

    Returns (int64 [T, 4] of group, first row, end row, rows of the group; first tile of each group; lanes, vector, column blocks).
    """
    per_image = x.size // (len(x) * x.shape[-1])
    lanes, vector, column_blocks = channel_layout(x.shape[-1])
    step = UNROLL * THREADS // lanes
    size = step * min(most, blocks(len(x) * per_image, step * blocks(wanted, column_blocks)))
    starts = [0]
    for images in groups:
        starts.append(starts[-1] + blocks(images * per_image, size))

    def make() -> np.ndarray:
        rows, first = [], 0
        for g, images in enumerate(groups):
            count = images * per_image
            rows += [(g, first + a, first + min(a + size, count), count) for a in range(0, count, size)]
            first += count
        return np.array(rows, np.int64)

    return constant(dev, ("rows", groups, per_image, size), make), tuple(starts), lanes, vector, column_blocks


class BatchNorm:
    """Operations of the CUDA engine; ``device``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    wide: np.dtype[Any]

    def _check(self, x: Any, mean: Any, var: Any, groups: tuple[int, ...]) -> None:
        check_values("x", x)
        if x.ndim < 2:
            raise ValueError(f"x: got shape {x.shape}, expected at least [N, C]")
        check_groups(groups, len(x))
        for name, array in (("mean", mean), ("var", var)):
            check_array(name, array, (len(groups), x.shape[-1]), self.wide)

    def batch_norm_statistics(self, mean: Any, var: Any, x: Any, groups: tuple[int, ...]) -> None:
        """Mean and biased variance of each group: one pass over x by Welford's update, tiles combined by Chan et al.'s formula.

        Args:
            mean, var: float32 [G, C], outputs.
            x: [N, ..., C].
            groups: image counts that sum to N.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check(x, mean, var, groups)
        dev, c = self.device, x.shape[-1]
        tiles, starts, lanes, vector, column_blocks = _tiles(dev, x, groups, 512, 16)
        partial = dev.scratch("bn.partial", (len(tiles), 2, c), np.float32)
        counts = dev.scratch("bn.counts", (len(tiles),), np.float32)
        dev.cuda(
            FILE, "bn_statistics", (len(tiles), column_blocks), THREADS, partial, counts, x, tiles, *map(np.int32, (c, lanes, vector)),
            cost=cost(0, [x], [partial, counts]), defines=defines_of(x),
        )  # fmt: skip
        bn_finalise(dev, mean, var, partial, counts, starts, c)

    def batch_norm_forward(
        self, y: Any, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, groups: tuple[int, ...], *, eps: float, relu: bool = False
    ) -> None:
        """y = γ (x − mean) · rstd + β, clipped at 0 with ``relu``. For running statistics pass them as [1, C], groups (N,).

        Args:
            y: [N, ..., C], output; may be x.
            x: [N, ..., C], y's dtype.
            mean, var: float32 [G, C]. gamma, beta: float32 [C].

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check(x, mean, var, groups)
        check_array("y", y, x.shape, x.dtype)
        for name, array in (("gamma", gamma), ("beta", beta)):
            check_array(name, array, (x.shape[-1],), self.wide)
        tiles, _, lanes, vector, column_blocks = _tiles(self.device, x, groups, 2048, 2)
        self.device.cuda(
            FILE, "bn_forward", (len(tiles), column_blocks), THREADS, y, x, mean, var, gamma, beta, tiles,
            *map(np.int32, (x.shape[-1], lanes)), np.float32(eps), *map(np.int32, (relu, vector)),
            cost=cost(0, [x, mean, var, gamma, beta], [y]), defines=defines_of(x),
        )  # fmt: skip

    def batch_norm_backward(
        self, dx: Any, dy: Any, x: Any, y: Any, mean: Any, var: Any, gamma: Any, groups: tuple[int, ...], *, eps: float,
        relu: bool = False, batch_statistics: bool = True, dgamma: Any = None, dbeta: Any = None, sums: Any = None,
    ) -> None:  # fmt: skip
        """Gradient through the statistics as well (unless they are constants: ``batch_statistics=False``).

            g = dy · [y > 0],   dβ = Σ g,   dγ = Σ g x̂   (sums over all groups)
            dx = γ rstd · (g − Σ_group g / M − x̂ · Σ_group (g x̂) / M)

        Args:
            dx: [N, ..., C], output; may be dy.
            dy: [N, ..., C].
            x: the forward's input; y: its output (read only with ``relu`` and without ``sums``).
            mean, var: float32 [G, C], as in the forward. gamma: float32 [C].
            dgamma, dbeta: float32 [C], outputs, or None where they are not wanted.
            sums: float32 [2, G, C], (Σ g, Σ g x̂) of each group where they are known: then dy is g, masked already.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        self._check(x, mean, var, groups)
        masked = relu and sums is None
        for name, array in (("dx", dx), ("dy", dy), *((("y", y),) if masked else ())):
            check_array(name, array, x.shape, x.dtype)
        for name, array in (("gamma", gamma), ("dgamma", dgamma), ("dbeta", dbeta)):
            if array is not None or name == "gamma":
                check_array(name, array, (x.shape[-1],), self.wide)
        dev, c = self.device, x.shape[-1]
        mask = y if masked else None
        wanted = [array for array in (dgamma, dbeta) if array is not None]
        if sums is not None:
            check_array("sums", sums, (2, len(groups), c), self.wide)
        elif batch_statistics or wanted:
            sums = dev.scratch("bn.sums", (2, len(groups), c), np.float32)
            self._backward_sums(sums, dy, x, mask, mean, var, groups, eps)
        tiles, _, lanes, vector, column_blocks = _tiles(dev, x, groups, 2048, 2)
        reads = [dy, var, gamma, *([x, mean, sums] if batch_statistics else []), *([mask] if masked else [])]
        dev.cuda(
            FILE, "bn_backward", (len(tiles), column_blocks), THREADS, dx, dgamma, dbeta, dy, x, mask, mean, var, gamma, sums, tiles,
            *map(np.int32, (c, len(groups), lanes)), np.float32(eps), *map(np.int32, (not batch_statistics, vector)),
            cost=cost(0, reads, [dx, *wanted]), defines=defines_of(x),
        )  # fmt: skip

    def _backward_sums(self, sums: Any, dy: Any, x: Any, mask: Any, mean: Any, var: Any, groups: tuple[int, ...], eps: float) -> None:
        """sums = (Σ g, Σ g x̂) of each group; ``mask`` is the forward's output, or None."""
        dev, c = self.device, x.shape[-1]
        tiles, starts, lanes, vector, column_blocks = _tiles(dev, x, groups, 512, 16)
        partial = dev.scratch("bn.partial", (len(tiles), 2, c), np.float32)
        dev.cuda(
            FILE, "bn_backward_sums", (len(tiles), column_blocks), THREADS, partial, dy, x, mask, mean, tiles,
            *map(np.int32, (c, lanes, vector)),
            cost=cost(0, [dy, x, mean, *([] if mask is None else [mask])], [partial]), defines=defines_of(x),
        )  # fmt: skip
        bn_sums_finalise(dev, sums, partial, starts, c, var, eps)

    def batch_norm_update_running(
        self, running_mean: Any, running_var: Any, mean: Any, var: Any, groups: tuple[int, ...], *, momentum: float
    ) -> None:
        """running ← momentum · running + (1 − momentum) · statistics, the groups averaged by their image counts.

        Args:
            running_mean, running_var: float32 [C], updated in place.
            mean, var: float32 [G, C].

        Raises:
            ValueError: a shape or dtype that does not fit.
        """
        c = running_mean.size
        for name, running, statistics in (("mean", running_mean, mean), ("var", running_var, var)):
            check_array(f"running_{name}", running, (c,), self.wide)
            check_array(name, statistics, (len(groups), c), self.wide)
        shares = constant(self.device, ("shares", groups), lambda: np.array(groups, np.float64) / sum(groups))
        self.device.cuda(
            FILE, "bn_update_running", blocks(c, THREADS), THREADS, running_mean, running_var, mean, var, shares,
            np.int32(c), np.int32(len(groups)), np.float64(momentum),
            cost=cost(0, [running_mean, running_var, mean, var], [running_mean, running_var]),
        )  # fmt: skip
