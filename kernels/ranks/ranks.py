"""The processes of a job, numbered from 0: what they tell each other, and who has which images of a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kernels.contract.operation import Array


class Ranks:
    """This process and the others. Every process calls the same methods in the same order.

    Attributes: ``rank``, this one's number; ``size``, how many there are; ``waiting``, since when (`time.monotonic`) it waits for others,
    or None.
    """

    rank: int
    size: int
    waiting: float | None = None

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Around what ends when the others have come as far; one within another is part of that."""
        outer, self.waiting = self.waiting, self.waiting or time.monotonic()
        try:
            yield
        finally:
            self.waiting = outer

    def gather(self, buffer: Array) -> None:
        """``buffer`` [size, ...], of which this process has written part ``rank``, gets the others' parts. C-contiguous."""
        raise NotImplementedError

    def total(self, arrays: Sequence[Array]) -> None:
        """Each array becomes its sum over all processes: the same bits on all of them, and at every run. C-contiguous."""
        raise NotImplementedError

    def exchange(self, value: Any) -> list[Any]:
        """What each process gave, by rank: any small object that can be pickled."""
        raise NotImplementedError

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers; quick enough for every step."""
        raise NotImplementedError

    def abort(self, code: int) -> None:
        """End all processes, this one too."""
        raise NotImplementedError


def shards(images: int, size: int) -> tuple[int, ...]:
    """How many of a batch's images each of ``size`` processes has: as many as possible each, and of those left over the first ones one
    more. They are consecutive."""
    each, left = divmod(images, size)
    return tuple(each + (rank < left) for rank in range(size))
