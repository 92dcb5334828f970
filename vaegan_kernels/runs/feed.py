"""Where batches are gathered from: the whole data set or, where a GPU has no room for it, a ring that a thread fills ahead of the steps.

Which images a step sees follows from its number alone, so they are known before the step comes, and its bits are the same either way.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import Engine, OutOfMemory
from vaegan_kernels.shell.cli import describe_out_of_memory
from vaegan_kernels.shell.errors import UserError

SLOTS = 8  # steps in the ring
AHEAD = 8  # steps whose pages are asked for before they are read: a disk is fast where it is asked for much at once


class Feed:
    """The images of each step's batch.

    Args:
        images: uint8 [n, S, S, C], in memory or pages of a file.
        shape: batches of a step, and images of a batch, N.
        rows: of a step, the images of its batches, int64 [batches · N]; called from the thread too.
        stream: whether a GPU is given them batch by batch; None: where they do not fit. A CPU reads them where they are.

    Attributes: ``streamed``, whether it is so.

    Raises `UserError` where they do not fit and must; `OutOfMemory` where the ring does not.
    """

    def __init__(
        self, engine: Engine, images: np.ndarray, shape: tuple[int, int], rows: Callable[[int], np.ndarray], stream: bool | None = None
    ):  # fmt: skip
        self.engine, self.source, self.shape, self.rows = engine, images, shape, rows
        self.may_stream = stream is not False and not engine.host_memory
        self.ring: Any = None
        self.reader: Reader | None = None
        try:
            if not (stream and self.may_stream):
                self.images = engine.upload_images(images)
                return
        except OutOfMemory as error:
            if not self.may_stream:
                advice = f"take fewer with --limit{', leave --no-stream out' if stream is False else ''}, or use --device cpu"
                raise UserError(describe_out_of_memory(error, advice, what=f"the data set of {len(images):,} images")) from None
        self._stream()

    @property
    def streamed(self) -> bool:
        return self.ring is not None

    def _stream(self) -> None:
        self.images = None  # makes room
        batches, n = self.shape
        self.ring = self.engine.ring(SLOTS, (batches * n, *self.source.shape[1:]))
        self.images = self.ring.images
        places = np.arange(SLOTS * batches * n).reshape(SLOTS, batches, n)
        self.orders = [self.engine.asarray(places[:, batch].reshape(-1), np.int32) for batch in range(batches)]

    def gathered(self, order: Any, per_epoch: int, batch: int = 0) -> tuple[Any, Any, int]:
        """``images``, ``order`` and ``per_epoch`` of `gather_batch` for batch number ``batch`` of a step, whose are the whole data set's
        ``order`` and ``per_epoch``. A ring is to a launch a data set of `SLOTS` steps, which it goes through in their order."""
        return (self.images, self.orders[batch], SLOTS) if self.streamed else (self.images, order, per_epoch)

    def prepare(self, body: Callable[[], None]) -> None:
        """`Engine.prepare`. Where the images leave no room for what ``body`` places they are streamed, if they may be."""
        try:
            self.engine.prepare(body)
        except OutOfMemory:
            if self.streamed or not self.may_stream:
                raise
            self._stream()
            self.engine.prepare(body)

    def step(self, step: int, launch: Callable[[], None]) -> None:
        """``launch`` step ``step``, the one behind that of the last call, on its images. Raises what the reading of them raised."""
        if not self.streamed:
            return launch()
        if self.reader is None:
            self.reader = Reader(self.ring, self.source, self.rows, step)
            self.reader.start()
        self.reader.wait_for(step)
        self.ring.wait(step % SLOTS)
        launch()
        self.ring.release(step % SLOTS)
        self.reader.launched(step)

    def close(self) -> None:
        """End the thread. A later step starts another."""
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.end()
            self.ring.close()


class Reader(threading.Thread):
    """Fills the ring's slots with the batches of the steps from ``first`` on, at most `SLOTS` ahead of the steps that are launched."""

    def __init__(self, ring: Any, images: np.ndarray, rows: Callable[[int], np.ndarray], first: int):
        super().__init__(name="feed", daemon=True)
        self.ring, self.images, self.rows, self.first = ring, images, rows, first
        self.ready = self.behind = first  # steps whose images are on their way; steps that are launched
        self.changed = threading.Condition()
        self.ending = False
        self.error: BaseException | None = None
        self.ask = pages_of(images)

    def run(self) -> None:
        try:
            self.ring.enter()
            for step in range(self.first, self.first + AHEAD):
                self.ask(self.rows(step))
            while self._may_fill():
                self.ask(self.rows(self.ready + AHEAD))
                slot = self.ready % SLOTS
                np.take(self.images, self.rows(self.ready), axis=0, out=self.ring.host(slot), mode="clip")  # "raise" would copy once more
                self.ring.copy(slot)
                self._tell(ready=self.ready + 1)
        except BaseException as error:  # the main thread's to raise
            self._tell(error=error)

    def _may_fill(self) -> bool:
        """Wait until the slot's step before is launched; False at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.ending or self.ready < self.behind + SLOTS)
            return not self.ending

    def _tell(self, **values: Any) -> None:
        with self.changed:
            self.__dict__.update(values)
            self.changed.notify_all()

    def wait_for(self, step: int) -> None:
        """Until the images of ``step`` are on their way. Raises what went wrong before."""
        with self.changed:
            while not self.changed.wait_for(lambda: self.ready > step or self.error is not None, 1.0):
                continue  # on Windows a wait without an end hears no Ctrl-C
            if self.ready > step:
                return
        error = self.error
        if isinstance(error, OSError):
            raise OSError(error.errno, f"the images cannot be read ({error.strerror or error})", error.filename) from error
        assert error is not None
        raise error

    def launched(self, step: int) -> None:
        """``step`` is launched: its slot may be filled anew."""
        self._tell(behind=step + 1)

    def end(self) -> None:
        """Returns when the thread has ended."""
        self._tell(ending=True)
        self.join()


def pages_of(images: np.ndarray) -> Callable[[np.ndarray], None]:
    """A function that has the system read the pages of some images, int64 [N], and does not wait; nothing for those in memory.

    Read one after the other, as they are looked at, images in random order come many times slower from a disk, and much that lies
    around them with them.
    """
    file: Any = images
    while isinstance(file, np.ndarray):
        file = file.base
    if not isinstance(file, mmap.mmap) or not hasattr(file, "madvise") or not images.flags.c_contiguous:
        return lambda rows: None
    start = images.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
    file.madvise(mmap.MADV_RANDOM)
    size = images[:1].nbytes

    def ask(rows: np.ndarray) -> None:
        with contextlib.suppress(OSError):  # reading itself will tell
            for row in rows.tolist():
                first = start + row * size
                page = first // mmap.PAGESIZE * mmap.PAGESIZE
                file.madvise(mmap.MADV_WILLNEED, page, first + size - page)

    return ask
