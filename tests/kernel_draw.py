"""The arrays of a kernel check: what each is for, and random values that an operand of a precision holds exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def round_to(values: Any, precision: str) -> np.ndarray:
    """The nearest values that an operand of ``precision`` holds, in float64. "tf32" keeps 10 bits behind the point."""
    values = np.asarray(values, np.float64)
    if precision == "bf16":
        import ml_dtypes

        return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
    if precision == "tf32":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        bits = ((bits + 0xFFF + ((bits >> 13) & 1)) >> 13 << 13).astype(np.uint32)
        return bits.view(np.float32).astype(np.float64)
    return values.astype(precision).astype(np.float64)


@dataclass(eq=False)
class Slot:
    """One array of a case.

    ``use``: "in" (must stay as it is), "out" (poisoned before, compared behind), "inout" (given and compared) or "scrap" (given, and
    what becomes of it is not compared). ``role``: "act" (the engine's dtype), "wide" (its wide one), or a NumPy dtype's name.
    ``kind``: row of the tolerance table; "exact" for equality; "finite": as "loose", and NaN or infinite where the reference is.
    ``size``: ‖terms‖ where the result may be a small difference of them: what its error is relative to at least.
    A slot that stands in two places is one array: the operation in place.
    """

    use: str
    role: str
    shape: tuple[int, ...]
    values: np.ndarray | None = None
    kind: str = ""
    size: float = 0.0

    def as_use(self, use: str, kind: str = "", size: float = 0.0) -> Slot:
        """The same values with another use."""
        return Slot(use, self.role, self.shape, self.values, kind or self.kind, size)


class Draw:
    """Random inputs of one case, of values that an operand of ``precision`` holds exactly."""

    def __init__(self, precision: str, seed: int):
        self.precision = precision
        self.rng = np.random.default_rng(seed)

    def act(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Slot:
        """An activation, an error or a weight: N(shift, scale²)."""
        return self.given(shift + scale * self.rng.standard_normal(shape, np.float32))

    def wide(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Slot:
        """A float32 input: N(shift, scale²)."""
        return self.given(shift + scale * self.rng.standard_normal(shape, np.float32), "wide")

    def given(self, values: Any, role: str = "act") -> Slot:
        """These values, rounded to what the role holds."""
        values = np.asarray(values)
        if role == "act":
            values = round_to(values, self.precision)
        elif role == "wide":
            values = round_to(values, "float64" if self.precision == "float64" else "float32")
        return Slot("in", role, values.shape, values)

    @staticmethod
    def out(*shape: int, role: str = "act", kind: str = "", size: float = 0.0) -> Slot:
        """An output."""
        return Slot("out", role, shape, None, kind, size)


class _Ones:
    """In place of a random generator: arrays of ones, of whatever shape is asked for."""

    def __getattr__(self, name: str) -> Callable[..., np.ndarray]:
        def draw(*args: Any, **_: Any) -> np.ndarray:
            sizes = [a for a in args if isinstance(a, int | tuple)]
            types = [a for a in args if isinstance(a, type)]
            dtype = types[0] if types else np.int64 if name in ("integers", "permutation") else np.float64
            return np.ones(sizes[-1] if sizes else 1, dtype)

        return draw


class Outline(Draw):
    """Draws nothing, for a device that executes nothing: all values are 1 and none is rounded."""

    def __init__(self, precision: str):
        self.precision = precision
        self.rng: Any = _Ones()

    def given(self, values: Any, role: str = "act") -> Slot:
        values = np.asarray(values)
        return Slot("in", role, values.shape, values)
