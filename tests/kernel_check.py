"""One operation of one engine against the NumPy engine in float64: inputs, poisoned outputs, the tolerance table, the comparison.

Needs NumPy alone, so that a GPU machine without PyTorch or pytest can run it. The cases are in kernel_cases.py.
"""

from __future__ import annotations

import contextlib
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from kernel_draw import Draw, Outline, Slot

#: Allowed ‖got − expected‖ / ‖expected‖, by precision and kind of output: base + growth · (terms summed), or √terms for float32.
#:   act    outputs of the engine's dtype, of operands that it holds exactly: one rounding to that dtype
#:   wide   float32 outputs of such operands: only the order of a sum differs
#:   loose  behind a result that was rounded to the operands' type within the operation (bf16: 2^-9, tf32: 2^-11 each)
#:   double what is computed in float64 from float32 inputs, whatever the precision; it does not grow
#: Tensor cores cut off what does not fit into a running sum instead of rounding it, so their error grows with the number of terms.
TOLERANCE = {
    "float64": {"act": 1e-12, "wide": 1e-12, "loose": 1e-12, "double": 1e-11, "growth": 1e-14, "power": 1.0},
    "float32": {"act": 1e-6, "wide": 1e-6, "loose": 4e-6, "double": 1e-11, "growth": 1e-7, "power": 0.5},
    "tf32": {"act": 2e-6, "wide": 2e-6, "loose": 2e-3, "double": 1e-11, "growth": 2e-8, "power": 1.0},
    "bf16": {"act": 4e-3, "wide": 2e-6, "loose": 8e-3, "double": 1e-11, "growth": 2e-8, "power": 1.0},
}


def tolerance(precision: str, kind: str, terms: int = 1) -> float:
    """Allowed relative error of an output of ``kind`` ("act", "wide", "loose" or "double") that sums ``terms`` products."""
    row = TOLERANCE[precision]
    return float(row[kind] + (row["growth"] * terms ** row["power"] if kind != "double" else 0.0))


class Case(NamedTuple):
    """A call of one operation.

    Attributes:
        operation: its name. label: what is special about this case.
        build: draws the arguments: positional and keyword ones, with a `Slot` for each array.
        terms: products that one element of the result sums.
        call: what calls it, where it is more than ``engine.operation(*arguments)``: called with the engine as well.
        formula: NumPy's result, where the reference engine has no such operation: called with the arguments, in float64.
    """

    operation: str
    label: str
    build: Callable[[Draw], tuple[tuple[Any, ...], dict[str, Any]]]
    terms: int = 1
    call: Callable[..., None] | None = None
    formula: Callable[..., None] | None = None

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


class Run:
    """``case`` on ``engine``: its arrays, and the call.

    ``seed``: of the values. ``shift``: elements that (inputs, outputs) lie behind an aligned address.
    """

    def __init__(self, engine: Any, case: Case, seed: int = 0, shift: tuple[int, int] = (0, 0)):
        self.engine, self.case = engine, case
        self.args, self.kwargs = case.build(Draw(engine.precision, zlib.crc32(case.name.encode()) + seed))
        self.slots = self.slots_of((self.args, self.kwargs))
        self.arrays = {id(slot): _place(engine, slot, shift[slot.use == "out"]) for slot in self.slots}

    @staticmethod
    def slots_of(built: Any) -> list[Slot]:
        """Each array of a case's arguments once, in their order."""
        return list(_slots(built))

    def filled(self) -> tuple[Any, Any]:
        """The call's positional and keyword arguments."""
        return _fill(self.args, self.arrays), _fill(self.kwargs, self.arrays)

    def __call__(self) -> Run:
        with self._quiet():
            _call(self.engine, self.case, *self.filled())
        return self

    def expect(self, reference: Any) -> dict[int, Any]:
        """The arrays of the same call on ``reference``, or by the case's formula."""
        theirs = {id(slot): _place(reference, slot) for slot in self.slots}
        args, kwargs = _fill(self.args, theirs), _fill(self.kwargs, theirs)
        with self._quiet():
            if self.case.formula:
                self.case.formula(*args, **kwargs)
            else:
                _call(reference, self.case, args, kwargs)
        return theirs

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """No warning, in no thread, of values that are meant not to be finite."""
        with warnings.catch_warnings():
            if any(slot.kind == "finite" for slot in self.slots):
                warnings.simplefilter("ignore", RuntimeWarning)
            yield

    def results(self) -> dict[int, np.ndarray]:
        """The host's copies of the arrays that are compared."""
        return {id(s): np.asarray(self.engine.to_numpy(self.arrays[id(s)])) for s in self.slots if s.use in ("out", "inout")}


