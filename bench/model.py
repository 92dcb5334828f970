"""Each launch of a recorded step under the time model (kernels.cuda.products.time_model), and the table of what it assumes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from bench.aot.collect import tile_of
from bench.dry import record_step
from kernels.cuda.device.boards import BOARDS, SHOWN, Board
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import dry_engine
from kernels.cuda.products import time_model
from kernels.cuda.products.tiles import phase_taps
from kernels.cuda.products.time_model import Estimate, Tile
from models.objective import Objective

TABLE = Path(__file__).resolve().parent / "results" / "aot.json"
ASSUMED = ("GAP", "DEPENDENT_GAP", "RAMP", "WAIT", "LATENCY", "LOOP", "STEP", "MADE", "PORT", "WARPS", "IDLE", "IN_FLIGHT")


def estimate(launch: Any, board: Board, shared: int, precision: str) -> Estimate:
    """The estimate of one recorded launch on ``board``, whose multiprocessors have ``shared`` bytes of shared memory."""
    x, y, z = launch.grid
    moved = launch.cost.reads + launch.cost.writes
    constants = launch.constexprs
    if not launch.cost.flops:
        return time_model.passes(board, x * y * z, 32 * launch.warps, moved, waits=_waits(launch))
    tile = Tile(constants["BM"] * constants.get("UNITS", 1), constants["BN"], constants["BK"], launch.stages, launch.warps)
    work = launch.cost.flops / (2 * tile.bm * tile.bn * tile.bk)  # programs x steps
    if constants.get("FRACTIONAL"):
        taps = sorted((a * b for a in phase_taps(constants["KH"]) for b in phase_taps(constants["KW"])), reverse=True)
        classes = tuple((x * z, round(work * t / sum(taps) / (x * z))) for t in taps)
    else:
        classes = ((x * y * z, max(1, round(work / (x * y * z)))),)
    tma = bool(constants.get("TMA", launch.name == "wgrad_boxes"))
    stored = (launch.cost.writes + sum(_previous(launch))) / (x * y * z * tile.bm * tile.bn)
    made = 0
    if launch.signature.get("pre", "constexpr") != "constexpr":
        made = (tile.bn if launch.name == "wgrad_pointers" and not constants["OF_X"] else tile.bm) * tile.bk
    counted = _loops().get((f"sm_{board.sm}", precision, launch.name, tile_of(launch, launch.warps)))
    instructions = time_model.STEP if counted is None else counted - time_model.MADE * made / (32 * launch.warps)
    return time_model.product(
        board, precision, tile, classes, tma=tma, shared=shared, moved=moved, stored=stored, made=made, instructions=instructions
    )


@functools.cache
def _loops() -> dict[tuple[str, str, str, str], float]:
    """Instructions of a warp in a step of each product's main loop, but for those of the matrix unit, by chip, precision, kernel and tile:
    of the compiled code in the committed table (bench.aot)."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["kernels"].values()
    return {
        (row["chip"], row["precision"], row["kernel"], row["tile"]): (row["loop"]["all"] - row["loop"].get("matrix", 0)) / row["steps"]
        for row in rows
        if row["steps"]
    }


def _waits(launch: Any) -> int:
    """How often the blocks of a launch wait for each other: for sums, and before that for the partial sums that they add up."""
    return 2 if launch.name in ("bn_statistics_forward", "bn_sums_backward") else int("*uint32" in launch.signature.values())


def _previous(launch: Any) -> list[int]:
    """Bytes of the previous layer's output, which an epilogue reads beside what it writes."""
    return [launch.cost.writes] if "previous" in launch.signature and launch.signature["previous"] != "constexpr" else []


#: What the model adds to the floors, and the assumptions without which it would not: of `time_model`, and "l2" of a board.
ADDED: dict[str, dict[str, Any]] = {
    "gaps and ramps": {"GAP": 0.0, "DEPENDENT_GAP": 0.0, "RAMP": 0.0},
    "waits for sums": {"WAIT": 0.0},
    "latencies": {"LATENCY": 1e-12},
    "main loops": {"LOOP": {True: 1.0, False: 1.0}, "IDLE": 1.0},
    "L2 cache": {"PORT": 1e9, "l2": 1e18},
}


