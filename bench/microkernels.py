"""What the native engine's microkernels reach on one thread, and the share of this core's peak: the table of docs/native.md.

    python -m bench.microkernels --out bench/results/microkernels-cpu.json

Operations are those of the direct form, so Winograd's share may be above 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kernels
from bench import peaks
from bench.harness import machine
from vaegan_kernels.files import write_json

#: (kernel, layer, operation, (images, rows of the large image, Ci, Co, stride)), or (…, (rows, inputs, outputs)) of a linear layer
CASES: list[tuple[str, str, str, tuple[int, ...]]] = [
    ("tile", "paper64 dis conv1", "conv2d_forward", (48, 64, 3, 32, 1)),
    ("tile", "small32 dis conv1", "conv2d_forward", (48, 32, 3, 16, 1)),
    ("tile", "paper64 dec image", "conv2d_dgrad", (32, 64, 32, 3, 1)),
    ("tile", "paper64 enc fc", "linear_forward", (16, 16384, 2048)),
    ("outer", "paper64 dis conv1", "conv2d_wgrad", (48, 64, 3, 32, 1)),
    ("outer", "paper64 dec image", "conv2d_wgrad", (32, 64, 32, 3, 1)),
    ("outer", "paper64 enc fc", "linear_wgrad_rmsprop", (16, 16384, 2048)),
    ("dots", "paper64 dec image", "conv2d_forward", (32, 64, 32, 3, 1)),
    ("dots", "paper64 enc fc", "linear_dgrad", (16, 16384, 2048)),
    ("Winograd, own blocks", "small32 dis conv2", "conv2d_forward", (48, 32, 16, 32, 2)),
    ("Winograd, shared blocks", "paper64 dis conv3", "conv2d_forward", (48, 32, 128, 256, 2)),
    ("Winograd, shared blocks", "paper64 dis conv3", "conv2d_dgrad", (48, 32, 128, 256, 2)),
    ("Winograd, wgrad", "paper64 dis conv3", "conv2d_wgrad", (48, 32, 128, 256, 2)),
]


def case(engine: Any, operation: str, sizes: tuple[int, ...]) -> tuple[Callable[[], None], float]:
    """A call of the operation on random arrays, and its operations."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    call = getattr(engine, operation)
    if len(sizes) == 3:
        n, i, o = sizes
        x, w, y, ms = draw(n, i), draw(i, o), draw(n, o), np.ones((i, o), np.float32)
        arguments = {"linear_forward": (y, x, w), "linear_dgrad": (x, y, w), "linear_wgrad_rmsprop": (w, ms, None, x, y)}[operation]
        options: dict[str, Any] = {"lr": 1e-6} if operation.endswith("rmsprop") else {}
        return lambda: call(*arguments, **options), 2.0 * n * i * o
    n, h, ci, co, stride = sizes
    out = -(-h // stride)
    x, w, y = draw(n, h, h, ci), draw(5, 5, ci, co), draw(n, out, out, co)
    arguments = {"conv2d_forward": (y, x, w), "conv2d_dgrad": (x, y, w), "conv2d_wgrad": (w, x, y)}[operation]
    return lambda: call(*arguments, stride=stride), 2.0 * 25 * ci * co * out * out * n


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.microkernels", description="The native engine's microkernels on one thread.")
    parser.add_argument("--rounds", type=int, default=12, help="calls of each, of which the best counts (default: 12)")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args(argv)
    engine = kernels.engine("cpu", threads=1, implementation="native")
    peak, rows = peaks.multiply_adds(1, 200), []
    for kernel, layer, operation, sizes in CASES:
        call, flop = case(engine, operation, sizes)
        times = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        rate = flop / min(times) / 1e9
        about = {"kernel": kernel, "layer": layer, "operation": operation}
        rows.append({**about, "gflop_per_s": round(rate, 1), "of_peak": round(rate * 1e9 / peak, 2)})
        print(f"{kernel:<24} {layer:<18} {operation:<21} {rate:6.0f} GFLOP/s  {rate * 1e9 / peak:.2f} of the peak", flush=True)
    result = {
        "command": f"python -m bench.microkernels --out {arguments.out}",
        "machine": {**machine(), "threads": 1, "engine": engine.describe()},
        "peak_gflop_per_s": round(peak / 1e9, 1), "rows": rows,
    }  # fmt: skip
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
