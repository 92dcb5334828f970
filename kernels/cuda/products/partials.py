"""Launchers of partials.cu: partial results summed in a fixed order.

A chunk is the rows whose sums are one partial row: those of a matmul's tile, or of a block in batch_norm.cu. partial is [P·T, 2, k·C]
float32, for P phases (of a fractional-strided convolution), T chunks a phase and k column blocks of C channels each. The groups of a
batch norm are ranges of chunks: group g has chunks chunk_starts[g] … chunk_starts[g + 1] − 1 of every phase. Sums are the same bits at
every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from kernels.contract.checks import check_array
from kernels.contract.operation import Array
from kernels.cuda.device.base import Device
from kernels.cuda.device.launch import THREADS, blocks, channel_layout, check_values, constant, defines_of, power_of_two
from kernels.ledger import cost

FILE = "products/partials.cu"
MOST_LANES = 64  # of `split_reduce`: four neighbouring threads and more read 64 bytes together


def split_reduce(dev: Device, out: Array, partials: Array, bias: Array = None) -> None:
    """out = Σ_s partials[s] (+ bias along the last axis), in a fixed order.

    Args:
        out: any shape, float32 or the engine's dtype; output.
        partials: float32 [S, *out.shape].
        bias: float32 [out.shape[-1]] or None.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("out", out)
    check_array("partials", partials, (len(partials), *out.shape), np.float32)
    if bias is not None:
        check_array("bias", bias, out.shape[-1:], np.float32)
    grid, lanes = split_grid(out.size, len(partials), dev.chip.multiprocessors)
    dev.cuda(
        FILE, "split_reduce", grid, THREADS,
        out, partials, bias, np.int32(len(partials)), np.int64(out.size), np.int64(out.shape[-1]), np.int32(lanes),
        cost=cost(0, [partials] if bias is None else [partials, bias], [out]), defines=defines_of(out),
    )  # fmt: skip


def later_partials(dev: Device, key: str, shape: tuple[int, ...]) -> Any:
    """float32 scratch for partial sums, for `reduce_later`. Within `summed_together` each has its own."""
    return dev.scratch(key if dev.unfinished is None else f"unfinished {len(dev.unfinished)}", shape, np.float32)


def reduce_later(dev: Device, out: Array, partials: Array, bias: Array = None) -> None:
    """As `split_reduce`; within `summed_together` at its end. Args: float32 all; partials of `later_partials`."""
    if dev.unfinished is None:
        return split_reduce(dev, out, partials, bias)
    check_array("partials", partials, (len(partials), *out.shape), np.float32)
    dev.unfinished.append((out, partials, bias))


@contextmanager
def summed_together(dev: Device) -> Iterator[None]:
    """Adds up at its end, in one launch, what `reduce_later` was given within it; the same bits. Inside another it does nothing."""
    if dev.unfinished is not None:
        yield
        return
    dev.unfinished = []
    try:
        yield
        entries = dev.unfinished
    finally:
        dev.unfinished = None
    if entries:
        _reduce_all(dev, entries)


def _reduce_all(dev: Device, entries: list[tuple[Array, Array, Array]]) -> None:
    words, chunks = [], []
    for row, (out, partials, bias) in enumerate(entries):
        grid, lanes = split_grid(out.size, len(partials), dev.chip.multiprocessors)
        addresses = (0 if array is None else dev._address(array) for array in (out, partials, bias))
        words.append((*addresses, out.size, out.shape[-1], len(partials), lanes))
        chunks += [(row, block) for block in range(grid)]
    numbers = tuple(words)
    table = constant(dev, ("sums", numbers), lambda: np.array(numbers, np.uint64))
    of_block = constant(dev, ("blocks of sums", numbers), lambda: np.array(chunks, np.int32))
    outs, partials, biases = zip(*entries, strict=True)
    reads = [*partials, *(bias for bias in biases if bias is not None)]
    dev.cuda(FILE, "split_reduce_list", len(chunks), THREADS, table, of_block, cost=cost(0, reads, outs))


def split_grid(entries: int, splits: int, multiprocessors: int) -> tuple[int, int]:
    """(blocks, threads that share an element) of `split_reduce`: as many as fill the device twice, each with four splits to add."""
    each, lanes = 4 if entries % 4 == 0 else 1, 1
    while blocks(entries * lanes, each * THREADS) < 2 * multiprocessors and 8 * lanes <= splits and lanes < MOST_LANES:
        lanes *= 2
    return blocks(entries * lanes, each * THREADS), lanes


class Made(NamedTuple):
    """Partial sums of batch_norm.cu: ``launch`` makes them, or whoever takes that over; of the chunks in ``chunks`` [T, 4]."""

    launch: Callable[[], None]
    chunks: Array


class Finish(NamedTuple):
    """Partial sums that are still to be added up, for the launch that needs the sums (`Device.hold`).

    Attributes:
        partial, counts: as of `bn_finalise`; counts None where there are none.
        plan: int32, how: struct Plan of finish.cuh.
        parts: blocks that share the work, each of ``width`` channels of a group.
        made: how partial and counts are to be made, where that is still to be done too.
    """

    partial: Array
    counts: Array
    plan: Array
    parts: int
    width: int
    made: Made | None = None


