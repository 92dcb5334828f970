"""Sections ``peers`` and ``cudnn``: our step and operations beside PyTorch's on the same GPU, in alternating rounds.

``peers``: the step of paper64 against PyTorch's (bench/contestants.py), the usual batch first; the compiled one comes eager, then with
the compiler's default, then with max-autotune, which takes longest to build: an interrupted run has the earlier ones.
``cudnn``: ``pytest bench`` on the GPU: every operation at Table 1's shapes, inference.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.contestants import make
from bench.gpu.common import ROOT, Options, Report, Skip, about, spec_of
from bench.side import side
from bench.step import SHORTEST, spread

#: (contestant, settings), in the order in which they are worth knowing.
PEERS = (
    ("compiled", "NHWC, eager"), ("plain", "NHWC"), ("compiled", "NHWC, default"), ("compiled", "NHWC, max-autotune-no-cudagraphs"),
    ("plain", "NCHW"),
)  # fmt: skip
LEAST = {"eager": 8.0, "default": 45.0, "max-autotune-no-cudagraphs": 90.0}  # seconds that a contestant may need to be ready
LAST = 10.0  # seconds that the last operation and the table may take


def duel(spec: Any, n: int, name: str, settings: str, target: dict[str, str], rounds: int) -> dict[str, Any]:
    """Seconds of our step and of one peer's in alternating rounds, and their ratio round by round."""
    here = side(target["device"], target["precision"])
    pair = [make("ours", spec, n, **target), make(name, spec, n, settings=settings, **target)]
    turns = []
    for contestant in pair:
        for _ in range(3 if here.on_gpu else 1):
            contestant.step()
        turns.append(max(1, round(SHORTEST / max(here.elapsed(contestant.step), 1e-6))) if here.on_gpu else 1)
    times: list[list[float]] = [[], []]
    for k in range(rounds):
        for i in (0, 1) if k % 2 else (1, 0):
            times[i].append(here.elapsed(pair[i].step, turns[i]))
    pair.clear()
    gc.collect()
    return {
        "seconds": {"ours": spread(times[0]), name: spread(times[1])},
        "times_faster": spread([b / a for a, b in zip(*times, strict=True)]),
    }  # fmt: skip


def peers_section(options: Options, report: Report) -> None:
    """Every peer at every batch while the time lasts."""
    device, precision = ("host", "float32") if options.host else ("cuda", options.precisions[0])
    target = {"device": device, "precision": precision}
    report.note(about=about(side(device, precision).engine), method=__doc__)
    network = "tiny" if options.host else "paper64"
    summary: list[str] = []
    for n in (4,) if options.host else (64, 16, 256):
        for name, settings in PEERS[:1] if options.host else PEERS:
            label = f"{network} batch {n} {precision}: {name}, {settings}"
            if report.left < LEAST.get(settings.partition(", ")[2], 8.0):
                summary.append(f"{label}: not reached in the time")
                continue
            try:
                row = duel(spec_of(network), n, name, settings, target, 1 if options.host else 3 if options.quick else 7)
            except Exception as error:  # PyTorch has many ways to refuse; the other peers continue, and the row says why
                report.row(f"{label}: {type(error).__name__}: {error}"[:300], label=label, why=str(error)[:300])
                continue
            ours, theirs = (1e3 * row["seconds"][k]["median"] for k in ("ours", name))
            against = row["times_faster"]
            text = f"{label}: {theirs:.3f} ms, ours {ours:.3f} ms, {against['median']:.2f}x ({against['min']:.2f} to {against['max']:.2f})"
            report.row(text, label=label, contestant=name, settings=settings, network=network, batch=n, **row)
            summary.append(text)
            report.note(summary=summary)
    report.note(summary=summary)


def cudnn_section(options: Options, report: Report) -> None:
    """``pytest bench`` with its results file; the operations at half of PyTorch's speed or less are named."""
    if options.host:
        raise Skip("pytest bench with BENCH_DEVICE=host is its own test")
    target = Path(options.out) / "cudnn-operations.json"  # kernels.json is section kernels'
    files = ("conv2d", "linear", "fused", "losses", "optimizer", "inference")
    command = [sys.executable, "-m", "pytest", *(f"bench/bench_{f}.py" for f in files), "-q", "--benchmark-only", "-p", "no:xdist"]
    env = {**os.environ, "BENCH_DEVICE": "cuda", "BENCH_PRECISION": options.precisions[0], "BENCH_BATCH": "64"}
    target.unlink(missing_ok=True)
    command += ["--results", str(target), "--seconds", str(report.left - LAST)]
    done = subprocess.run(command, cwd=ROOT, env=env, timeout=max(10.0, report.left), check=False)
    if not target.exists():
        raise RuntimeError(f"pytest bench ended with code {done.returncode} and left no results")
    found = json.loads(target.read_text(encoding="utf-8"))
    for row in found["rows"]:
        report.row(f"{row['name']}: {row['ours_ms']:.4f} ms, {row['times_torch']:.2f}x", label=row["name"], **row)
    ratios = sorted((row["times_torch"], row["name"]) for row in found["rows"])
    slow = [f"{name} {ratio:.2f}x" for ratio, name in ratios if ratio < 1]
    middle = ratios[len(ratios) // 2][0]
    report.note(summary=[f"{len(ratios)} operations, median {middle:.2f}x cuDNN", f"slower than PyTorch: {', '.join(slow) or 'none'}"])
    report.note(not_reached=len(found["not_reached"]))
    if done.returncode:
        report.row(
            "some operation disagrees with PyTorch, or could not run: see the log", ok=False, label="pytest", why=f"code {done.returncode}"
        )