def without(launches: list[Any], board: Board, shared: int, precision: str, free: dict[str, Any]) -> float:
    """Seconds of the step if what is in ``free`` cost nothing."""
    kept = {name: getattr(time_model, name) for name in free if name != "l2"}
    try:
        for name in kept:
            setattr(time_model, name, free[name])
        board = board._replace(l2=free.get("l2", board.l2))
        return sum(estimate(launch, board, shared, precision).seconds for launch in launches)
    finally:
        for name, value in kept.items():
            setattr(time_model, name, value)


def assumptions() -> list[str]:
    """The table of assumptions, as lines."""
    lines = [
        f"{'board':10} {'SMs':>4} {'bf16':>6} {'tf32':>6} {'f32':>5} TFLOP/s {'memory':>7} {'L2':>5} TB/s {'L2':>4} MB {'clock':>6} GHz"
    ]
    for name in SHOWN:
        b = BOARDS[name]
        rates = f"{b.bf16 / 1e12:6.0f} {b.tf32 / 1e12:6.0f} {b.float32 / 1e12:5.0f}         {b.bandwidth / 1e12:7.2f} {b.l2 / 1e12:5.1f}"
        lines.append(f"{name:10} {b.multiprocessors:4} {rates}      {b.l2_bytes >> 20:4}    {b.clock / 1e9:6.2f}")
    return [*lines, "time_model: " + ", ".join(f"{name} {getattr(time_model, name)}" for name in ASSUMED)]


def modelled(name: str, batch: int, precision: str, objective: Objective, top: int) -> dict[str, Any]:
    """For each board the step's launches, their seconds in all, and a row for each of the ``top`` longest kinds of launch."""
    result = {}
    for title in SHOWN:
        board = BOARDS[title]
        chip = CHIPS[f"sm_{board.sm}"]
        rows: dict[str, dict[str, Any]] = {}
        launches = record_step(dry_engine(chip, precision), name, batch, objective)
        for launch in launches:
            found = estimate(launch, board, chip.shared_bytes, precision)
            constants = launch.constexprs
            tile = [constants["BM"] * constants.get("UNITS", 1), constants["BN"], constants["BK"]] if launch.cost.flops else []
            key = " ".join(filter(None, (launch.title, "x".join(map(str, tile)))))
            row = rows.setdefault(key, {"launches": 0, "waves": 0.0, "program_us": 0.0, "model_us": 0.0, "bound": found.bound})
            row["launches"] += 1
            row["model_us"] += 1e6 * found.seconds
            row["waves"], row["program_us"] = round(found.waves, 2), round(1e6 * found.program, 2)
        ordered = dict(sorted(rows.items(), key=lambda pair: -pair[1]["model_us"])[:top])
        total = sum(row["model_us"] for row in rows.values()) / 1e3
        added = {name: total - 1e3 * without(launches, board, chip.shared_bytes, precision, free) for name, free in ADDED.items()}
        result[title] = {"launches": len(launches), "model_ms": total, "added_ms": added, "rows": ordered}
    return result


def print_model(model: dict[str, Any]) -> None:
    """The assumptions, each board's longest launches, and the sums."""
    print("\nThe time model, nothing of it timed yet. It assumes:\n")
    print("\n".join(assumptions()))
    for name, found in model.items():
        print(f"\n{name + ', launch and tile':50} {'times':>5} {'waves':>7} {'program, us':>12} {'model, us':>10}  bound by")
        for key, row in found["rows"].items():
            print(f"{key:50} {row['launches']:5} {row['waves']:7.2f} {row['program_us']:12.1f} {row['model_us']:10.1f}  {row['bound']}")
        added = ", ".join(f"{what} {ms:.2f}" for what, ms in found["added_ms"].items())
        print(f"{found['launches']} launches: {found['model_ms']:.2f} ms by the model; without these it would be less by: {added}")