def check(engine: Any, reference: Any, case: Case, seed: int = 0, shift: tuple[int, int] = (0, 0)) -> list[Outcome]:
    """Run ``case`` on both engines and compare every output; inputs must be left as they were.

    Args:
        reference: the NumPy engine in float64.
        seed, shift: as of `Run`; other seeds draw other values.
    """
    run = Run(engine, case, seed, shift)
    theirs, results = run.expect(reference), run().results()
    outcomes = []
    for number, slot in enumerate(run.slots):
        if slot.use == "in":
            got = np.asarray(engine.to_numpy(run.arrays[id(slot)]))
            before = np.asarray(slot.values, got.dtype)
            if not np.array_equal(got, before, equal_nan=before.dtype.kind == "f"):
                outcomes.append(Outcome(f"input {number} was changed", math.inf, 0.0))
        elif slot.use in ("out", "inout"):
            outcomes.append(_compared(slot, f"output {number}", results[id(slot)], theirs[id(slot)], engine.precision, case.terms))
    assert outcomes, f"{case.name}: nothing is compared"
    return outcomes


def _compared(slot: Slot, name: str, got: np.ndarray, expected: np.ndarray, precision: str, terms: int) -> Outcome:
    kind = slot.kind or ("act" if slot.role == "act" else "wide")
    if kind == "finite":
        good = np.isfinite(expected)
        if not np.array_equal(np.isfinite(got), good):
            return Outcome(name, math.inf, 0.0)
        kind, got, expected = "loose", got[good], expected[good]
    if kind == "exact" or not expected.any():
        same = np.array_equal(got, expected.astype(got.dtype), equal_nan=kind == "exact" and got.dtype.kind == "f")
        return Outcome(name, 0.0 if same else math.inf, 0.0)
    norm = float(np.linalg.norm(expected))
    return Outcome(name, relative_error(got, expected) * norm / max(norm, slot.size), tolerance(precision, kind, terms))


def launch(engine: Any, case: Case) -> None:
    """Run ``case`` on ``engine`` alone: for a device that only records."""
    args, kwargs = case.build(Outline(engine.precision))
    placed = {id(slot): engine.empty(slot.shape, dtype_of(engine, slot.role)) for slot in _slots((args, kwargs))}
    _call(engine, case, _fill(args, placed), _fill(kwargs, placed))
    engine.synchronize()  # a launch that is held back is made too


def relative_error(got: Any, expected: Any) -> float:
    """‖got − expected‖ / ‖expected‖ in float64; inf where it means nothing (NaN, zero reference, wrong shape)."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all() or not np.isfinite(expected).all():
        return math.inf
    norm = float(np.linalg.norm(expected))
    return math.inf if norm == 0.0 else float(np.linalg.norm(got - expected)) / norm


def _call(engine: Any, case: Case, args: Any, kwargs: Any) -> None:
    if case.call is not None:
        case.call(engine, *args, **kwargs)
    else:
        getattr(engine, case.operation)(*args, **kwargs)


def dtype_of(engine: Any, role: str) -> np.dtype[Any]:
    """Of a slot's role on ``engine``."""
    if role == "act":
        return np.dtype(engine.dtype)
    return np.dtype(engine.wide if role == "wide" else role)


def _place(engine: Any, slot: Slot, shift: int = 0) -> Any:
    return place(engine, slot.values, slot.shape, dtype_of(engine, slot.role), shift)


def place(engine: Any, values: Any, shape: tuple[int, ...], dtype: Any, shift: int = 0) -> Any:
    """A device array with ``values``, or full of NaN (integers: of set bits), ``shift`` elements behind an aligned address."""
    dtype = np.dtype(dtype)
    if values is None:
        values = np.frombuffer(b"\xff" * (math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    array = engine.empty((math.prod(shape) + shift,), dtype)[shift:].reshape(shape) if shift else engine.empty(shape, dtype)
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
