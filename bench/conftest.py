"""The comparison with PyTorch as a table at the end of `pytest bench --benchmark-only`, and with ``--results FILE`` as a JSON file."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from bench.harness import busy_cores, machine, quiet_note
from bench.report.tables import source
from bench.shapes import BATCH, NETWORK
from bench.side import THREADS, side
from vaegan_kernels.files import write_json

_busy: list[float | None] = []
_peaks: list[dict[str, float]] = []
_late: list[str] = []
BEGUN = time.perf_counter()
RATES = ("gflop_per_s", "torch_gflop_per_s", "gb_per_s", "torch_gb_per_s", "images_per_s")
KEPT = ("ours_ms", "torch_ms", "times_torch", "sets", "flop", "bytes", *RATES)


def pytest_addoption(parser):
    parser.addoption("--results", metavar="FILE", help="write the comparison with PyTorch, and this machine's peaks, to a JSON file")
    parser.addoption("--seconds", type=float, default=float("inf"), metavar="S", help="begin no comparison later than this")


def pytest_sessionstart(session):
    _busy.append(busy_cores())
    if session.config.getoption("--results") and side().name == "cpu":
        from bench.peaks import measure

        _peaks.append(measure(THREADS))


def pytest_runtest_setup(item):
    if time.perf_counter() - BEGUN > item.config.getoption("--seconds"):
        _late.append(item.name)
        pytest.skip("not reached in the time")


def pytest_sessionfinish():
    _busy.append(busy_cores())


def pytest_terminal_summary(terminalreporter):
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    rows = [(b.name, b.extra_info) for b in getattr(session, "benchmarks", []) if "times_torch" in b.extra_info]
    if not rows:
        return
    write, first = terminalreporter.write_line, rows[0][1]
    write(f"{source({'machine': first})}, medians of alternating rounds:")
    for name, info in rows:
        rates = [f"{info[k]:.0f} {unit}" for k, unit in (("gflop_per_s", "GFLOP/s"), ("gb_per_s", "GB/s")) if k in info]
        write(f"{name:<60} {info['ours_ms']:>10.3f} ms  torch {info['torch_ms']:>10.3f} ms  x{info['times_torch']:.2f}  {' '.join(rates)}")
    if quiet_note(*_busy):
        write(quiet_note(*_busy), red=True)
    path = terminalreporter.config.getoption("--results")
    if path:
        result = {
            "command": "pytest " + " ".join(a for a in sys.argv[1:]), "network": NETWORK, "batch_size": BATCH, "machine": machine(side()),
            "peaks": _peaks[0] if _peaks else {}, "busy_cores_of_others": _busy,
            "not_reached": _late,
            "rows": [{"name": name, **{k: info[k] for k in KEPT if k in info}} for name, info in rows],
        }  # fmt: skip
        write_json(Path(path), result)
        write(f"written to {path}")
