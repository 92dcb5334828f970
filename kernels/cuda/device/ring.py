"""A ring of batches on the device, filled while launches read those before: copies have a stream of their own, events keep the order."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array


class Copying:
    """Base of a device: what copies beside the launches need. Streams and events have the names and the meaning that CuPy gives them:
    ``stream.wait_event``, ``stream.record``, ``event.synchronize``; an event that was never recorded keeps nobody waiting."""

    stream: Any  # of the launches

    def enter(self) -> None:
        """Make the device that of the calling thread. A thread other than the launches' calls it first."""

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised uint8 memory of the host that the device reads by itself. Raises `MemoryError`."""
        raise NotImplementedError

    def new_stream(self) -> Any:
        """A stream beside that of the launches."""
        raise NotImplementedError

    def new_event(self) -> Any:
        """An event that marks a place in a stream."""
        raise NotImplementedError

    def copy(self, array: Array, values: np.ndarray, stream: Any) -> None:
        """Have ``stream`` copy ``values``, a part of `pinned` memory, into an array of the same shape and dtype; does not wait."""
        raise NotImplementedError


class Ring:
    """``slots`` batches of bytes. One use of a slot is, in this order: fill what `host` gives; `copy`; `wait`, the launches that read the
    slot, `release`. The first two may be another thread's, as long as the calls for one slot keep their order.

    Attributes:
        images: uint8 [slots · N, ...], on the device; slot s has the rows from s · N on.

    Raises `OutOfMemory` and, for the host's part, `MemoryError`.
    """

    def __init__(self, device: Any, slots: int, shape: tuple[int, ...]):
        self.device, self._n = device, shape[0]
        self.images = device.empty((slots * self._n, *shape[1:]), np.uint8)
        self._host = device.pinned((slots, *shape))
        self._stream = device.new_stream()
        self._copied = [device.new_event() for _ in range(slots)]
        self._read = [device.new_event() for _ in range(slots)]

    def enter(self) -> None:
        """Called first by a thread other than the launches'."""
        self.device.enter()

    def host(self, slot: int) -> np.ndarray:
        """uint8 [N, ...]: where the slot is filled. Waits until the copy of what was there before has ended."""
        self._copied[slot].synchronize()
        part: np.ndarray = self._host[slot]
        return part

    def copy(self, slot: int) -> None:
        """Copy what was filled, once everything that reads the slot (`release`) has ended. Does not wait for that."""
        self._stream.wait_event(self._read[slot])
        self.device.copy(self.images[slot * self._n : (slot + 1) * self._n], self._host[slot], self._stream)
        self._stream.record(self._copied[slot])

    def wait(self, slot: int) -> None:
        """Launches from here on begin when the slot's copy has ended."""
        self.device.settle()
        self.device.stream.wait_event(self._copied[slot])

    def release(self, slot: int) -> None:
        """Of the launches so far some read the slot, and those to come do not."""
        self.device.settle()
        self.device.stream.record(self._read[slot])

    def close(self) -> None:
        """Wait for the copies: from here on nothing touches the ring's memory."""
        self._stream.synchronize()
