"""What a launch is expected to cost: operations and bytes, counted from shapes alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """Executed work of one launch: ``flops`` of matrix products (padding included), bytes read and bytes written."""

    flops: int
    reads: int
    writes: int


def cost(flops: int, reads: Iterable[Any] = (), writes: Iterable[Any] = ()) -> Cost:
    """The cost of a launch; ``reads`` and ``writes`` hold arrays (their nbytes count) or byte counts.

    ``flops`` counts two for each multiply-add of a matrix product as executed, 0 for element-wise kernels. Bytes are those
    touched at least once: each input once, each output once.
    """
    return Cost(int(flops), sum(map(_bytes, reads)), sum(map(_bytes, writes)))


def _bytes(item: Any) -> int:
    return int(getattr(item, "nbytes", item))
