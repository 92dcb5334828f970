"""Batch norm: launchers of batch_norm.cu. Contract: `kernels.contract.batch_norm`; the same in NumPy: kernels/cpu/batch_norm.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.operation import Array
from kernels.contract.previous import Previous
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, channel_layout, constant, defines_of
from kernels.cuda.elementwise import launch_map
from kernels.cuda.operations import Operations
from kernels.cuda.products.partials import Finish, Made, bn_finalise, bn_sums_finalise, column_sums
from kernels.ledger import cost

FILE = "batch_norm.cu"
UNROLL = 4  # rows that a thread loads at once
APPLIED = 1024, 4  # blocks of a pass, and times UNROLL rows of a thread at most: each block waits for the sums once (`first_of_all`)


def _chunks(dev: Device, x: Array, groups: tuple[int, ...], wanted: int, most: int) -> tuple[Any, tuple[int, ...], int, int, int]:
    """x's rows in about ``wanted`` chunks of at most ``most`` · UNROLL rows a thread, none across a group.

    Returns (int64 [T, 4] of group, first row, end row, rows of the group; first chunk of each group; lanes, vector, column blocks).
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


def _sum_chunks(finish: Finish) -> tuple[Any, ...]:
    """The last arguments of the kernels that make the partial sums too."""
    return (finish.made.chunks, np.int32(len(finish.made.chunks))) if finish.made else ()


def _finish_cost(finish: Finish, inputs: list[Any], outputs: list[Any]) -> tuple[list[Any], list[Any]]:
    """What the work that was held back reads and writes: of ``inputs`` it makes the partial sums, if there are none yet."""
    partial = [finish.partial, *([] if finish.counts is None else [finish.counts])]
    return [*partial, *(inputs if finish.made else [])], [*outputs, *(partial if finish.made else [])]


class BatchNorm(Operations):
    """Operations of the CUDA engine."""

    def _batch_norm_statistics(self, mean: Array, var: Array, x: Array, groups: tuple[int, ...]) -> None:
        dev, c = self.device, x.shape[-1]
        chunks, starts, lanes, vector, column_blocks = _chunks(dev, x, groups, 512, 16)
        partial = dev.scratch("bn.partial", (len(chunks), 2, c), np.float32)
        counts = dev.scratch("bn.counts", (len(chunks),), np.float32)

        def launch() -> None:
            dev.cuda(
                FILE, "bn_statistics", (len(chunks), column_blocks), THREADS, partial, counts, x, chunks,
                *map(np.int32, (c, lanes, vector)), cost=cost(0, [x], [partial, counts]), defines=defines_of(x),
            )  # fmt: skip

        bn_finalise(dev, mean, var, partial, counts, starts, c, Made(launch, chunks))

    def _batch_norm_forward(
        self, y: Array, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, groups: tuple[int, ...], *,
        eps: float, relu: bool = False, running: Running | None = None,
    ) -> None:  # fmt: skip
        finish = self.device.taken(Finish, mean)
        kernel = "bn_statistics_forward" if finish and finish.made else "bn_forward"
        chunks, _, lanes, vector, column_blocks = _chunks(self.device, x, groups, *APPLIED)
        kept = [] if running is None else [running.mean, running.var]
        reads, writes = ([mean, var], []) if finish is None else _finish_cost(finish, [x], [mean, var])
        shares = constant(self.device, ("shares", groups), lambda: np.array(groups, np.float64) / sum(groups)) if kept else None
        self.device.cuda(
            FILE, kernel, (len(chunks), column_blocks), THREADS, y, x, mean, var, gamma, beta, chunks,
            *map(np.int32, (x.shape[-1], lanes)), np.float32(eps), *map(np.int32, (relu, vector)),
            *(kept or (None, None)), shares, np.int32(len(groups)), np.float64(running.momentum if running else 0.0),
            *((None,) * 4 if finish is None else (*finish[:3], self.device.counters, *_sum_chunks(finish))),
            cost=cost(0, [x, *reads, gamma, beta, *kept], [y, *writes, *kept]), defines=defines_of(x),
        )  # fmt: skip

    def _batch_norm_backward(
        self, dx: Array, dy: Array, x: Array, y: Array, mean: Array, var: Array, gamma: Array, groups: tuple[int, ...], *,
        eps: float, relu: bool = False, batch_statistics: bool = True,
        dgamma: Array | None = None, dbeta: Array | None = None, sums: Array | None = None,
    ) -> None:  # fmt: skip
        masked = relu and sums is None
        dev, c = self.device, x.shape[-1]
        mask = y if masked else None
        wanted = [array for array in (dgamma, dbeta) if array is not None]
        if sums is None and (batch_statistics or wanted):
            sums = dev.scratch("bn.sums", (2, len(groups), c), np.float32)
            self._backward_sums(sums, dy, x, mask, mean, var, groups, eps)
        finish = dev.taken(Finish, sums) if sums is not None else None
        kernel = "bn_sums_backward" if finish and finish.made else "bn_backward"
        chunks, _, lanes, vector, column_blocks = _chunks(dev, x, groups, *APPLIED)
        reads = [dy, var, gamma, *([x, mean] if batch_statistics else []), *([mask] if masked else [])]
        writes = [*wanted]
        if finish is not None:
            more, written = _finish_cost(finish, reads, [sums])
            reads, writes = reads + more, writes + written
        elif batch_statistics:
            reads.append(sums)
        dev.cuda(
            FILE, kernel, (len(chunks), column_blocks), THREADS, dx, dgamma, dbeta, dy, x, mask, mean, var, gamma, sums, chunks,
            *map(np.int32, (c, len(groups), lanes)), np.float32(eps), *map(np.int32, (not batch_statistics, vector)),
            *((None,) * 3 if finish is None else (finish.partial, finish.plan, dev.counters, *_sum_chunks(finish))),
            cost=cost(0, reads, [dx, *writes]), defines=defines_of(x),
        )  # fmt: skip

    def _finish_previous(self, dx: Array, previous: Previous) -> None:
        launch_map(self.device, "relu_backward", dx, [dx, previous.y], defines=defines_of(dx))
        if previous.pre is not None:
            rows = (len(dx), -1, len(previous.gamma))
            pre, g = previous.pre.reshape(rows), dx.reshape(rows)
            self._backward_sums(previous.sums, g, pre, None, previous.mean, previous.var, previous.groups, previous.eps)
        elif previous.sums is not None:
            column_sums(self.device, previous.sums.reshape(-1), dx.reshape(-1, dx.shape[-1]))

    def _backward_sums(
        self, sums: Array, dy: Array, x: Array, mask: Array, mean: Array, var: Array, groups: tuple[int, ...], eps: float
    ) -> None:
        """sums = (Σ g, Σ g x̂) of each group; ``mask`` is the forward's output, or None."""
        dev, c = self.device, x.shape[-1]
        chunks, starts, lanes, vector, column_blocks = _chunks(dev, x, groups, 512, 16)
        partial = dev.scratch("bn.partial", (len(chunks), 2, c), np.float32)

        def launch() -> None:
            dev.cuda(
                FILE, "bn_backward_sums", (len(chunks), column_blocks), THREADS, partial, dy, x, mask, mean, chunks,
                *map(np.int32, (c, lanes, vector)),
                cost=cost(0, [dy, x, mean, *([] if mask is None else [mask])], [partial]), defines=defines_of(x),
            )  # fmt: skip

        bn_sums_finalise(dev, sums, partial, starts, c, var, eps, Made(launch, chunks))
