"""Every activation and error of a step comes from one pool: after the first step, nothing large is allocated."""

from __future__ import annotations

import math
from typing import Any

from kernels import Engine


def size_class(n: int) -> int:
    """The smallest of 1, 1.5, 2, 3, 4, 6, … that holds n: batches of N, 2N and 3N images waste nothing for N = 2^k."""
    power = 1 << max(0, (n - 1).bit_length())
    return power * 3 // 4 if power >= 4 and n <= power * 3 // 4 else power


class Pool:
    """Buffers by type and size class. A buffer given back is the next one taken of its class.

    A step takes and gives in the same order each time, so a class never needs more buffers than in the first step.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._free: dict[tuple[Any, int], list[Any]] = {}
        self._owner: dict[int, Any] = {}  # id of an array handed out → its buffer
        self.bytes = 0  # placed so far, handed out or free

    def take(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """An uninitialised array of ``shape``, of the engine's dtype unless another is given; to be handed back with `give`."""
        dtype = self._engine.dtype if dtype is None else dtype
        n = math.prod(shape)
        size = size_class(n)
        free = self._free.setdefault((dtype, size), [])
        if free:
            buffer = free.pop()
        else:
            buffer = self._engine.empty((size,), dtype)
            self.bytes += buffer.nbytes
        array = buffer[:n].reshape(shape)
        self._owner[id(array)] = (buffer, array)
        return array

    def give(self, *arrays: Any) -> None:
        """Hand back arrays got from `take`. Raises `ValueError` for anything else (a view, or the same twice)."""
        for array in arrays:
            if id(array) not in self._owner:
                raise ValueError("pool: got an array that it did not hand out, or that was given back before")
            buffer, _ = self._owner.pop(id(array))
            self._free[buffer.dtype, buffer.size].append(buffer)
