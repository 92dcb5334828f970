"""One operation of one engine against the NumPy engine in float64: inputs, poisoned outputs, the tolerance table, the comparison.

Needs NumPy alone, so that a GPU machine without PyTorch or pytest can run it. The cases are in kernel_cases.py.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

#: Allowed ‖got − expected‖ / ‖expected‖, by precision and kind of output: base + growth · (terms summed), or √terms for float32.
#:   act    outputs of the engine's dtype, of operands that it holds exactly: one rounding to that dtype
#:   wide   float32 outputs of such operands: only the order of a sum differs
#:   loose  behind a result that was rounded to the operands' type within the operation (bf16: 2^-9, tf32: 2^-11 each)
#: Tensor cores cut off what does not fit into a running sum instead of rounding it, so their error grows with the number of terms.
TOLERANCE = {
    "float64": {"act": 1e-12, "wide": 1e-12, "loose": 1e-12, "growth": 1e-14, "power": 1.0},
    "float32": {"act": 1e-6, "wide": 1e-6, "loose": 4e-6, "growth": 1e-7, "power": 0.5},
    "tf32": {"act": 2e-6, "wide": 2e-6, "loose": 2e-3, "growth": 2e-8, "power": 1.0},
    "bf16": {"act": 4e-3, "wide": 2e-6, "loose": 8e-3, "growth": 2e-8, "power": 1.0},
}


def tolerance(precision: str, kind: str, terms: int = 1) -> float:
    """Allowed relative error of an output of ``kind`` ("act", "wide" or "loose") that sums ``terms`` products."""
    row = TOLERANCE[precision]
    return float(row[kind] + row["growth"] * terms ** row["power"])


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
    ``kind``: row of the tolerance table; "exact" for equality.
    """

    use: str
    role: str
    shape: tuple[int, ...]
    values: np.ndarray | None = None
    kind: str = ""
    name: str = ""

    def as_use(self, use: str, kind: str = "") -> Slot:
        """The same values with another use."""
        return Slot(use, self.role, self.shape, self.values, kind or self.kind)


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
    def out(*shape: int, role: str = "act", kind: str = "") -> Slot:
        """An output."""
        return Slot("out", role, shape, None, kind)


class _Ones:
    """In place of a random generator: arrays of ones, of whatever shape is asked for."""

    def __getattr__(self, name: str) -> Callable[..., np.ndarray]:
        def draw(*args: Any, **_: Any) -> np.ndarray:
            sizes = [a for a in args if isinstance(a, int | tuple)]
            dtype = np.uint8 if name == "integers" else np.int32 if name == "permutation" else np.float64
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


class Case(NamedTuple):
    """A call of one operation.

    Attributes:
        operation: its name. label: what is special about this case.
        build: draws the arguments: positional and keyword ones, with a `Slot` for each array.
        terms: products that one element of the result sums.
        call: what calls it, where it is more than ``engine.operation(*arguments)``: called with the engine as well.
    """

    operation: str
    label: str
    build: Callable[[Draw], tuple[tuple[Any, ...], dict[str, Any]]]
    terms: int = 1
    call: Callable[..., None] | None = None

    @property
    def name(self) -> str:
        return f"{self.operation}: {self.label}"


class Outcome(NamedTuple):
    """One compared output."""

    output: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.error <= self.limit


