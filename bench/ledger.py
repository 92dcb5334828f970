"""``python -m bench.ledger``: the operations and bytes of a training step, with no GPU.

The step runs through the CUDA engine's own code on a device that only records; each launch has declared what it executes (padding
included) and which bytes it touches. The sums are printed beside the least that Algorithm 1 needs (bench.minimum) and beside the time
that an H100 would take at its measured peaks: a floor, not a timing. ``--model`` adds what a launch costs beyond its floor: full and
partly filled waves, operands through the L2 cache, ramps and gaps (kernels.cuda.products.time_model). ``--ranks`` adds what a process
sends and takes that shares the step with others (bench.many).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.dry import record_step
from bench.minimum import minimum
from models.networks import NETWORKS, network
from models.objective import Objective
from vaegan_kernels.files import write_json

#: One H100: operations and bytes a second. The bf16 peak was measured with large products, not read from a data sheet.
MATRIX_PEAK = {"bf16": 800e12, "tf32": 400e12, "float32": 60e12}
BANDWIDTH = 3.0e12
TARGET_FLOPS, TARGET_BYTES = 1.10, 1.30
TARGET_LAUNCHES = 120  # of paper64, batch 64


def floor(flops: float, nbytes: float, precision: str) -> float:
    """The least seconds that an H100 needs: the larger of the two times."""
    return max(flops / MATRIX_PEAK[precision], nbytes / BANDWIDTH)


def ledger(name: str = "paper64", batch: int = 64, precision: str = "bf16", objective: Objective | None = None) -> dict[str, Any]:
    """The ledger of one step: totals, ratios to the minimum, and a row for each kind of launch, the longest floor first."""
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.engine import dry_engine

    objective = objective or Objective()
    launches = record_step(dry_engine(CHIPS["sm_90"], precision), name, batch, objective)
    rows: dict[str, dict[str, Any]] = {}
    for launch in launches:
        cost = launch.cost
        row = rows.setdefault(launch.title, {"launches": 0, "flops": 0, "bytes": 0, "floor_us": 0.0})
        row["launches"] += 1
        row["flops"] += cost.flops
        row["bytes"] += cost.reads + cost.writes
        row["floor_us"] += 1e6 * floor(cost.flops, cost.reads + cost.writes, precision)
    flops, nbytes = sum(r["flops"] for r in rows.values()), sum(r["bytes"] for r in rows.values())
    item = 2 if precision == "bf16" else 4
    least = minimum(network(name), batch, negatives=objective.negatives, bn_groups=objective.bn_groups, item=item)
    return {
        "network": name, "batch": batch, "precision": precision, "bn_groups": objective.bn_groups, "negatives": objective.negatives,
        "launches": len(launches), "flops": flops, "minimum_flops": least.flops, "flops_ratio": flops / least.flops,
        "bytes": nbytes, "minimum_bytes": least.bytes, "bytes_ratio": nbytes / least.bytes,
        "floor_ms": sum(r["floor_us"] for r in rows.values()) / 1e3,
        "minimum_floor_ms": 1e3 * floor(least.flops, least.bytes, precision),
        "rows": dict(sorted(rows.items(), key=lambda pair: -pair[1]["floor_us"])),
    }  # fmt: skip


def print_ledger(result: dict[str, Any], top: int) -> None:
    """The table, as text."""
    what = f"{result['network']}, batch {result['batch']}, {result['precision']}, {result['bn_groups']} statistics"
    print(f"{what}: {result['launches']} launches a step\n")
    print(f"{'launch':50} {'times':>5} {'GFLOP':>9} {'MB':>9} {'H100 floor, us':>15}")

    def line(name: str, rows: list[dict[str, Any]]) -> None:
        times, flops, nbytes, floor_us = (sum(row[key] for row in rows) for key in ("launches", "flops", "bytes", "floor_us"))
        print(f"{name:50} {times:5} {flops / 1e9:9.2f} {nbytes / 1e6:9.2f} {floor_us:15.1f}")

    rows = list(result["rows"].items())
    for name, row in rows[:top]:
        line(name, [row])
    if rows[top:]:
        line(f"... {len(rows) - top} more kinds", [row for _, row in rows[top:]])
    line("together", list(result["rows"].values()))
    for what, unit, scale, target in (("flops", "TFLOP", 1e12, TARGET_FLOPS), ("bytes", "GB", 1e9, TARGET_BYTES)):
        value, least, ratio = result[what] / scale, result[f"minimum_{what}"] / scale, result[f"{what}_ratio"]
        print(f"\n{what}: {value:.3f} {unit}, the minimum {least:.3f}: {ratio:.3f} times (target at most {target:.2f})", end="")
    peak = MATRIX_PEAK[result["precision"]] / 1e12
    print(
        f"\n\nsum of the launches' H100 floors {result['floor_ms']:.2f} ms; all at once, at the minimum, "
        f"{result['minimum_floor_ms']:.2f} ms ({peak:.0f} TFLOP/s, {BANDWIDTH / 1e12:.1f} TB/s; counted, not timed)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__, formatter_class=raw)
    parser.add_argument("--network", choices=list(NETWORKS), default="paper64", help="default: paper64")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a step (default: 64)")
    parser.add_argument("--precision", choices=list(MATRIX_PEAK), default="bf16", help="default: bf16")
    parser.add_argument("--bn-groups", choices=("joint", "split"), default="joint", help="default: joint")
    parser.add_argument("--negatives", choices=("both", "prior"), default="both", help="default: both")
    parser.add_argument("--model", action="store_true", help="also the time of each launch on four boards, by a model")
    parser.add_argument("--ranks", type=int, metavar="N", help="also a step that N processes share, each with a GPU and a batch")
    parser.add_argument("--link", choices=("nvlink", "pcie", "ib"), default="nvlink", help="between their GPUs (default: nvlink)")
    parser.add_argument("--top", type=int, default=40, metavar="K", help="rows of the table (default: 40)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write it as JSON")
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch-size: got {arguments.batch_size}, expected at least 1")
    if arguments.ranks is not None and arguments.ranks < 1:
        parser.error(f"--ranks: got {arguments.ranks}, expected at least 1")
    objective = Objective(bn_groups=arguments.bn_groups, negatives=arguments.negatives)
    result = ledger(arguments.network, arguments.batch_size, arguments.precision, objective)
    print_ledger(result, arguments.top)
    if arguments.model:
        from bench.model import modelled, print_model

        result["model"] = modelled(arguments.network, arguments.batch_size, arguments.precision, objective, arguments.top)
        print_model(result["model"])
    if arguments.ranks:
        from bench.many import print_table, table

        row = arguments.ranks, arguments.link
        result["ranks"] = table(arguments.network, arguments.batch_size, arguments.precision, objective, [row])
        print_table(result["ranks"])
    if arguments.out:
        command = " ".join(["python -m bench.ledger", *(argv if argv is not None else sys.argv[1:])])
        about = {"command": command, "date": time.strftime("%Y-%m-%d")}
        write_json(arguments.out, {**about, **result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
