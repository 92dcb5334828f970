"""Timing against PyTorch in the same run: same device and threads, alternating rounds, results compared before anything is timed."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.side import THREADS, Side, prepare_torch

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
SHORTEST = 2e-3  # seconds of a round

Call = Callable[[], Any]


def machine(here: Side | None = None) -> dict[str, Any]:
    """What a timing must be read with: the machine, our engine and how it was made, PyTorch and the vectors that it uses; of a GPU its
    name, driver and the versions that matter there."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    facts = {
        "cpu": model, "cores": os.cpu_count(), "threads": THREADS, "system": platform.platform(terse=True),
        "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    if here is not None:
        facts |= {"device": here.name, "precision": here.precision, "engine": here.engine.describe()}
        if here.name == "cpu":
            facts |= {"torch_vectors": torch.backends.cpu.get_cpu_capability()} | ({"notice": n} if (n := here.engine.notice) else {})
        else:
            facts |= {"cudnn": torch.backends.cudnn.version(), "cuda": torch.version.cuda}
    return facts


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


def best(here: Side, *candidates: Call) -> Call:
    """The candidate with the best of three calls after one to warm up: PyTorch is given the memory layout that suits it."""
    prepare_torch(here)
    times = []
    for work in candidates:
        work()
        times.append(min(here.elapsed(work) for _ in range(3)))
    return candidates[times.index(min(times))]


def agree(here: Side, got: Any, expected: torch.Tensor, factor: float = 1.0) -> None:
    """No timing of a wrong result: relative error at most ``factor`` times the precision's limit."""
    ours, theirs = np.asarray(here.engine.to_numpy(got), np.float64), expected.detach().double().cpu().numpy()
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert error < factor * here.limit, f"relative error {error:.2e} against PyTorch"


def compare(
    benchmark: Any, here: Side, build: Callable[[int], tuple[Call, Call]], *, held: float, flop: float = 0.0, nbytes: float = 0.0,
    graphs: bool = True, rounds: int = ROUNDS,
) -> None:  # fmt: skip
    """Time ours as a pytest-benchmark with a round of PyTorch's before each of its rounds; both land in the report.

    Args:
        build: of a seed, (our call, PyTorch's call) on arrays of their own; set 0 is the one whose results were compared.
        held: bytes of one set of arrays of one side, from which the number of sets follows.
        flop, nbytes: of one call, for rates in the report.
        graphs: capture the calls on a GPU; False where they are captured already.
    """
    prepare_torch(here)
    sets = [build(seed) for seed in range(here.sets(held) if graphs else 1)]
    ours, peer = (here.ours([a for a, _ in sets]), here.peer([b for _, b in sets])) if graphs else sets[0]
    ours()
    peer()
    times = max(1, round(SHORTEST / max(1e-9, here.elapsed(ours))))
    peer_times: list[float] = []

    def peers_turn() -> None:
        here.rest()
        peer_times.append(here.elapsed(peer, times))
        here.rest()

    def turn() -> None:
        for _ in range(times):
            ours()
        if here.on_gpu:
            here.wait()

    benchmark.pedantic(turn, setup=peers_turn, rounds=rounds, iterations=1)
    info = benchmark.extra_info
    info.update(machine(here))
    if benchmark.stats is None:  # --benchmark-disable
        return
    calls = times * len(sets)
    seconds, peer_seconds = benchmark.stats.stats.median / calls, statistics.median(peer_times) / len(sets)
    info["torch_ms"], info["ours_ms"], info["sets"] = round(1e3 * peer_seconds, 5), round(1e3 * seconds, 5), len(sets)
    info["times_torch"] = round(peer_seconds / seconds, 3)
    info |= {"flop": flop, "bytes": nbytes}
    if flop:
        info["gflop_per_s"], info["torch_gflop_per_s"] = round(flop / seconds / 1e9, 1), round(flop / peer_seconds / 1e9, 1)
    if nbytes:
        info["gb_per_s"], info["torch_gb_per_s"] = round(nbytes / seconds / 1e9, 1), round(nbytes / peer_seconds / 1e9, 1)
