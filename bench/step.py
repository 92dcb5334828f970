"""The whole training step against PyTorch: time in alternating rounds, peak memory of each contestant alone.

    python -m bench.step --network paper64 --batch-size 16 --rounds 7 --out bench/results/step-cpu.json
    python -m bench.step --network small32 --vectors avx2
    python -m bench.step --network paper64,paper32 --batch-size 16,64,256 --device cuda --out bench/results/step-h100.json

`bench.contestants` says who they are. Results are written after every network and batch size; the result says which batch does not fit.
On the CPU it says what fraction of the machine's peak (`bench.peaks`, measured at the start) a step's operations are, those of its
definition (`bench.minimum`); ours and `--vectors`: `bench.vectors`.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import vectors
from bench.contestants import NAMES, Contestant, defaults, fastest, make
from bench.memory import measure as measure_memory
from bench.minimum import minimum
from bench.report.tables import notes, source
from vaegan_kernels.files import write_json

SHORTEST = 0.2  # seconds of a contestant's turn


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def case(network: str, n: int, names: list[str], rounds: int, *, device: str, precision: str, memory: bool = True) -> dict[str, Any]:
    """Time the contestants alternately in one process, then measure the memory of each in a process of its own."""
    from bench.gpu.common import spec_of
    from bench.harness import busy_cores
    from bench.side import side

    target: dict[str, str] = {"device": device, "precision": precision}
    spec, busy = spec_of(network), [busy_cores()]
    settings = {name: fastest(name, spec, n, **target) for name in names}
    contestants: dict[str, Contestant] = {name: make(name, spec, n, settings=settings[name], **target) for name in names}
    turns = {}
    for name, contestant in contestants.items():
        for _ in range(3 if device == "cuda" else 1):
            contestant.step()
        turns[name] = max(1, round(SHORTEST / max(side(device, precision).elapsed(contestant.step), 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        k = i % len(names)
        for name in names[k:] + names[:k]:  # nobody always runs after the same one
            side(device, precision).rest()
            times[name].append(side(device, precision).elapsed(contestants[name].step, turns[name]))
    contestants.clear()
    gc.collect()
    busy.append(busy_cores())
    return {
        "network": network, "batch_size": n, "rounds": rounds, "settings": settings, "busy_cores_of_others": busy,
        "gflop": minimum(spec, n, item=4).flops / 1e9, "seconds": {name: spread(t) for name, t in times.items()},
        "times_faster_than": {
            name: spread([a / b for a, b in zip(times[name], times["ours"], strict=True)]) for name in names if name != "ours"
        },
        "memory": {name: measure_memory(name, network, n, settings=settings[name], **target) for name in names} if memory else {},
    }  # fmt: skip


def of_peak(row: dict[str, Any], peaks: dict[str, Any]) -> dict[str, float]:
    """What fraction of the machine's multiply-adds the operations of the step's definition are, for each contestant."""
    return {name: row["gflop"] / s["median"] / peaks["gflop_per_s"] for name, s in row["seconds"].items()} if peaks else {}


def report(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    from bench.harness import quiet_note

    m, lines = result["machine"], [source(result)]
    lines.append(f"Python {m['python']}, NumPy {m['numpy']}" + (f"; {m['notice']}" if m.get("notice") else ""))
    lines += notes(result)
    for row in result["cases"]:
        head = f"{row['network']}, batch {row['batch_size']}"
        if "failed" in row:
            lines.append(f"{head}\n  {row['failed']}")
            continue
        lines.append(f"{head}, {row['gflop']:.4g} GFLOP a step, {row['rounds']} alternating rounds")
        for name, seconds in row["seconds"].items():
            held, ratio = row["memory"].get(name), row["times_faster_than"].get(name)
            line = f"  {name:<8} {1e3 * seconds['median']:9.2f} ms a step ({1e3 * seconds['min']:.2f} to {1e3 * seconds['max']:.2f})"
            line += f"   {100 * row['of_peak'][name]:4.0f} % of the peak" if row["of_peak"] else ""
            if held:
                line += f"   peak {held['peak_mb']:7.0f} MB: state {held['state_mb']:.0f}, activations {held['activations_mb']:.0f}"
                line += f", imports {held['imports_mb']:.0f}" if held["imports_mb"] else ""
            if ratio:
                line += f"   ours is {ratio['median']:.2f}x as fast ({ratio['min']:.2f} to {ratio['max']:.2f})"
                line += f", {row['settings'][name]}" if row["settings"][name] else ""
            lines.append(line)
        note = quiet_note(*row["busy_cores_of_others"])
        lines += [note] if note else []
    return "\n".join(lines)


def held_to(level: str, device: str, words: list[str]) -> dict[str, Any]:
    """What of the result says that everything keeps to ``level`` (`bench.vectors.check`); where this process was not started for that, one
    that is does the run, and this one ends. Ends with one line where it cannot be."""
    if device != "cpu":
        sys.exit(f"--vectors {level}: is the CPU's, and the device is {device}")
    if missing := vectors.missing(level):
        sys.exit(subprocess.call([sys.executable, "-m", "bench.step", *words], env={**os.environ, **missing}))
    from bench.side import side

    engine = side("cpu", "float32").engine
    if engine.describe()["engine"] != "native":
        sys.exit(f"--vectors {level}: our library is not there: {engine.notice}")
    try:
        return {"held": vectors.check(level)}
    except RuntimeError as error:
        sys.exit(str(error))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.step", description="Time a training step against PyTorch.")
    parser.add_argument("--network", default="paper64", help="one or more, with commas between (default: paper64)")
    parser.add_argument("--batch-size", default="16", help="one or more, with commas between (default: 16)")
    parser.add_argument("--device", choices=("cpu", "cuda", "host"), default="cpu", help="host: the CUDA engine emulated (default: cpu)")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), help="default: float32 on the CPU, bf16 on a GPU")
    parser.add_argument("--vectors", choices=vectors.LEVELS, default="native", help="hold all to these (default: all that there are)")
    parser.add_argument("--contestants", help=f"of {', '.join(NAMES)} (default: all that the device is for)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words)
    device = arguments.device
    names = arguments.contestants.split(",") if arguments.contestants else list(defaults(device))
    if names[0] != "ours" or set(names) - set(NAMES):
        sys.exit(f"--contestants: got {','.join(names)}, expected ours first, then some of {', '.join(NAMES[1:])}")
    if "numpy" in names and device != "cpu":
        sys.exit(f"--contestants: numpy is an engine of the CPU, and the device is {device}")
    held = held_to(arguments.vectors, device, words) if arguments.vectors != "native" else {}
    from bench.harness import machine  # PyTorch with it: not before it is clear what it may use
    from bench.peaks import measure
    from bench.side import THREADS, side, usual_precision

    precision = arguments.precision or usual_precision(device)
    result: dict[str, Any] = {
        "command": "python -m bench.step " + " ".join(words), "machine": machine(side(device, precision)), **held,
        "peaks": measure(THREADS) if device == "cpu" else {}, "cases": [],
    }  # fmt: skip
    for network in arguments.network.split(","):
        for n in map(int, arguments.batch_size.split(",")):
            target = {"device": device, "precision": precision, "memory": not arguments.no_memory}
            try:
                row = case(network, n, names, arguments.rounds, **target)
                row["of_peak"] = of_peak(row, result["peaks"])
            except (MemoryError, RuntimeError) as error:  # out of memory has a class of its own with each of three libraries
                row = {"network": network, "batch_size": n, "failed": f"not measured: {str(error).splitlines()[0]}"}
            result["cases"].append(row)
            if arguments.out:
                write_json(arguments.out, result)
    print(report(result))


if __name__ == "__main__":
    main()
