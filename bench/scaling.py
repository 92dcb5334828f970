"""How cost grows: time and memory of a step against batch, image size and width, beside PyTorch's.

    python -m bench.scaling --network small32 --out bench/results/scaling-cpu.json
    python -m bench.scaling --network paper64 --device cuda --out bench/results/scaling-h100.json

Each sweep starts at its smallest case; one that would take longer than --longest or more memory than there is, judged by the case before,
is not started, and the result says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.contestants import defaults
from bench.step import case
from vaegan_kernels.files import write_json

BATCHES = (8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (32, 48, 64, 96, 128)
WIDTHS = (0.5, 0.71, 1.0, 1.41, 2.0)


class Point(NamedTuple):
    """A case of a sweep: ``weight`` is what its cost is expected to be proportional to."""

    sweep: str
    value: float
    network: str
    batch: int
    weight: float


def points(network: str, batch: int) -> Iterator[list[Point]]:
    """The three sweeps, each from its smallest case on. Size and width are varied at ``batch``."""
    yield [Point("batch", n, network, n, n) for n in BATCHES]
    yield [Point("size", s, f"{network}:{s}px", batch, s * s) for s in SIZES]
    yield [Point("width", w, f"{network}:x{w:g}", batch, w * w) for w in WIDTHS]


def free_mb(device: str) -> float:
    """Memory that a process can have here."""
    if device == "cuda":
        import cupy

        return float(cupy.cuda.runtime.memGetInfo()[0]) / 2**20
    lines = Path("/proc/meminfo")
    if not lines.exists():
        return float("inf")
    return next(float(line.split()[1]) / 1024 for line in lines.read_text().splitlines() if line.startswith("MemAvailable"))


def refusal(point: Point, before: dict[str, Any] | None, last: Point | None, longest: float, rounds: int, free: float) -> str:
    """Why a case is not started, judged by the one before; empty: start it."""
    if before is None or last is None:
        return ""
    growth = point.weight / last.weight
    seconds = (rounds + 8) * growth * sum(s["median"] for s in before["seconds"].values())
    if seconds > longest:
        return f"not measured: about {seconds:.0f} s, longer than --longest {longest:.0f}"
    held = [m["state_mb"] + m["imports_mb"] + growth * m["activations_mb"] for m in before["memory"].values()]
    if sum(held) > 0.9 * free:
        return f"not measured: about {sum(held) / 1024:.1f} GB in one process, {free / 1024:.1f} GB are free"
    return ""


def sweep(cases: list[Point], names: list[str], rounds: int, longest: float, *, device: str, precision: str) -> Iterator[dict[str, Any]]:
    """The results of one sweep as they come; the first that is not measured ends it."""
    before: dict[str, Any] | None = None
    last: Point | None = None
    for point in cases:
        label = {"sweep": point.sweep, "value": point.value, "network": point.network, "batch_size": point.batch}
        why = refusal(point, before, last, longest, rounds, free_mb(device))
        if not why:
            try:
                before, last = case(point.network, point.batch, names, rounds, device=device, precision=precision), point
                yield {**before, **label}
                continue
            except (MemoryError, RuntimeError) as error:
                why = f"not measured: {str(error).splitlines()[0]}"
        yield {**label, "failed": why}
        return


def line_of(row: dict[str, Any]) -> str:
    """A case in a line."""
    head = f"{row['sweep']:6} {row['value']:>6g}  "
    if "failed" in row:
        return head + row["failed"]
    cells = [f"{name} {1e3 * s['median']:9.1f} ms {row['memory'][name]['peak_mb']:6.0f} MB" for name, s in row["seconds"].items()]
    return head + "   ".join(cells)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    from bench.harness import machine
    from bench.side import side, usual_precision

    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description="Step time and memory against batch, size and width.")
    parser.add_argument("--network", default="small32", help="the middle of the sweeps (default: small32)")
    parser.add_argument("--batch-size", type=int, default=16, help="of the sweeps over size and width (default: 16)")
    parser.add_argument("--device", choices=("cpu", "cuda", "host"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), help="default: float32 on the CPU, bf16 on a GPU")
    parser.add_argument("--sweeps", default="batch,size,width", help="which (default: batch,size,width)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longest", type=float, default=120.0, help="seconds that a case may take (default: 120)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    arguments = parser.parse_args(argv)
    precision = arguments.precision or usual_precision(arguments.device)
    names = [name for name in defaults(arguments.device) if name not in ("numpy", "plain")]
    result: dict[str, Any] = {
        "command": "python -m bench.scaling " + " ".join(sys.argv[1:] if argv is None else argv),
        "machine": machine(side(arguments.device, precision)), "network": arguments.network, "cases": [],
    }  # fmt: skip
    for cases in points(arguments.network, arguments.batch_size):
        if cases[0].sweep not in arguments.sweeps.split(","):
            continue
        for row in sweep(cases, names, arguments.rounds, arguments.longest, device=arguments.device, precision=precision):
            print(line_of(row), flush=True)
            result["cases"].append(row)
            write_json(arguments.out, result)


if __name__ == "__main__":
    main()
