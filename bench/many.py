"""``python -m bench.many``: what a step shared among GPUs sends, and what it should take: a model, nothing of it timed.

The step of one of the processes runs through the engine's own code on a device that only records, launches and collectives. Bytes are
counted. Times are those of bench.model for the launches, and for a collective of S bytes on n GPUs in a ring, by the faster of NCCL's
protocols:

    gather   base + (n − 1) hops + (n − 1)/n S / bandwidth,     sum   twice the hops and the bytes

Each process has ``--batch-size`` images, so the whole batch grows with the processes (weak scaling): efficiency is the time of one process
alone over that of each of n.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.dry import record_step, shared
from bench.model import estimate
from kernels.cuda.device.boards import BOARDS
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.collective import Collective
from kernels.cuda.engine import dry_engine
from models.networks import NETWORKS
from models.objective import Objective
from vaegan_kernels.files import write_json

BOARD = "H100"
NODE = 8  # GPUs of a machine
#: NCCL's protocols: seconds that a collective takes at least, and the share of the bandwidth that is data (NCCL, src/graph/tuning.cc).
PROTOCOLS = {"LL": (6.6e-6, 0.5), "LL128": (14.0e-6, 120 / 128), "Simple": (8.4e-6, 1.0)}


class Link(NamedTuple):
    """``bandwidth``: bytes a second that each GPU of a large ring sends; ``hop``: seconds from GPU to GPU by protocol (NCCL, as above)."""

    what: str
    bandwidth: float
    hop: dict[str, float]


LINKS = {
    "nvlink": Link("NVLink 4 with NVSwitch", 350e9, {"LL": 0.6e-6, "LL128": 1.9e-6, "Simple": 3.4e-6}),
    "pcie": Link("PCIe 4.0 x16, through the host", 20e9, {"LL": 1.0e-6, "LL128": 2.5e-6, "Simple": 5.7e-6}),
    "ib": Link(f"machines of {NODE} with NVLink, 8 x 400 Gb/s between them", 350e9, {"LL": 2.7e-6, "LL128": 4.0e-6, "Simple": 14.0e-6}),
}
#: (processes, link) of the table.
ROWS = ((1, "nvlink"), (2, "nvlink"), (4, "nvlink"), (8, "nvlink"), (8, "pcie"), (16, "ib"), (32, "ib"), (64, "ib"))


def sent(found: Collective, ranks: int) -> float:
    """Bytes that each process sends."""
    return (2 if found.kind == "total" else 1) * (ranks - 1) / ranks * sum(found.nbytes)


def seconds(found: Collective, ranks: int, link: str) -> float:
    """Of one collective, by the faster protocol."""
    between = ranks // NODE if link == "ib" else 0  # hops from machine to machine
    times = []
    for protocol, (base, data) in PROTOCOLS.items():
        inside = LINKS["nvlink" if between else link].hop[protocol]
        hops = (ranks - 1 - between) * inside + between * LINKS[link].hop[protocol]
        times.append(base + (2 if found.kind == "total" else 1) * hops + sent(found, ranks) / (data * LINKS[link].bandwidth))
    return min(times)


def kind_of(found: Collective) -> str:
    """Its row in the table: what it is for."""
    if found.kind == "total":
        return "gradients and losses, summed"
    if found.dtypes == ("float64",):
        return "losses for the gate"
    return "statistics and sums of batch norm" if found.dtypes == ("float32",) else "rows of large linear layers"


def scaled(name: str, batch: int, precision: str, objective: Objective, ranks: int, link: str) -> dict[str, Any]:
    """One row: launches, collectives, bytes that each process sends, milliseconds."""
    board = BOARDS[BOARD]
    chip = CHIPS[f"sm_{board.sm}"]
    engine: Any = dry_engine(chip, precision)
    if ranks > 1:
        engine = shared(engine, 0, ranks, ranks * batch)
    launches = record_step(engine, name, batch, objective)
    collectives = engine.device.collectives
    computed = sum(estimate(launch, board, chip.shared_bytes, precision).seconds for launch in launches)
    kinds: dict[str, dict[str, Any]] = {}
    for found in collectives:
        row = kinds.setdefault(kind_of(found), {"times": 0, "bytes": 0.0, "ms": 0.0})
        row["times"] += 1
        row["bytes"] += sent(found, ranks)
        row["ms"] += 1e3 * seconds(found, ranks, link)
    whole = 1e3 * computed + sum(row["ms"] for row in kinds.values())
    return {
        "processes": ranks, "link": link, "images": ranks * batch, "launches": len(launches), "collectives": len(collectives),
        "bytes": sum(row["bytes"] for row in kinds.values()), "computed_ms": 1e3 * computed, "step_ms": whole, "kinds": kinds,
    }  # fmt: skip


def table(name: str, batch: int, precision: str, objective: Objective, rows: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """The rows, each with its efficiency and its images a second."""
    alone = scaled(name, batch, precision, objective, 1, "nvlink")["step_ms"]
    found = [scaled(name, batch, precision, objective, ranks, link) for ranks, link in rows]
    return [{**row, "efficiency": alone / row["step_ms"], "images_per_s": 1e3 * row["images"] / row["step_ms"]} for row in found]


def assumptions() -> list[str]:
    """The table of assumptions, as lines."""
    lines = [
        f"board {BOARD}; protocol: base, share of data: " + ", ".join(f"{k} {1e6 * b:g} us {s:.2f}" for k, (b, s) in PROTOCOLS.items())
    ]
    for link, about in LINKS.items():
        hops = ", ".join(f"{protocol} {1e6 * hop:g}" for protocol, hop in about.hop.items())
        lines.append(f"{link:7} {about.bandwidth / 1e9:4.0f} GB/s a GPU, us a hop: {hops}  ({about.what})")
    return lines


def print_table(rows: list[dict[str, Any]]) -> None:
    """The assumptions, the rows, and what the last one sends."""
    print("\nSeveral processes, a GPU each: a model, nothing of it timed. It assumes:\n")
    print("\n".join(assumptions()))
    print(f"\n{'processes':>9} {'link':7} {'images':>6} {'launches':>9} {'collectives':>11} {'MB sent':>8} {'ms':>6} {'efficiency':>10}")
    for row in rows:
        print(
            f"{row['processes']:9} {row['link']:7} {row['images']:6} {row['launches']:9} {row['collectives']:11} {row['bytes'] / 1e6:8.1f} "
            f"{row['step_ms']:6.2f} {row['efficiency']:10.0%}"
        )
    print(f"\n{'of the last row':36} {'times':>5} {'MB sent':>8} {'ms':>7}")
    for kind, row in rows[-1]["kinds"].items():
        print(f"{kind:36} {row['times']:5} {row['bytes'] / 1e6:8.2f} {row['ms']:7.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__, formatter_class=raw)
    parser.add_argument("--network", choices=list(NETWORKS), default="paper64", help="default: paper64")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images of each process (default: 64)")
    parser.add_argument("--precision", choices=("bf16", "tf32", "float32"), default="bf16", help="default: bf16")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write it as JSON")
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch-size: got {arguments.batch_size}, expected at least 1")
    rows = table(arguments.network, arguments.batch_size, arguments.precision, Objective(), ROWS)
    print_table(rows)
    if arguments.out:
        command = " ".join(["python -m bench.many", *(argv if argv is not None else sys.argv[1:])])
        about = {"command": command, "date": time.strftime("%Y-%m-%d"), "network": arguments.network, "batch": arguments.batch_size}
        write_json(arguments.out, {**about, "precision": arguments.precision, "assumptions": assumptions(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
