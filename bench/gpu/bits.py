"""Section ``bits``: runs from one seed end with the same bytes in every array of the state.

Captured twice, once with no kernel begun before the one ahead of it has ended (programmatic dependent launch, sm_90 and later), and once
not captured.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from bench.gpu.common import Options, Report, spec_of
from bench.gpu.parts import Part, supervise
from bench.gpu.stepper import Stepper
from models.objective import Objective


def bits_part(engine: Any, network: str, batch: int, steps: int, objective: Objective, seed: int) -> dict[str, Any]:
    """Runs of ``steps`` steps from one seed, each launched in a way of its own: equal bytes of every array of the state."""
    on_gpu, states = engine.device.name == "gpu", {}
    ways = {"a first": (True, False), "a second captured run": (True, False)}  # captured, each kernel after the one before
    if on_gpu:
        ways |= {"a run without dependent launches": (True, True), "a run that is not captured": (False, False)}
    for way, (captured, in_turn) in ways.items():
        with engine.device.launches_in_turn() if in_turn else nullcontext():
            stepper = Stepper(engine, spec_of(network), batch, objective, seed=seed)
            step = engine.record(stepper.body) if captured else stepper.body
            for _ in range(steps):
                step()
            engine.synchronize()
            states[way] = stepper.state()
    first = states.pop("a first")
    label = f"{engine.precision} {network}, batch {batch}, {steps} steps"
    start = Stepper(engine, spec_of(network), batch, objective, seed=seed).state()
    moved = sum(not np.array_equal(start[name], first[name]) for name in start)
    finite = all(np.isfinite(a).all() for a in first.values())
    why = ""
    if not finite or not moved:
        why = "the state is not finite" if not finite else "the steps changed nothing"
    for way, state in states.items():
        if names := [name for name in first if first[name].tobytes() != state[name].tobytes()]:
            why += f"{len(names)} of {len(first)} arrays differ in {way}, the first {names[0]}; "
    return {"ok": not why, "why": why, "text": f"{label}: {why or 'equal bits'}", "arrays": len(first), "moved": moved}


def parts(options: Options) -> list[Part]:
    """Small first, then the network that is timed."""
    runs = [("tiny", 4, 1)] if options.host else [("small32", 16, 10), ("paper64", 64, 10)]
    if options.quick:
        runs = runs[:1]
    result = []
    for precision in options.precisions:
        for network, batch, steps in runs if precision == options.precisions[0] else runs[:1]:
            label = f"{precision} {network}, batch {batch}"
            result.append(
                Part(label, precision, lambda e, n=network, b=batch, s=steps: bits_part(e, n, b, s, Objective(gamma=1e-2), options.seed))
            )
    return result


def bits_section(options: Options, report: Report) -> None:
    left_out = supervise("bench.gpu.bits", options, report, patience=options.budget)
    done = [row["label"] for row in report.result["rows"] if row["ok"]]
    summary = [f"equal bits: {', '.join(done) or 'none'}"] + ([f"{left_out} not reached in the time"] if left_out else [])
    report.note(summary=summary, not_reached=left_out)
