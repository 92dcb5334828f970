"""``python -m bench.gpu.rounding``: how far a step may be from float64 for its operands' mantissas alone. No GPU is needed.

Both steps of section ``step`` run in NumPy in float64, one of them with the operands of every product cut: to 10 bits behind the point
for tf32, dropping the rest as tensor cores do with float32 in memory; to 7 for bf16, rounded to the nearest. What a tf32 product adds,
sums in float32, is a hundred times smaller. bf16 besides stores what is between the products with 7 bits: its errors are larger.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.gpu.common import Options
from bench.gpu.step import Combination, combinations, step_part
from kernels.cpu.engine import CPUEngine
from models.objective import Objective

#: Bits behind the point, and whether they are rounded to the nearest.
MANTISSAS = {"tf32": (10, False), "bf16": (7, True)}
#: Where the two operands stand among the arguments of a product, by the operation's name.
OPERANDS = {
    **{f"{layer}_{pass_}": 1 for layer in ("conv2d", "conv_transpose2d", "linear") for pass_ in ("forward", "dgrad", "wgrad")},
    **{f"{block}_bn_relu_forward": 4 for block in ("conv2d", "upconv", "linear")},
}


def cut(values: np.ndarray, bits: int, nearest: bool) -> np.ndarray:
    """``values`` with ``bits`` bits behind the point: to the nearest, ties to even, or towards zero."""
    raw, dropped = np.ascontiguousarray(values, np.float32).view(np.uint32), 23 - bits
    if nearest:
        raw = raw + np.uint32((1 << (dropped - 1)) - 1) + (raw >> dropped & 1)
    return (raw >> dropped << dropped).view(np.float32).astype(values.dtype)


class CutEngine(CPUEngine):
    """The NumPy engine in float64 with the operands of ``precision``."""

    def __init__(self, precision: str):
        super().__init__("float64")
        self.precision = precision
        for name, first in OPERANDS.items():
            setattr(self, f"_{name}", self._with_cut_operands(getattr(self, f"_{name}"), first))

    def _with_cut_operands(self, product: Any, first: int) -> Any:
        def call(*args: Any, **keywords: Any) -> None:
            operands = (cut(operand, *MANTISSAS[self.precision]) for operand in args[first : first + 2])
            product(*args[:first], *operands, *args[first + 2 :], **keywords)

        return call


def measure(precision: str, compared: list[Combination], seed: int) -> dict[str, list[float]]:
    """Every step's errors by kind, as `step_part` compares them."""
    errors: dict[str, list[float]] = {}
    for combination in compared:
        for step in step_part(CutEngine(precision), combination, seed)["errors"]:
            for kind, error in step.items():
                errors.setdefault(kind, []).append(error)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.rounding", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="repeat with as many seeds (default: 3)")
    args = parser.parse_args()
    first = combinations(Options(), "bf16")
    compared = [c for c in first if c.network == "small32"] + [Combination("paper32", 4, Objective(gamma=1e-2), 5, "joint")]
    for precision in MANTISSAS:
        errors: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            for kind, values in measure(precision, compared, seed).items():
                errors.setdefault(kind, []).extend(values)
        for kind, values in sorted(errors.items()):
            values.sort()
            print(f"{precision} {kind}: best tenth {values[(len(values) - 1) // 10]:.1e}, median {values[len(values) // 2]:.1e}, "
                  f"largest of {len(values)} {values[-1]:.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
