"""What this CPU can do: multiply-adds of its vector units, and a copy that no cache holds. The roofline of `bench.report`.

(For a GPU: `bench.gpu.peaks`.)
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cpu.native.build import TIMEOUT, ZIG_TIMEOUT, accepted
from kernels.cpu.native.commands import Commands
from kernels.cpu.native.compiler import FLAGS, Unavailable, find_compiler, flags_of
from kernels.cpu.native.library import HERE

SOURCE = Path(__file__).resolve().with_name("peak.cpp")
TURNS = 1 << 19  # about 3 ms: some rounds find the cores free
SIZE, COPY = 1536, 96 << 20  # rows of the matrices; bytes copied
REGISTERS, PRODUCT = "multiply-adds in registers", "a large product"  # what the peak was measured with


def measure(threads: int, rounds: int = 5) -> dict[str, Any]:
    """{"gflop_per_s", "gflop_of", "gb_per_s"}: the best of some rounds on ``threads`` threads.

    ``gflop_of`` is `REGISTERS`, by a program compiled for the vectors that our library was (``$VAEGAN_NATIVE_LEVEL``); where there is no
    compiler it is `PRODUCT`, by NumPy.
    """
    from kernels.cpu import threads as pool

    pool.configure(threads)
    try:
        flops, what = multiply_adds(threads, 20 * rounds), REGISTERS
    except Unavailable:
        flops, what = product(threads, rounds), PRODUCT
    return {"gflop_per_s": round(flops / 1e9, 1), "gflop_of": what, "gb_per_s": round(copy(threads, rounds) / 1e9, 1)}


def multiply_adds(threads: int, rounds: int) -> float:
    """Operations a second of bench/peak.cpp. Raises `Unavailable`: it cannot be compiled here."""
    compiler, level = find_compiler(), os.environ.get("VAEGAN_NATIVE_LEVEL") or "native"
    with tempfile.TemporaryDirectory() as name:
        commands, built = Commands(compiler.name, Path(name), ZIG_TIMEOUT if compiler.zig else TIMEOUT), Path(name) / "peak.so"
        flags = accepted(compiler, flags_of(compiler, level), commands)
        commands.run([[*compiler.command, *FLAGS, *flags, f"-I{HERE}", "-shared", str(SOURCE), "-o", str(built)]])
        work = ctypes.CDLL(str(built)).multiply_adds
    work.restype, work.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_ssize_t, ctypes.c_float, ctypes.c_float]
    return float(max(work(threads, TURNS, 0.999, 1e-3) for _ in range(rounds)))


def product(threads: int, rounds: int) -> float:
    """Operations a second of a large float32 product, each thread with some of its rows, as the NumPy engine works."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2))
    out = np.empty((SIZE, SIZE), np.float32)

    def rows(part: Any) -> None:
        np.matmul(a[part[0] : part[-1] + 1], b, out=out[part[0] : part[-1] + 1])

    return 2 * SIZE**3 / best(rows, np.array_split(np.arange(SIZE), threads), rounds)


def copy(threads: int, rounds: int) -> float:
    """Bytes a second of a copy, those read and those written."""
    source, target = (np.ones(COPY // 4, np.float32) for _ in range(2))
    bounds = np.arange(0, len(source) + 1, len(source) // (4 * threads))

    def piece(k: int) -> None:
        target[bounds[k] : bounds[k + 1]] = source[bounds[k] : bounds[k + 1]]

    return 2 * COPY / best(piece, range(len(bounds) - 1), rounds)


def best(work: Callable[[Any], None], items: Iterable[Any], rounds: int) -> float:
    """Seconds of the fastest of ``rounds`` after one more."""
    from kernels.cpu import threads as pool

    items, times = list(items), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        pool.parallel(work, items)
        times.append(time.perf_counter() - start)
    return min(times[1:])
