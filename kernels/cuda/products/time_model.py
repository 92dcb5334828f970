"""How long a launch should take, by count: a model to choose tiles by and to predict with. Nothing of it was timed yet.

    products:  gap + ramp + max(main loops and edges of the busiest multiprocessor, operands through the L2 cache, memory)
    others:    gap + ramp + bytes / the rate that as many blocks reach

A floor (operations over peak, bytes over bandwidth) says what is impossible to pass; the difference between the two is what a better
grid, fewer launches or another tile can win.
"""

from __future__ import annotations

import functools
import heapq
from typing import NamedTuple

from kernels.cuda.device.boards import Board, board_of
from kernels.cuda.device.chips import CHIPS, Chip
from kernels.cuda.device.launch import THREADS
from kernels.cuda.products.partials import split_grid

#: Seconds from one launch of a graph to the next: where nothing overlaps, and where its blocks wait on the chip for the last one's end
#: (sm_90 and later, `after_previous_launch`).
GAP, DEPENDENT_GAP = 1.2e-6, 0.3e-6
#: Seconds until a launch's blocks run and have their first operands, and from the first block's end to the last's.
RAMP = 1.0e-6
#: Seconds in which the blocks of a launch wait for the sums that the first of them make (`first_of_all`).
WAIT = 2.5e-6
#: Seconds between a load and its value, from memory.
LATENCY = 0.8e-6
#: Share of the matrix rate that a full main loop reaches: operands by descriptor, or by pointers.
LOOP = {True: 0.9, False: 0.8}
#: Instructions of a warp in one step of the main loop, besides the matrix product itself, where nobody has counted them: in compiled code
#: (aot.md) they are 41 to 197.
STEP = 130
#: Instructions of a thread for each element of an operand that is made of two arrays at its load (`normed`), counted likewise.
MADE = 9
#: Bytes of L2 that one multiprocessor can read in a cycle.
PORT = 64
#: Fewer warps than this on a multiprocessor do not hide latencies: the factor by which its loops are slower.
WARPS, IDLE = 8, 1.25
#: Bytes that a thread of an element-wise kernel has in flight: four loads of 16.
IN_FLIGHT = 64
REGISTERS = 65536  # of a multiprocessor


class Tile(NamedTuple):
    """What one program computes: ``bm`` rows, ``bn`` columns, ``bk`` of the summed axis a step; ``stages`` steps in flight, ``warps``."""

    bm: int
    bn: int
    bk: int
    stages: int
    warps: int


class Estimate(NamedTuple):
    """Seconds of one launch, and what they are made of.

    Attributes:
        seconds: in all.
        waves: programs of the busiest multiprocessor, in units of the longest.
        program: seconds of the longest program on a multiprocessor of its own.
        bound: what decides: "matrix", "issue", "L2", "memory", or "launch" where gap and ramp are more than half.
    """

    seconds: float
    waves: float
    program: float
    bound: str


def overhead(board: Board) -> float:
    """Seconds of a launch in which it does nothing."""
    return (DEPENDENT_GAP if CHIPS[f"sm_{board.sm}"].dependent else GAP) + RAMP


