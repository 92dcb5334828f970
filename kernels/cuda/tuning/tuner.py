"""The tuner: measures other tiles for each product of a step on the user's GPU, and keeps the winners in the user's cache.

It watches a step run. The first time that an operation asks for the tile of a product, its launches are repeated with each candidate and
timed, only those that the candidate changed; a candidate that wins must also give the results of the default tile.

Other tiles add in another order: a tuned engine's bits differ from an untuned one's, and `CUDAEngine.describe` says which it is. The
winners are kept by kernels.cuda.tuning.tile_cache.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from kernels.contract.operation import OPERATIONS
from kernels.cuda.device.base import Launch
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.compile import key_of
from kernels.cuda.device.timing import Call, recorded, repeated, timed
from kernels.cuda.products import tiles
from kernels.cuda.products.tiles import Tile

#: A candidate must save this part of the time, or it is noise.
GAIN = 0.02
#: Candidates of one product at most.
MOST = 14
#: Accumulators (float32 registers) of one thread at most; more spill.
ACCUMULATORS = 128
#: Allowed relative difference between the results with two tiles, which add in different orders.
DIFFERENCE = {"bf16": 1e-2, "tf32": 1e-3, "float32": 1e-4}
PRODUCTS = tuple(name for name in OPERATIONS if name.startswith(("conv", "upconv", "linear")))


class Outcome(NamedTuple):
    """The result for one product: its name, the default tile, the winner (or the same), their seconds, candidates measured, failures."""

    name: str
    default: Tile
    best: Tile
    default_seconds: float
    best_seconds: float
    measured: int
    failed: tuple[str, ...]


def candidates(kind: str, default: Tile, chip: Chip, precision: str) -> list[Tile]:
    """Tiles around ``default`` that fit the chip, the nearest first."""
    size = 2 if precision == "bf16" else 4
    room = chip.shared_bytes - 2048

    def stages(bm: int, bn: int, bk: int) -> int:
        return room // ((bm + bn) * bk * size)

    def fits(t: Tile) -> bool:
        powers = all(n & (n - 1) == 0 for n in t[:3])
        few = t.bm * t.bn <= ACCUMULATORS * 32 * t.warps and t.bm * t.bn >= 16 * 32 * t.warps
        return powers and few and 16 <= t.bm <= 256 and 16 <= t.bn <= 256 and 16 <= t.bk <= 128 and 2 <= t.stages <= stages(*t[:3])

    found = []
    bm, bn, bk, _, warps = default
    for deeper in (default.stages + 1, default.stages - 1):
        found.append(default._replace(stages=deeper))
    for other in (4, 8):
        if other != warps:
            found.append(default._replace(warps=other))
    for a, b, c in (
        (1, 2, 1),
        (2, 1, 1),
        (1, 0.5, 1),
        (0.5, 1, 1),
        (1, 1, 2),
        (1, 1, 0.5),
        (2, 0.5, 1),
        (0.5, 2, 1),
        (0.5, 0.5, 1),
        (2, 1, 0.5),
        (1, 2, 0.5),
    ):
        m, n, k = int(bm * a), int(bn * b), int(bk * c)
        if min(m, n, k) >= 16:
            shape = Tile(m, n, k, min(4, stages(m, n, k)), 8 if m * n > 8192 else 4)
            found.append(shape)
            if shape.stages == 4 and m * n * k < bm * bn * bk:
                found.append(shape._replace(stages=5))
    unique = dict.fromkeys(t for t in found if fits(t) and t != default)
    return list(unique)[:MOST]


@contextmanager
def trial(chosen: dict[str, Tile]) -> Iterator[dict[str, Tile]]:
    """Inside, products have these tiles; yields the tiles that were used inside, by product."""
    tuned, used = dict(tiles._overrides), dict(tiles._used)
    tiles._overrides.update(chosen)
    tiles._used.clear()
    try:
        yield tiles._used
    finally:
        inside = dict(tiles._used)
        tiles._overrides.clear()
        tiles._overrides.update(tuned)
        tiles._used.clear()
        tiles._used.update({**used, **inside})


class Tuner:
    """Watches ``engine``; see `watching`.

    Args:
        budget: seconds after which nothing more is measured.
        measure: (calls) → seconds of making them once; by default a captured graph of them between two events.
        listener: called with each `Outcome`.
        keep_each: called after each product with the winners so far and the products measured, so that a crash loses nothing.

    Attributes:
        chosen: the winners by product. outcomes: of all products that were measured. waiting: launches of all candidates, where the
        engine's device executes nothing (for compiling them ahead).
    """

    def __init__(
        self, engine: Any, *, budget: float = 300.0, measure: Callable[[list[Call]], float] | None = None,
        listener: Callable[[Outcome], None] | None = None, keep_each: Callable[[dict[str, Tile], list[str]], None] | None = None,
    ):  # fmt: skip
        self.engine, self.device = engine, engine.device
        self.measure = measure or self._measure
        self.listener, self.keep_each = listener, keep_each
        self.end = time.monotonic() + budget
        self.chosen: dict[str, Tile] = {}
        self.outcomes: list[Outcome] = []
        self.proposals: dict[str, tuple[Tile, list[Tile]]] = {}
        self.waiting: list[Launch] = []
        self.left_out: list[str] = []
        self._inside = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, each product is tuned the first time that an operation of the engine needs it."""
        for name in PRODUCTS:
            setattr(self.engine, name, self._watched(getattr(self.engine, name)))
        try:
            yield
        finally:
            for name in PRODUCTS:
                delattr(self.engine, name)

    def _watched(self, operation: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any, **kwargs: Any) -> None:
            if self._inside:
                return operation(*args, **kwargs)
            self._inside = True
            try:
                self._visit(lambda: operation(*args, **kwargs), list(_arrays((args, kwargs))))
            finally:
                self._inside = False

        return run

    def _visit(self, operation: Callable[[], None], arrays: list[Any]) -> None:
        """Tune the products of one operation that are new, then let it run with what is best."""
        _, used = self._launches(operation, self.chosen)
        for name, default in used.items():
            if name in self.proposals:
                continue
            others = candidates(name.split()[0], default, self.device.chip, self.engine.precision)
            self.proposals[name] = default, others
            if not self.device.executes:
                for tile in others:
                    self.waiting += [call.launch for call in self._try(operation, name, tile)]
            elif time.monotonic() > self.end:
                self.left_out.append(name)
            elif others:
                self._tune(operation, arrays, name, default, others)
        with trial(self.chosen):
            operation()

    def _launches(self, operation: Callable[[], None], chosen: dict[str, Tile]) -> tuple[list[Call], dict[str, Tile]]:
        """The launches of an operation with these tiles, none of them executed, and the tiles that it used."""
        with trial(chosen) as used, recorded(self.device, run=False) as calls:
            operation()
            return calls, dict(used)

    def _try(self, operation: Callable[[], None], name: str, tile: Tile) -> list[Call]:
        """The launches with ``tile`` for ``name``; none where the launcher refuses it or does not take it."""
        try:
            calls, used = self._launches(operation, {**self.chosen, name: tile})
        except (ValueError, TypeError, ZeroDivisionError):
            return []
        for call in calls:
            fixed = call.launch.constexprs
            if fixed.get("BK") and fixed.get("SC", 0) % fixed["BK"]:
                return []  # a step would leave its tap
        return calls if used.get(name) == tile else []

    def _tune(self, operation: Callable[[], None], arrays: list[Any], name: str, default: Tile, others: list[Tile]) -> None:
        base, _ = self._launches(operation, self.chosen)
        times: list[tuple[float, float, Tile]] = []
        failed: list[str] = []
        for tile in others:
            if time.monotonic() > self.end:
                break
            calls = self._try(operation, name, tile)
            changed, replaced = _differing(calls, base), _differing(base, calls)
            if not changed:
                continue
            try:
                times.append((self.measure(changed), self.measure(replaced), tile))
            except RuntimeError as error:  # does not compile, or asks for too much
                failed.append(f"{list(tile)}: {str(error)[:120]}")
        best, seconds, of_default = default, 0.0, 0.0
        for new_seconds, default_seconds, tile in sorted(times, key=lambda t: t[0] - t[1]):
            if new_seconds > (1.0 - GAIN) * default_seconds:
                break
            if why := self._wrong(operation, arrays, name, tile):
                failed.append(f"{list(tile)}: {why}")
                continue
            best, seconds, of_default = tile, new_seconds, default_seconds
            self.chosen[name] = tile
            break
        if best == default and times:
            seconds = of_default = min(t[1] for t in times)
        outcome = Outcome(name, default, best, of_default, seconds, len(times), tuple(failed))
        self.outcomes.append(outcome)
        if self.keep_each is not None:
            self.keep_each(self.chosen, [o.name for o in self.outcomes])
        if self.listener is not None:
            self.listener(outcome)

    def _measure(self, calls: list[Call]) -> float:
        def work() -> None:
            for call in calls:
                call.again()

        times = 10 if self.device.name == "gpu" else 1
        return timed(self.device, repeated(self.device, work, times), rounds=5, seconds=0.003).median / times

    def _wrong(self, operation: Callable[[], None], arrays: list[Any], name: str, tile: Tile) -> str:
        """What differs between the results with ``tile`` and with the default; empty where they agree. The arrays are restored."""
        before = [self.device.download(array) for array in arrays]
        results = []
        for chosen in (self.chosen, {**self.chosen, name: tile}):
            for array, values in zip(arrays, before, strict=True):
                self.device.put(array, values)
            with trial(chosen):
                operation()
            results.append([np.asarray(self.engine.to_numpy(array)) for array in arrays])
        for array, values in zip(arrays, before, strict=True):
            self.device.put(array, values)
        for expected, got in zip(*results, strict=True):
            error = _difference(got, expected)
            if not error <= DIFFERENCE[self.engine.precision]:
                return f"wrong results: relative difference {error:.1e}"
        return ""


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    """‖got − expected‖ / ‖expected‖ where expected is finite; inf where got is not."""
    known = np.isfinite(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, bool)
    a, b = got[known].astype(np.float64), expected[known].astype(np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    return float(np.linalg.norm(a - b)) / (float(np.linalg.norm(b)) or 1.0)


def _arrays(value: Any) -> Iterator[Any]:
    """Every device array in nested tuples, lists and dictionaries."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part)
    elif hasattr(value, "flags") and hasattr(value, "nbytes") and value.ndim > 0:
        yield value


def _signature(call: Call) -> Any:
    return key_of(call.launch), call.launch.grid


def _differing(calls: list[Call], others: list[Call]) -> list[Call]:
    """The calls that ``others`` does not have."""
    had = Counter(map(_signature, others))
    result = []
    for call in calls:
        if had[_signature(call)] > 0:
            had[_signature(call)] -= 1
        else:
            result.append(call)
    return result
