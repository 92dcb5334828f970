"""Every activation and error of a step comes from one pool: after the first steps, nothing large is allocated."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Any

from kernels import Engine


class Pool:
    """Buffers by type. An array gets the smallest free one that holds it, and only where there is none a new one of its own size.

    A step takes and gives in the same order each time, and the choice depends on nothing else: after a step that placed nothing, none will.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._free: dict[Any, list[tuple[int, int, Any]]] = {}  # by type, sorted: elements, number, buffer
        self._owner: dict[int, Any] = {}  # id of an array handed out → (its entry in _free, the array)
        self._count = 0
        self.bytes = 0  # placed so far, handed out or free

    def take(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """An uninitialised array of ``shape``, of the engine's dtype unless another is given; to be handed back with `give`."""
        dtype = self._engine.dtype if dtype is None else dtype
        n = math.prod(shape)
        free = self._free.setdefault(dtype, [])
        i = bisect_left(free, (n,))
        if i < len(free):
            entry = free.pop(i)
        else:
            entry = (n, self._count, self._engine.empty((n,), dtype))
            self._count += 1
            self.bytes += entry[2].nbytes
        array = entry[2][:n].reshape(shape)
        self._owner[id(array)] = (entry, array)
        return array

    def give(self, *arrays: Any) -> None:
        """Hand back arrays got from `take`. Raises `ValueError` for anything else (a view, or the same twice)."""
        for array in arrays:
            if id(array) not in self._owner:
                raise ValueError("pool: got an array that it did not hand out, or that was given back before")
            entry, _ = self._owner.pop(id(array))
            insort(self._free[entry[2].dtype], entry)  # numbers differ, so buffers are never compared
