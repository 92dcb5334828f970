"""Blocks that wait for each other, emulated: right in every order that is tried, and what is wrong with a fence, a barrier, a count, a
wait or the counters' reset shows in one of them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kernels.cuda.device import source
from kernels.cuda.device.host.device import HostDevice
from kernels.ledger import Cost

if shutil.which(os.environ.get("CXX") or "g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

DEMO = Path(__file__).with_name("waiting_demo.cu")
GRID, THREADS, ROWS = (3, 2, 2), 16, 5
BLOCKS = 12
SEEDS = range(0, 40_000, 1000)

LEFT, WRONG, ENDLESS, DIVERGENT = "left its counters at", "wrong", "would not end", "divergent"
RESET = "counters[0] = counters[1] = counters[2] = 0"
ALL = "gridDim.x * gridDim.y * gridDim.z - 1"
WAIT = "        __nanosleep(40);\n        done = acquire(counters + 1);\n"
FENCED = "            __threadfence();  // others see what was written before they see that it was\n"
DONE = "            atomicAdd(counters + 1, 1u);\n"
LEAVES = f"if (leader && atomicAdd(counters + 2, 1u) == {ALL})"
FIRST_BARRIER = "__syncthreads();\n        if (part >= parts) break;"
WRITTEN = "__syncthreads();  // the whole block has written its part, and read which it was"
#: What is broken in `first_of_all`: (text, what takes its place, what is seen of it in one order at least).
FIRST = {
    "the first to leave sets back": (LEAVES, LEAVES.replace(ALL, "0u"), ENDLESS),
    "the last but one to leave sets back": (LEAVES, LEAVES.replace("- 1)", "- 2)"), LEFT),
    "the last of a row of the grid sets back": (LEAVES, LEAVES.replace(ALL, "gridDim.x - 1"), LEFT),
    "whoever begins no part sets back": (LEAVES, "if (leader)", ENDLESS),
    "nobody sets back": (RESET, "", LEFT),
    "one counter is not set back": (RESET, "counters[0] = counters[1] = 0", LEFT),
    "who leaves is counted by a plain store": (LEAVES, LEAVES.replace("atomicAdd(counters + 2, 1u)", "counters[2]++"), LEFT),
    "no wait": (WAIT, "        done = parts;\n", WRONG),
    "a wait that ends one part early": ("while (leader && done < parts)", "while (leader && done + 1 < parts)", WRONG),
    "a wait by plain loads": (WAIT, WAIT.replace("acquire(counters + 1)", "counters[1]"), ENDLESS),
    "loads that acquire nothing": ("return *(const volatile u32*)p;", "return *p;", ENDLESS),
    "no barrier behind the wait": (f"__syncthreads();\n    {LEAVES}", LEAVES, WRONG),
    "no fence behind a part": (FENCED, "", WRONG),
    "the fence behind the count": (FENCED + DONE, DONE + FENCED, WRONG),
    "no barrier behind a part": (WRITTEN, "", WRONG),
    "no barrier before a part": (FIRST_BARRIER, FIRST_BARRIER.replace("__syncthreads();", ""), DIVERGENT),
    "parts begun by a plain store": ("atomicAdd(counters, 1u) : parts", "counters[0]++ : parts", WRONG),
    "parts done by a plain store": (DONE, DONE.replace("atomicAdd(counters + 1, 1u)", "counters[1]++"), ENDLESS),
    "one part done too many": (DONE, DONE.replace("1u", "2u"), WRONG),
    "every thread counts a part": ("if (leader) {\n" + FENCED, "{\n" + FENCED, WRONG),
    "a part that nobody begins": ("if (part >= parts) break;", "if (part + 1 >= parts) break;", ENDLESS),
}  # fmt: skip
COUNTS = f"last = atomicAdd(counters, 1u) == {ALL};"
CAME = "__syncthreads();  // the whole block has written\n"
BEFORE = "__threadfence();  // what was written is seen before the count is\n"
SEES = "if (last) counters[0] = 0;\n        __threadfence();"
TOLD = "__syncthreads();\n    return last;"
#: The same of `last_of_all`.
LAST = {
    "no barrier before the count": (CAME, "\n", WRONG),
    "no fence before the count": (BEFORE, "\n", WRONG),
    "no fence behind the count": (SEES, "if (last) counters[0] = 0;", WRONG),
    "no barrier behind the count": (TOLD, "return last;", WRONG),
    "nobody sets back": ("if (last) counters[0] = 0;", "", LEFT),
    "the first is taken for the last": (COUNTS, COUNTS.replace(ALL, "0u"), WRONG),
    "the last but one is taken for the last": (COUNTS, COUNTS.replace("- 1", "- 2"), LEFT),
    "the last of a row of the grid is taken for the last": (COUNTS, COUNTS.replace(ALL, "gridDim.x - 1"), LEFT),
    "a plain count": (COUNTS, COUNTS.replace("atomicAdd(counters, 1u)", "counters[0]++"), LEFT),
}  # fmt: skip
BROKEN = {**{("shares", name): row for name, row in FIRST.items()}, **{("last_adds", name): row for name, row in LAST.items()}}


def outcome(kernel: str, seed: int, file: Path = DEMO, blocks: int = 8) -> str:
    """What two replays of a demo kernel end in, with other numbers in the same arrays: "right", "wrong" or the error."""
    rng, dev = np.random.default_rng(seed), HostDevice(seed=seed, blocks=blocks)
    rows = ROWS if kernel.startswith("shares") else BLOCKS
    x = dev.empty((rows, THREADS), np.int32)
    out, totals, squares = (dev.empty(shape, np.int32) for shape in ((BLOCKS, THREADS), (THREADS, rows), x.shape))
    out[...], total = 0, 0
    for _ in range(2):
        x[...] = rng.integers(1, 100, x.shape)
        if kernel.startswith("shares"):
            arguments = out, totals, squares, x, np.int32(rows), dev.counters
            made = _totals(x).ravel()
            expected = np.tile([made.sum() + made[i::THREADS].sum() for i in range(THREADS)], (BLOCKS, 1))
        else:
            total = total + np.array(x).sum(0)[::-1]
            arguments, expected = (out, squares, x, dev.counters), np.stack([total] + [0 * total] * (BLOCKS - 1))
        try:
            dev.cuda(str(file), kernel, GRID, THREADS, *arguments, cost=Cost(0, 0, 0))
        except RuntimeError as error:
            return str(error)
        if not np.array_equal(out, expected):
            return WRONG
    return "right"


def _totals(x: np.ndarray) -> np.ndarray:
    squares, rows = np.array(x) ** 2, np.arange(len(x))
    return np.stack([squares[rows, (column + rows) % THREADS] for column in range(THREADS)])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A file with the demo's kernels over each broken form of common.cuh's functions, numbered: all in one, which compiles once."""
    common = (source.HERE / "common.cuh").read_text(encoding="utf-8")
    waiting, demo = common[common.index("__device__ __forceinline__ u32 acquire") :], DEMO.read_text(encoding="utf-8")
    text = ""
    for i, (old, new, _) in enumerate(BROKEN.values()):
        assert common.count(old) == waiting.count(old) == 1, old
        kernels = re.sub(r"\b(first_of_all|last_of_all|acquire)\b", rf"number{i}::\1", demo)
        text += f"namespace number{i} {{\n{waiting.replace(old, new)}}}\n" + re.sub(
            r"__global__ void (\w+)", rf"__global__ void \1_{i}", kernels
        )
    file = tmp_path_factory.mktemp("broken") / "broken.cu"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("blocks", [1, 2, 8])
