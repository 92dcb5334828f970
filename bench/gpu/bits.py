"""Section ``bits``: runs from one seed end with the same bytes in every array of the state."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.gpu.common import Options, Report, spec_of
from bench.gpu.parts import Part, supervise
from bench.gpu.stepper import Stepper
from models.objective import Objective


def bits_part(engine: Any, network: str, batch: int, steps: int, objective: Objective, seed: int) -> dict[str, Any]:
    """Two captured runs from one seed, and one that is not captured: equal bytes of every array of the state."""
    states = []
    for captured in (True, True, False) if engine.device.name == "gpu" else (True, True):
        stepper = Stepper(engine, spec_of(network), batch, objective, seed=seed)
        step = engine.record(stepper.body) if captured else stepper.body
        for _ in range(steps):
            step()
        engine.synchronize()
        states.append(stepper.state())
    label = f"{engine.precision} {network}, batch {batch}, {steps} steps"
    start = Stepper(engine, spec_of(network), batch, objective, seed=seed).state()
    moved = sum(not np.array_equal(start[name], states[0][name]) for name in start)
    finite = all(np.isfinite(a).all() for a in states[0].values())
    differ = [[k for k in states[0] if states[0][k].tobytes() != other[k].tobytes()] for other in states[1:]]
    why = ""
    if not finite or not moved:
        why = "the state is not finite" if not finite else "the steps changed nothing"
    for names, what in zip(differ, ("a second captured run", "a run that is not captured"), strict=False):
        if names:
            why += f"{len(names)} of {len(states[0])} arrays differ in {what}, the first {names[0]}; "
    return {"ok": not why, "why": why, "text": f"{label}: {why or 'equal bits'}", "arrays": len(states[0]), "moved": moved}


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
