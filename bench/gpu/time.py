"""Section ``time``: a training step by replaying its graph, and each of its kernels by replaying a graph of that kernel alone.

Beside each time is its floor: the launch's counted operations over this GPU's matrix peak, or its counted bytes over this GPU's
copy bandwidth, whichever is longer (section ``peaks`` measures both; without it, the ones that `bench.ledger` has for an H100).
A kernel that is repeated alone finds in the L2 cache what fits there, so a small one may look faster than its floor; the step does not.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from bench.gpu.common import Options, Report, about, open_engine, spec_of
from bench.gpu.stepper import Stepper
from kernels.cuda.device.timing import recorded, repeated, timed
from models.objective import Objective

REPEATS = 20  # of one launch in its graph


def timed_batches(options: Options, precision: str) -> list[tuple[str, int]]:
    """(network, batch) of the steps that are timed in ``precision``, the most wanted first."""
    if options.host:
        return [("tiny", 2)]
    if precision == "float32" or options.quick:
        return [("paper64", 64)]
    return [("paper64", 64), ("paper64", 16), ("paper64", 256)] if precision == "bf16" else [("paper64", 64)]


def ceilings(options: Options) -> dict[str, Any]:
    """Bytes and operations a second, measured in this run where section ``peaks`` came before."""
    from bench.ledger import BANDWIDTH, MATRIX_PEAK

    result: dict[str, Any] = {"bandwidth": BANDWIDTH, "products": dict(MATRIX_PEAK), "measured": False}
    with contextlib.suppress(OSError, ValueError, KeyError):
        peaks = json.loads((Path(options.out) / "peaks.json").read_text(encoding="utf-8"))
        if peaks["bandwidth"] > 0:
            result |= {"bandwidth": peaks["bandwidth"], "measured": True}
            result["products"] |= {name: rate for name, rate in peaks["products"].items() if rate > 0}
    return result


def step_row(engine: Any, name: str, batch: int, rounds: int, peak: dict[str, Any]) -> tuple[dict[str, Any], Stepper, Any]:
    """The time of a captured step with its floors; the stepper and its graph, for the kernels."""
    from bench.minimum import minimum

    spec, objective = spec_of(name), Objective(gate=False)
    stepper = Stepper(engine, spec, batch, objective)
    step = engine.record(stepper.body)
    on_gpu = engine.device.name == "gpu"
    for _ in range(3 if on_gpu else 1):
        step()
    engine.synchronize()
    span = timed(engine.device, step, rounds=rounds if on_gpu else 1, seconds=0.3)
    with recorded(engine.device) as calls:
        stepper.body()
    engine.synchronize()
    costs = [call.launch.cost for call in calls]
    flops, nbytes = sum(c.flops for c in costs), sum(c.reads + c.writes for c in costs)
    least = minimum(spec, batch, item=2 if engine.precision == "bf16" else 4)
    rate = peak["products"][engine.precision]
    floors = sum(max(c.flops / rate, (c.reads + c.writes) / peak["bandwidth"]) for c in costs)
    minimal = max(least.flops / rate, least.bytes / peak["bandwidth"])
    losses = engine.to_numpy(stepper.model.losses).tolist()
    row = {
        "network": name, "batch": batch, "precision": engine.precision, "launches": len(calls), "step_ms": span.as_dict(1e3),
        "images_per_s": batch / span.median, "flops": flops, "bytes": nbytes, "flops_per_s": flops / span.median,
        "floor_of_launches_ms": 1e3 * floors, "floor_of_minimum_ms": 1e3 * minimal, "minimum_flops": least.flops,
        "minimum_bytes": least.bytes, "losses": losses,
    }  # fmt: skip
    return row, stepper, calls


def kernel_rows(engine: Any, calls: list[Any], peak: dict[str, Any], report: Report, seconds: float) -> list[dict[str, Any]]:
    """The time of each different launch of a step, those with the longest floors first while ``seconds`` last."""
    from kernels.cuda.device.compile import key_of

    groups: dict[Any, list[Any]] = {}
    for call in calls:
        launch = call.launch
        groups.setdefault((key_of(launch), launch.grid, launch.cost), []).append(call)
    rate, end = peak["products"][engine.precision], report.left - seconds

    def floor(cost: Any) -> float:
        return float(max(cost.flops / rate, (cost.reads + cost.writes) / peak["bandwidth"]))

    rows = []
    for same in sorted(groups.values(), key=lambda g: -floor(g[0].launch.cost) * len(g)):
        launch = same[0].launch
        row: dict[str, Any] = {"kernel": launch.title, "times": len(same), "floor_us": 1e6 * floor(launch.cost), "us": None}
        row |= {"flops": launch.cost.flops, "bytes": launch.cost.reads + launch.cost.writes, "warps": launch.warps, "stages": launch.stages}
        row["constants"] = {k: v for k, v in launch.constexprs.items() if isinstance(v, int | str | bool | list | tuple)}
        rows.append(row)
        if report.left < end:
            continue
        count = REPEATS if engine.device.name == "gpu" else 1
        graph = repeated(engine.device, same[0].again, count) if count > 1 else same[0].again
        span = timed(engine.device, graph, rounds=5 if count > 1 else 1, seconds=0.004)
        each = span.median / count
        row |= {"us": 1e6 * each, "us_least": 1e6 * span.least / count, "us_largest": 1e6 * span.largest / count}
        row |= {
            "tflops": launch.cost.flops / each / 1e12,
            "gbytes": row["bytes"] / each / 1e9,
            "over_floor": 1e6 * each / max(row["floor_us"], 1e-9),
        }
    return rows


def shape_of(row: dict[str, Any]) -> str:
    """What distinguishes launches, short: a product's channels or columns, tile, stages and warps; of others the bytes that they touch."""
    c = row["constants"]
    sizes = [
        f"{name}{c[name]}" for name in ("SC", "N", "XC", "CI", "CO", "INPUTS", "OUTPUTS", "COLUMNS", "S") if isinstance(c.get(name), int)
    ]
    if "BM" in c:
        sizes.append(f"{c['BM']}x{c.get('BN')}x{c.get('BK')},{row['stages']},{row['warps']}")
    return " ".join([*sizes, *(["TMA"] if c.get("TMA") else [])]) if sizes else f"{row['bytes'] / 1e6:.2f} MB"


