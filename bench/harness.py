"""Timing against PyTorch in the same run: same threads, alternating rounds, results compared before anything is timed."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import kernels

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = int(os.environ.get("BENCH_THREADS", CORES))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))


def setup(precision: str = "float32") -> Any:
    """The CPU engine, with PyTorch on as many threads."""
    torch.set_num_threads(THREADS)
    return kernels.engine("cpu", precision=precision, threads=THREADS)


def machine() -> dict[str, Any]:
    """What a timing must be read with."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "cpu": model, "cores": os.cpu_count(), "threads": THREADS, "system": platform.platform(terse=True),
        "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


#: Cores in use by others above which a comparison says nothing: PyTorch's OpenMP threads spin while they wait for each
#: other, so one busy neighbour was seen to slow its small layers 50 times and ours hardly at all.
BUSY = 0.25


def busy_cores(seconds: float = 1.0) -> float | None:
    """Cores that other work keeps busy while this process sleeps; None where the system does not say."""
    if not os.path.exists("/proc/stat"):
        return None

    def ticks() -> tuple[int, int]:
        with open("/proc/stat", encoding="utf-8") as file:
            fields = [int(v) for v in file.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # all, idle

    time.sleep(0.5)  # our own threads stop spinning
    total, idle = ticks()
    time.sleep(seconds)
    total, idle = (b - a for a, b in zip((total, idle), ticks(), strict=True))
    return round((os.cpu_count() or 1) * (1 - idle / max(1, total)), 2)


def quiet_note(*busy: float | None) -> str:
    """A warning for the report, empty where the machine was quiet."""
    worst = max((b for b in busy if b is not None), default=0.0)
    return f"NOT A QUIET MACHINE: other processes kept {worst} cores busy; these ratios must not be reported" if worst > BUSY else ""


def elapsed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest(*candidates: Callable[[], Any]) -> Callable[[], Any]:
    """The candidate with the best of three calls after one to warm up: PyTorch is given the memory layout that suits it."""
    best = []
    for work in candidates:
        work()
        best.append(min(elapsed(work) for _ in range(3)))
    return candidates[best.index(min(best))]


def agree(got: Any, expected: torch.Tensor, limit: float = 1e-4) -> None:
    """No timing of a wrong result."""
    got, expected_array = np.asarray(got, np.float64), expected.detach().double().numpy()
    assert got.shape == expected_array.shape, (got.shape, expected_array.shape)
    error = np.linalg.norm(got - expected_array) / np.linalg.norm(expected_array)
    assert error < limit, f"relative error {error:.2e} against PyTorch"


def compare(
    benchmark: Any, ours: Callable[[], Any], peer: Callable[[], Any], *, flop: float = 0.0, nbytes: float = 0.0, rounds: int = ROUNDS
) -> None:
    """Time `ours` as a pytest-benchmark with a round of `peer` before each of its rounds; both land in the report."""
    ours()
    peer()
    peer_times: list[float] = []
    benchmark.pedantic(ours, setup=lambda: peer_times.append(elapsed(peer)), rounds=rounds, iterations=1)
    info = benchmark.extra_info
    info.update(machine())
    if benchmark.stats is None:  # --benchmark-disable
        return
    seconds, peer_seconds = benchmark.stats.stats.median, statistics.median(peer_times)
    info["torch_ms"], info["ours_ms"] = round(1e3 * peer_seconds, 3), round(1e3 * seconds, 3)
    info["times_torch"] = round(peer_seconds / seconds, 3)
    if flop:
        info["gflop_per_s"], info["torch_gflop_per_s"] = round(flop / seconds / 1e9, 1), round(flop / peer_seconds / 1e9, 1)
    if nbytes:
        info["gb_per_s"], info["torch_gb_per_s"] = round(nbytes / seconds / 1e9, 1), round(nbytes / peer_seconds / 1e9, 1)
