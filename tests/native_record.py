"""Calls of the native library, recorded with their arrays before and after, for tests/native/replay.cpp: a program that makes them again
in a build that Python cannot load.

What can be replayed: numbers and arrays, each array passed as one that covers all that the function touches through it. A uint64 array may
hold addresses: of arrays of the case that is recorded.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kernel_check import Case, Run

from kernels.cpu.native import library

_REALS = (ctypes.c_float, ctypes.c_double)


def replayed() -> set[str]:
    """Names of the exported functions that take arrays."""
    return {name for _, name, arguments in library.declarations() if "*" in arguments}


def write_declarations(path: Path) -> None:
    """What replay.cpp includes: the library's functions and the table of those that are replayed."""
    lines = [f"EXPORT {result} {name}({arguments});" for result, name, arguments in library.declarations()]
    rows = ", ".join(f"FUNCTION({name})" for name in sorted(replayed()))
    path.write_text("\n".join([*lines, f"static const Function FUNCTIONS[] = {{{rows}}};", ""]), encoding="utf-8")


class Recorder:
    """Stands in for a loaded library and keeps every call of `replayed` functions; calls that are equal in all their bytes once."""

    def __init__(self, loaded: Any):
        self.loaded = loaded
        self.calls: dict[bytes, None] = {}
        self.names: set[str] = set()
        self._replayed = replayed()
        self._case: dict[int, np.ndarray] = {}  # the arrays of the case, by their addresses

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.loaded, name)
        if name not in self._replayed:
            return function

        def call(*arguments: Any) -> Any:
            links, pointed = self._links(arguments)
            blocks = _blocks([*arguments, *pointed])
            before = [_read(block) for block in blocks]
            result = function(*arguments)
            after = [_read(block) for block in blocks]
            values = [_value(a, kind in _REALS, blocks) for a, kind in zip(arguments, function.argtypes, strict=True)]
            values += [_value(array, False, blocks) for array in pointed]
            self.calls[
                b"".join([
                    struct.pack("<I", len(name)), name.encode(), _value(result, function.restype in _REALS, blocks),
                    struct.pack("<I", len(values)), *values, struct.pack("<I", len(links)), *(struct.pack("<III", *link) for link in links),
                    struct.pack("<I", len(blocks)), *(struct.pack("<Q", len(b)) + b + a for b, a in zip(before, after, strict=True)),
                ])
            ] = None  # fmt: skip
            self.names.add(name)
            return result

        return call

    def _links(self, arguments: Sequence[Any]) -> tuple[list[tuple[int, int, int]], list[np.ndarray]]:
        """(argument, element, number of what it points to) of the addresses inside arguments; the arrays pointed to, numbered from the
        last argument on."""
        links, pointed = [], []
        for number, table in enumerate(arguments):
            if isinstance(table, np.ndarray) and table.dtype == np.uint64:
                for element, address in enumerate(table.ravel().tolist()):
                    if address in self._case:
                        links.append((number, element, len(arguments) + len(pointed)))
                        pointed.append(self._case[address])
        return links, pointed

    def record(self, engine: Any, cases: Iterable[Case]) -> int:
        """Run ``cases`` on an engine whose library this is; returns how many."""
        count = 0
        for case in cases:
            run = Run(engine, case)
            self._case = {_bounds(array)[0]: array for array in run.arrays.values()}
            run()
            count += 1
        return count

    def write(self, path: Path) -> None:
        """The file that replay.cpp reads: call after call."""
        path.write_bytes(b"".join(self.calls))


def _bounds(array: np.ndarray) -> tuple[int, int]:
    start = array.__array_interface__["data"][0]
    return start, start + array.itemsize + sum(
        (n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)
    ) if array.size else start


def _blocks(arguments: Sequence[Any]) -> list[tuple[int, int]]:
    """The memory of all arrays, as ranges of addresses: those that overlap are one."""
    blocks: list[tuple[int, int]] = []
    for start, end in sorted(_bounds(a) for a in arguments if isinstance(a, np.ndarray)):
        if blocks and start < blocks[-1][1]:
            blocks[-1] = blocks[-1][0], max(end, blocks[-1][1])
        else:
            blocks.append((start, end))
    return blocks


def _read(block: tuple[int, int]) -> bytes:
    return ctypes.string_at(block[0], block[1] - block[0])


def _value(value: Any, real: bool, blocks: list[tuple[int, int]]) -> bytes:
    """An argument or a result as replay.cpp's Reader takes it."""
    if value is None:
        return b"v"
    if not isinstance(value, np.ndarray):
        return struct.pack("<cd", b"d", value) if real else struct.pack("<cQ", b"i", int(value) & (1 << 64) - 1)
    start, end = _bounds(value)
    number = next(i for i, block in enumerate(blocks) if block[0] <= start and end <= block[1])
    kind = b"f" if value.dtype.kind == "f" else b"i"
    return struct.pack("<cIIcQQ", b"a", number, value.itemsize, kind, start - blocks[number][0], end - start)
