"""The comparison with PyTorch as a table at the end of `pytest bench --benchmark-only`."""

from __future__ import annotations

from bench.harness import busy_cores, quiet_note

_busy: list[float | None] = []


def pytest_sessionstart():
    _busy.append(busy_cores())


def pytest_sessionfinish():
    _busy.append(busy_cores())


def pytest_terminal_summary(terminalreporter):
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    rows = [(b.name, b.extra_info) for b in getattr(session, "benchmarks", []) if "times_torch" in b.extra_info]
    if not rows:
        return
    write, first = terminalreporter.write_line, rows[0][1]
    write(f"against PyTorch {first['torch']}, {first['threads']} threads, {first['cpu']}, medians of alternating rounds:")
    for name, info in rows:
        rates = [f"{info[k]:.0f} {unit}" for k, unit in (("gflop_per_s", "GFLOP/s"), ("gb_per_s", "GB/s")) if k in info]
        write(f"{name:<60} {info['ours_ms']:>10.2f} ms  torch {info['torch_ms']:>10.2f} ms  x{info['times_torch']:.2f}  {' '.join(rates)}")
    if quiet_note(*_busy):
        write(quiet_note(*_busy), red=True)
