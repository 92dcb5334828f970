"""Processes whose arrays are those of a device that launches: what they do together has its place in the order of the launches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kernels.contract.operation import Array
from kernels.ranks.ranks import Ranks


class DeviceRanks(Ranks):
    """The processes of ``host``, which reaches the arrays of ``device`` itself: an emulated one's, or none where nothing is executed."""

    def __init__(self, host: Ranks, device: Any):
        self.host, self.device = host, device
        self.rank, self.size = host.rank, host.size
        device.agreed = lambda so: bool(self.largest(int(so)))

    @contextmanager
    def waits(self) -> Iterator[None]:
        with self.host.waits():
            yield

    def gather(self, buffer: Array) -> None:
        self.device.collective("gather", [buffer], lambda: self._gather(buffer))

    def total(self, arrays: Sequence[Array]) -> None:
        wanted = [array for array in arrays if array.size]
        self.device.collective("total", wanted, lambda: self._total(wanted))

    def _gather(self, buffer: Array) -> None:
        self.host.gather(buffer)

    def _total(self, arrays: Sequence[Array]) -> None:
        self.host.total(arrays)

    def exchange(self, value: Any) -> list[Any]:
        return self._outside_a_graph().exchange(value)

    def largest(self, number: int) -> int:
        return self._outside_a_graph().largest(number)

    def abort(self, code: int) -> None:
        self.host.abort(code)

    def _outside_a_graph(self) -> Ranks:
        if self.device.capturing:
            raise RuntimeError("device cuda: asks other processes while a graph is captured, which would do it once and never again")
        return self.host