def check(engine: Any, reference: Any, case: Case, seed: int = 0) -> list[Outcome]:
    """Run ``case`` on both engines and compare every output; inputs must be left as they were.

    Args:
        reference: the NumPy engine in float64.
        seed: other seeds draw other values. The interpreter of Triton cuts bfloat16 off instead of rounding: twice the tolerance there.
    """
    draw = Draw(engine.precision, zlib.crc32(case.name.encode()) + seed)
    args, kwargs = case.build(draw)
    slots = list(_slots((args, kwargs)))
    mine = {id(slot): _place(engine, slot) for slot in slots}
    theirs = {id(slot): _place(reference, slot) for slot in slots}
    _call(reference, case, _fill(args, theirs), _fill(kwargs, theirs))
    _call(engine, case, _fill(args, mine), _fill(kwargs, mine))
    emulated = engine.precision == "bf16" and getattr(getattr(engine, "device", None), "interpreted", False)
    outcomes = []
    for number, slot in enumerate(slots):
        got = np.asarray(engine.to_numpy(mine[id(slot)]))
        name = slot.name or f"output {number}"
        if slot.use == "in":
            before = np.asarray(slot.values, got.dtype)
            if not np.array_equal(got, before, equal_nan=before.dtype.kind == "f"):
                outcomes.append(Outcome(f"input {number} was changed", math.inf, 0.0))
        elif slot.use in ("out", "inout"):
            expected = theirs[id(slot)]
            if slot.kind == "exact":
                same = np.array_equal(got, expected.astype(got.dtype))
                outcomes.append(Outcome(name, 0.0 if same else math.inf, 0.0))
                continue
            kind = slot.kind or ("act" if slot.role == "act" else "wide")
            outcomes.append(Outcome(name, relative_error(got, expected), tolerance(engine.precision, kind, case.terms) * (1 + emulated)))
    assert outcomes, f"{case.name}: nothing is compared"
    return outcomes


def launch(engine: Any, case: Case) -> None:
    """Run ``case`` on ``engine`` alone: for a device that only records."""
    args, kwargs = case.build(Outline(engine.precision))
    placed = {id(slot): engine.empty(slot.shape, _dtype(engine, slot.role)) for slot in _slots((args, kwargs))}
    _call(engine, case, _fill(args, placed), _fill(kwargs, placed))


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """‖got − expected‖ / ‖expected‖ in float64; inf for a NaN, another shape, or a reference of zeros that was not met exactly."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all() or not np.isfinite(expected).all():
        return math.inf
    norm = float(np.linalg.norm(expected))
    if norm == 0.0:
        return 0.0 if not got.any() else math.inf
    return float(np.linalg.norm(got - expected)) / norm


def _call(engine: Any, case: Case, args: Any, kwargs: Any) -> None:
    if case.call is not None:
        case.call(engine, *args, **kwargs)
    else:
        getattr(engine, case.operation)(*args, **kwargs)


def _dtype(engine: Any, role: str) -> np.dtype[Any]:
    if role == "act":
        return np.dtype(engine.dtype)
    return np.dtype(engine.wide if role == "wide" else role)


def _place(engine: Any, slot: Slot) -> Any:
    """A device array with the slot's values, or full of NaN (integers: of set bits)."""
    dtype = _dtype(engine, slot.role)
    values = slot.values
    if values is None:
        values = np.frombuffer(b"\xff" * (math.prod(slot.shape) * dtype.itemsize), dtype).reshape(slot.shape)
    array = engine.empty(slot.shape, dtype)
    engine.put(array, values)
    return array


def _slots(value: Any) -> Iterator[Slot]:
    """Every `Slot` in nested tuples, lists and dictionaries, once."""
    seen: set[int] = set()

    def walk(item: Any) -> Iterator[Slot]:
        if isinstance(item, Slot):
            if id(item) not in seen:
                seen.add(id(item))
                yield item
        elif isinstance(item, dict):
            for part in item.values():
                yield from walk(part)
        elif isinstance(item, tuple | list):
            for part in item:
                yield from walk(part)

    return walk(value)


def _fill(value: Any, arrays: dict[int, Any]) -> Any:
    """``value`` with arrays in place of its slots; named tuples stay what they are."""
    if isinstance(value, Slot):
        return arrays[id(value)]
    if isinstance(value, dict):
        return {key: _fill(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [_fill(part, arrays) for part in value]
    if isinstance(value, tuple):
        parts = [_fill(part, arrays) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