@pytest.mark.parametrize("kernel", ["shares", "last_adds"])
def test_right_in_every_order(kernel, blocks):
    assert {outcome(kernel, seed, blocks=blocks) for seed in SEEDS} == {"right"}


@pytest.mark.parametrize("kernel, name", BROKEN, ids=[f"{kernel}-{name}" for kernel, name in BROKEN])
def test_what_is_broken_shows(kernel, name, broken):
    number = list(BROKEN).index((kernel, name))
    expected = BROKEN[kernel, name][2]
    seen = []
    for seed in SEEDS:
        seen.append(outcome(f"{kernel}_{number}", seed, broken))
        if expected in seen[-1]:
            return
    raise AssertionError(f"not seen: {expected}; but {set(seen)}")


def test_a_block_that_waits_for_one_that_has_not_begun():
    """Right where a device has room for all blocks; a launch that does not end where it has not, which is said."""
    seen = set()
    for seed in SEEDS:
        dev = HostDevice(seed=seed)
        out = dev.empty((4, 32), np.int32)
        try:
            dev.cuda(str(DEMO), "needs_all", 4, 32, out, dev.counters, cost=Cost(0, 0, 0))
            seen.add("right" if (np.array(out) == 1).all() else WRONG)
        except RuntimeError as error:
            seen.add(re.sub(r" \(block.*", "", str(error)))
    assert seen == {"right", f"needs_all ({DEMO}): waits for what no block does that has begun: this launch {ENDLESS}"}