@functools.lru_cache(4096)
def busiest(classes: tuple[tuple[int, int], ...], multiprocessors: int) -> int:
    """Steps of the multiprocessor with most, where (programs, steps of each) start in order, each on the one with least."""
    if len({steps for _, steps in classes}) == 1:
        return -(-sum(count for count, _ in classes) // multiprocessors) * classes[0][1]
    loads = [0] * multiprocessors
    for count, steps in classes:
        for _ in range(count):
            heapq.heapreplace(loads, loads[0] + steps)
    return max(loads)


def resident(tile: Tile, size: int, shared: int, board: Board) -> int:
    """Programs that a multiprocessor holds at once; ``shared`` bytes of it, ``size`` of an element."""
    bm, bn, bk, stages, warps = tile
    registers = 32 * warps * min(255, bm * bn // (32 * warps) + 64)
    return max(1, min(shared // (stages * (bm + bn) * bk * size), REGISTERS // registers, board.warps // warps))


def product(
    board: Board, precision: str, tile: Tile, classes: tuple[tuple[int, int], ...], *, tma: bool, shared: int, moved: float = 0.0,
    stored: float = 4, made: int = 0, instructions: float = STEP,
) -> Estimate:  # fmt: skip
    """A matrix product's launch.

    Args:
        classes: (programs, main-loop steps of each), in the order in which they start.
        tma: whether operands come by descriptor.
        shared: bytes of shared memory of a multiprocessor.
        moved: bytes that the launch reads from memory and writes to it, at least.
        stored: bytes that a program reads and writes at its end for each element of its tile.
        made: elements that a program makes of two arrays in a step. They wait in shared memory for all of its warps: nothing but another
            program uses the matrix unit meanwhile.
        instructions: of a warp in a step, besides the products and what is ``made``.
    """
    bm, bn, bk, _, warps = tile
    size = 2 if precision == "bf16" else 4
    count = board.multiprocessors
    held = resident(tile, size, shared, board)
    programs = sum(n for n, _ in classes)
    longest = max(steps for _, steps in classes)
    load = busiest(classes, count)
    waves = load / longest
    together = min(held, -(-programs // count))  # programs that a multiprocessor has at once
    idle = IDLE if together * warps < WARPS else 1.0
    operands = ((bm + bn) * bk + made) * size
    making = MADE * made / 32 / 4 / board.clock
    times = {
        "matrix": 2 * bm * bn * bk / (board.matrix(precision) / count * LOOP[tma]),
        "issue": (0.0 if precision == "float32" else instructions) * warps / 4 / board.clock + making,
        "L2": max(operands / (PORT * board.clock), operands * min(programs, count) / board.l2),
    }
    bound = max(times, key=lambda name: times[name])
    step = times[bound] * idle + (making if together == 1 and bound != "issue" else 0.0)
    edge = LATENCY + bm * bn * stored / (PORT * board.clock)  # the pipeline fills; the results are stored
    program = longest * step + edge
    seconds = load * step + edge * max(1.0, waves / together)
    if moved / board.bandwidth > seconds:
        seconds, bound = moved / board.bandwidth, "memory"
    around = overhead(board)
    return Estimate(around + seconds, waves, program, bound if seconds > around else "launch")


def passes(board: Board, blocks: int, threads: int, nbytes: float, *, waits: int = 0) -> Estimate:
    """A launch that loads, computes a little and stores; ``nbytes`` in all, from the L2 cache where they are less than half of it.

    ``waits``: how often its blocks wait for what the first of them make."""
    fits = min(blocks, board.multiprocessors * (32 * board.warps // threads))
    rate = board.l2 / 2 if nbytes < board.l2_bytes / 2 else board.bandwidth
    rate = min(rate, fits * threads * IN_FLIGHT / LATENCY)
    seconds = LATENCY + nbytes / rate + waits * WAIT
    waves = blocks / max(1, fits)
    around = overhead(board)
    return Estimate(around + seconds, waves, seconds / max(1.0, waves), "memory" if seconds > around else "launch")


@functools.lru_cache(1024)
def split(programs: int, steps: int, tile: Tile, entries: int, chip: Chip, precision: str) -> tuple[int, int, float]:
    """How to divide a product's summed axis: (splits, steps in each, seconds in all); the last may be shorter, none is empty.

    More splits fill the multiprocessors; each costs a float32 copy of the result, written, and read by a launch of its own.

    Args:
        programs: of one split.
        steps: main-loop steps in all.
        entries: elements of the result.
    """
    board = board_of(chip)

    def seconds(count: int) -> float:
        classes = ((programs * count, -(-steps // count)),)
        time = product(board, precision, tile, classes, tma=chip.tma, shared=chip.shared_bytes).seconds
        if count == 1:
            return time
        blocks, _ = split_grid(entries, count, board.multiprocessors)
        return time + passes(board, blocks, THREADS, 4 * entries * (count + 1)).seconds

    best = min({1, *(-(-steps // each) for each in range(1, steps + 1) if steps / each <= 1024)}, key=seconds)
    each = -(-steps // best)
    return -(-steps // each), each, seconds(best)