def print_kernels(rows: list[dict[str, Any]], step_ms: float) -> list[str]:
    """The table of a step's kernels, the longest first; its lines."""
    known = sorted((r for r in rows if r["us"] is not None), key=lambda r: -r["us"] * r["times"])
    total = sum(r["us"] * r["times"] for r in known) / 1e3
    lines = [
        f"{'kernel':30} {'shape and tile':46} {'times':>5} {'us each':>8} {'floor':>8} {'x':>5} {'TFLOP/s':>7} {'GB/s':>5} {'ms a step':>9}"
    ]
    for r in known:
        lines.append(
            f"{r['kernel'][:30]:30} {shape_of(r)[:46]:46} {r['times']:5} {r['us']:8.1f} {r['floor_us']:8.1f} {r['over_floor']:5.2f} "
            f"{r['tflops']:7.1f} {r['gbytes']:5.0f} {r['us'] * r['times'] / 1e3:9.3f}"
        )
    lines.append(f"sum of the kernels {total:.3f} ms, the step {step_ms:.3f} ms; {len(rows) - len(known)} kinds not timed")
    return lines


def time_section(options: Options, report: Report) -> None:
    """The first precision's first step with its kernels, then the other steps, then the other kernels while the time lasts."""
    peak = ceilings(options)
    report.note(ceilings=peak, method=__doc__)
    engines: dict[str, Any] = {}
    summary: list[str] = []
    wanted = [(p, n, b) for p in options.precisions for n, b in timed_batches(options, p)]
    wanted.sort(key=lambda w: w[2] != 64)  # of every precision the usual batch, then the other batches
    for number, (precision, name, batch) in enumerate(wanted):
        if report.left < 5.0 and number:
            summary.append(f"{precision} {name} batch {batch}: not reached in the time")
            continue
        try:
            if precision not in engines:
                engines[precision] = open_engine(options, precision)
                if number == 0:
                    report.note(about=about(engines[precision]))
            row, _, calls = step_row(engines[precision], name, batch, 5 if options.quick or options.host else 9, peak)
        except (RuntimeError, ValueError, MemoryError) as error:
            report.row(
                f"{precision} {name}, batch {batch}: {error}", ok=False, label=f"{precision} {name} batch {batch}", why=str(error)[:300]
            )
            continue
        step_ms = row["step_ms"]["median"]
        ratio = step_ms / row["floor_of_launches_ms"], step_ms / row["floor_of_minimum_ms"]
        spread = f"{row['step_ms']['least']:.3f} to {row['step_ms']['largest']:.3f}"
        text = (
            f"{precision} {name}, batch {batch}: {step_ms:.3f} ms a step ({spread}), "
            f"{row['images_per_s']:.0f} images/s, {row['flops_per_s'] / 1e12:.0f} TFLOP/s, {ratio[0]:.2f}x its launches' floor, "
            f"{ratio[1]:.2f}x the minimum's"
        )
        summary.append(text)
        kernels = kernel_rows(engines[precision], calls, peak, report, 45.0) if number < 2 else []
        if kernels:
            lines = print_kernels(kernels, step_ms)
            print("\n".join(lines))
            summary += [f"    {line}" for line in (lines[:13] + lines[-1:] if number == 0 else lines[-1:])]
        report.row(text, label=f"{precision} {name} batch {batch}", **row, kernels=kernels)
        del calls
        report.note(summary=summary)
    report.note(summary=summary)
