"""Where a training step's time goes on the CPU: every operation of the engine, timed where the step calls it.

    python -m bench.breakdown --network paper64 --batch-size 16 --out bench/results/breakdown-cpu.json
    python -m bench.breakdown --network small32 --engine numpy

(On a GPU `python -m bench.gpu --sections time` does this kernel by kernel.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.report.tables import engine_title
from kernels.contract.operation import OPERATIONS
from kernels.open import IMPLEMENTATIONS
from vaegan_kernels.files import write_json

Key = tuple[str, str]


class Clock:
    """Wraps an engine's operations; ``seconds`` and ``calls`` by (operation, shapes). Time inside a nested operation is the inner one's."""

    def __init__(self, engine: Any):
        self.seconds: dict[Key, float] = {}
        self.calls: dict[Key, int] = {}
        self.inner = [0.0]
        for name in OPERATIONS:
            setattr(engine, name, self.wrap(name, getattr(engine, name)))

    def wrap(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            self.inner.append(0.0)
            start = time.perf_counter()
            try:
                return work(*args, **options)
            finally:
                spent = time.perf_counter() - start
                own = spent - self.inner.pop()
                self.inner[-1] += spent
                key = name, shapes_of(args)
                self.seconds[key] = self.seconds.get(key, 0.0) + own
                self.calls[key] = self.calls.get(key, 0) + 1

        return timed

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()


def shapes_of(args: tuple[Any, ...]) -> str:
    """The different shapes of up to three arrays with at least two axes: what distinguishes a layer's calls."""
    found: list[str] = []
    for a in args:
        if isinstance(a, np.ndarray) and a.ndim > 1:
            text = "x".join(map(str, a.shape))
            if text not in found:
                found.append(text)
    return " ".join(found[:3])


def measure(network: str, n: int, rounds: int, implementation: str = "auto") -> dict[str, Any]:
    """Medians over ``rounds`` steps of every operation, and of the step, on one of the CPU's engines (`kernels.engine`)."""
    from bench.contestants import LR, batch
    from bench.gpu.common import spec_of
    from bench.harness import machine
    from bench.side import side
    from models.objective import Objective
    from models.vaegan import VAEGAN

    here = side("cpu", "float32", implementation)
    engine, spec = here.engine, spec_of(network)
    arrays = [engine.asarray(a) for a in batch(spec, n)]
    model, objective = VAEGAN(engine, spec, seed=0), Objective(gate=False)
    model.train_step(*arrays, objective, LR)
    clock, samples, totals, calls = Clock(engine), [], [], {}
    for _ in range(rounds):
        clock.clear()
        start = time.perf_counter()
        model.train_step(*arrays, objective, LR)
        totals.append(time.perf_counter() - start)
        samples.append(dict(clock.seconds))
        calls = dict(clock.calls)
    rows = [
        {"operation": key[0], "shapes": key[1], "calls": calls[key], "seconds": float(np.median([s[key] for s in samples]))}
        for key in calls
    ]
    rows.sort(key=lambda row: -row["seconds"])
    return {
        "network": network,
        "batch_size": n,
        "rounds": rounds,
        "machine": machine(here),
        "step_seconds": float(np.median(totals)),
        "rows": rows,
    }


def text_of(result: dict[str, Any], most: int = 25) -> str:
    """The table."""
    total = result["step_seconds"]
    engine = engine_title(result["machine"])
    lines = [f"{result['network']}, batch {result['batch_size']}, {engine}: {1e3 * total:.1f} ms a step"]
    for row in result["rows"][:most]:
        lines.append(
            f"{1e3 * row['seconds']:9.2f} ms {row['seconds'] / total:6.1%} {row['calls']:3}x  {row['operation']:26} {row['shapes']}"
        )
    known = sum(row["seconds"] for row in result["rows"])
    lines.append(f"{1e3 * (total - known):9.2f} ms {1 - known / total:6.1%}       outside of operations")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.breakdown", description="The time of a step on the CPU, operation by operation.")
    parser.add_argument("--network", default="paper64")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--engine", choices=IMPLEMENTATIONS, default="auto", help="default: auto, native where there is a compiler")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    arguments = parser.parse_args(argv)
    result = {"command": "python -m bench.breakdown " + " ".join(sys.argv[1:] if argv is None else argv)}
    try:
        result |= measure(arguments.network, arguments.batch_size, arguments.rounds, arguments.engine)
    except RuntimeError as error:
        sys.exit(f"--{error}")
    print(text_of(result))
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