def _plan(dev: Device, partial: Array, counts: Array, chunk_starts: tuple[int, ...], channels: int) -> Finish:
    """How to add up ``partial``: a thread has four channels where four divide them, else one."""
    chunks, columns = chunk_starts[-1], partial.shape[-1]
    if chunk_starts[0] != 0 or any(a >= b for a, b in zip(chunk_starts[:-1], chunk_starts[1:], strict=True)):
        raise ValueError(f"chunk_starts: got {chunk_starts}, expected 0 and then larger and larger numbers")
    if len(partial) % chunks or columns % channels:
        raise ValueError(f"partial: got shape {partial.shape}, expected a multiple of {chunks} chunks and of {channels} columns")
    groups, phases, k = len(chunk_starts) - 1, len(partial) // chunks, columns // channels
    terms = phases * k * max(b - a for a, b in zip(chunk_starts[:-1], chunk_starts[1:], strict=True))
    vector = int(channels % 4 == 0)
    lanes = min(THREADS // 2, power_of_two(blocks(terms, 4)))  # threads that share a channel
    threads = THREADS // lanes
    width = threads * (4 if vector else 1)
    parts = groups * blocks(channels, width)
    numbers = parts, groups, phases, k, threads, vector, *chunk_starts
    return Finish(partial, counts, constant(dev, ("plan", numbers), lambda: np.array(numbers, np.int32)), parts, width)


def bn_finalise(
    dev: Device, mean: Array, var: Array, partial: Array, counts: Array, chunk_starts: tuple[int, ...], channels: int,
    made: Made | None = None,
) -> None:  # fmt: skip
    """Mean and biased variance of each group from chunks' sums and squares about the chunks' own means (Chan et al. 1979).

    Held back (`Device.hold`): the batch norm's forward does it, if it is the next launch.

    Args:
        mean, var: float32 [G, C], outputs.
        partial: float32 [P·T, 2, k·C].
        counts: float32 [P·T], rows that each chunk summed; a chunk with 0 is not read.
        chunk_starts: G + 1 numbers from 0 to T.
        channels: C.
        made: how partial and counts are to be made; None: they are.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    groups = len(chunk_starts) - 1
    check_array("mean", mean, (groups, channels), np.float32)
    check_array("var", var, (groups, channels), np.float32)
    check_array("partial", partial, (len(partial), 2, partial.shape[-1]), np.float32)
    check_array("counts", counts, (len(partial),), np.float32)
    finish = _plan(dev, partial, counts, chunk_starts, channels)._replace(made=made)

    def launch() -> None:
        if made:
            made.launch()
        dev.cuda(
            FILE, "bn_finalise", finish.parts, THREADS, mean, var, partial, counts, finish.plan, np.int32(channels),
            cost=cost(0, [partial, counts], [mean, var]),
        )  # fmt: skip

    dev.hold(mean, finish, launch)


def bn_sums_finalise(
    dev: Device, sums: Array, partial: Array, chunk_starts: tuple[int, ...], channels: int, var: Array, eps: float,
    made: Made | None = None,
) -> None:  # fmt: skip
    """Σ g and Σ g x̂ of each group from the chunks' Σ g and Σ g·(x − mean). Held back for the batch norm's backward, as `bn_finalise`.

    Args:
        sums: float32 [2, G, C], output.
        partial: float32 [P·T, 2, k·C].
        chunk_starts, channels, made: as in `bn_finalise`.
        var: float32 [G, C].
        eps: of the batch norm.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    groups = len(chunk_starts) - 1
    check_array("sums", sums, (2, groups, channels), np.float32)
    check_array("partial", partial, (len(partial), 2, partial.shape[-1]), np.float32)
    check_array("var", var, (groups, channels), np.float32)
    finish = _plan(dev, partial, None, chunk_starts, channels)._replace(made=made)

    def launch() -> None:
        if made:
            made.launch()
        dev.cuda(
            FILE, "bn_sums_finalise", finish.parts, THREADS, sums, partial, finish.plan, var, np.float32(eps), np.int32(channels),
            cost=cost(0, [partial, var], [sums]),
        )  # fmt: skip

    dev.hold(sums, finish, launch)


def column_sums(dev: Device, out: Array, matrix: Array) -> None:
    """out[c] = Σ_rows matrix[row, c], a gradient (`reduce_later`). Args: out float32 [C]; matrix [rows, C], float32 or bf16.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    check_values("matrix", matrix, 2)
    rows, channels = matrix.shape
    check_array("out", out, (channels,), np.float32)
    k = 8 if channels % 8 and rows % 8 == 0 else 1  # eight rows as one: vectors for an odd number of channels
    rows, columns = rows // k, channels * k
    lanes, vector, column_blocks = channel_layout(columns)
    step = 4 * THREADS // lanes
    chunk_rows = step * min(16, blocks(rows, step * blocks(512, column_blocks)))
    partial = later_partials(dev, "column_sums", (blocks(rows, chunk_rows), columns))
    dev.cuda(
        FILE, "column_partials", (len(partial), column_blocks), THREADS,
        partial, matrix, np.int64(rows), np.int64(chunk_rows), *map(np.int32, (columns, lanes, vector)),
        cost=cost(0, [matrix], [partial]), defines=defines_of(matrix),
    )  # fmt: skip
    reduce_later(dev, out, partial.reshape(-1, channels))
