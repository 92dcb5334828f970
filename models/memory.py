"""Every activation and error of a step comes from one pool: after the first steps, nothing large is allocated."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Any

from kernels import Array, Engine


class Pool:
    """Buffers by type. An array gets the smallest free one that holds it, and only where there is none a new one of its own size.

    A step takes and gives in the same order each time, and the choice depends on nothing else: once a step has allocated nothing, none
    will.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._free: dict[Any, list[tuple[int, int, Any]]] = {}  # by type, sorted: elements, number, buffer
        self._owner: dict[int, tuple[Any, Any, int]] = {}  # id of an array handed out → its entry in _free, the array, its number
        self._history: dict[Any, list[tuple[int, int]]] | None = None  # by type, while watched: (number, elements), or 0 for given back
        self._settled = False
        self._count = 0
        self.bytes = 0  # allocated now, handed out or free

    def take(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An uninitialised array of ``shape``, of the engine's dtype unless another is given; to be handed back with `give`."""
        dtype = self._engine.dtype if dtype is None else dtype
        n = math.prod(shape)
        free = self._free.setdefault(dtype, [])
        i = bisect_left(free, (n,))
        self._count += 1
        if i < len(free):
            entry = free.pop(i)
        else:
            entry = (n, self._count, self._engine.empty((n,), dtype))
            self.bytes += entry[2].nbytes
        array = entry[2][:n].reshape(shape)
        self._owner[id(array)] = (entry, array, self._count)
        if self._history is not None:
            self._history.setdefault(dtype, []).append((self._count, n))
        return array

    def give(self, *arrays: Array) -> None:
        """Hand back arrays got from `take`. Raises `ValueError` for anything else (a view, or the same twice)."""
        for array in arrays:
            if id(array) not in self._owner:
                raise ValueError("pool: got an array that it did not hand out, or that was given back before")
            entry, _, number = self._owner.pop(id(array))
            dtype = entry[2].dtype
            insort(self._free[dtype], entry)  # numbers differ, so buffers are never compared
            if self._history is not None:
                self._history[dtype].append((number, 0))

    def watch(self) -> None:
        """To be called before every step: from here to `settle` what the first one takes and gives back is noted."""
        self._history = None if self._settled or self._owner else {}

    def settle(self) -> None:
        """To be called behind every step: after the first, drops every buffer without which it would have found room, the largest first.

        A buffer made for an early error may lie idle when most is in use, and its own user could have had a larger one.
        """
        if self._engine.capturing:  # the graph has the addresses of all buffers, for good
            self._history, self._settled = None, True
        if self._history is None or self._owner:
            return
        for dtype, history in self._history.items():
            for entry in self._free[dtype][::-1]:
                rest = [other for other in self._free[dtype] if other is not entry]
                if _suffices([n for n, *_ in rest], history):
                    self._free[dtype] = rest
                    self.bytes -= entry[2].nbytes
        self._history, self._settled = None, True


def _suffices(sizes: list[int], history: list[tuple[int, int]]) -> bool:
    """Whether buffers of these ``sizes`` (rising) serve a step that takes and gives so."""
    free, used = list(sizes), dict[int, int]()
    for number, n in history:
        if n == 0:
            insort(free, used.pop(number))
            continue
        i = bisect_left(free, n)
        if i == len(free):
            return False
        used[number] = free.pop(i)
    return True
