"""Packed files that are written in bounded memory, and go on after a kill.

OUT.h5 is made as .OUT.h5.part: its images are written where they will lie in it, and all else around them at the end. Beside it is
.OUT.h5.part.log, a line of JSON for each time that the images were flushed to the disk: how many pictures are done, which of them cannot be
read. After a kill what lies behind the last whole line is done again. Both are gone when OUT.h5 is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaegan_kernels.data import checked
from vaegan_kernels.data.cache_folder import key_of
from vaegan_kernels.data.dataset import Dataset, Progress, limited
from vaegan_kernels.data.formats.packed import finish, frame, no_room, read_packed, reason_of
from vaegan_kernels.data.images import Mended
from vaegan_kernels.data.plan import Placed, Plan
from vaegan_kernels.files import taken
from vaegan_kernels.shell.errors import UserError

FLUSH_BYTES, FLUSH_SECONDS = 1 << 28, 10.0  # of images, and of time, that a kill costs at most


class Packing:
    """The packed file of a plan, in the making."""

    def __init__(self, plan: Plan, out: Path, limit: int | None) -> None:
        self.plan, self.out = plan, out
        self.part = out.with_name(f".{out.name}.part")
        self.log = self.part.with_name(f"{self.part.name}.log")
        self.chosen = limited(plan.splits, limit)
        self.start = frame(io.BytesIO(), Dataset("", np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.uint8)))  # of the images in the file
        self.key = key_of([plan.name, plan.facts, plan.stamps, plan.shape, len(plan.splits), limit, self.start])
        self.done = self.cut = self.flushed = 0
        self.lost: list[int] = []
        self.made = ""  # the fingerprint of OUT.h5, once it is known

    @property
    def row(self) -> int:
        """Bytes of an image."""
        return int(np.prod(self.plan.shape))

    def begun(self) -> bool:
        """Whether there is something to go on from: the log is of this plan; it is read. A torn last line counts as none."""
        try:
            lines = self.log.read_bytes().split(b"\n")[:-1]
            entries = [json.loads(line) for line in lines]
            if entries[0] != {"key": self.key}:
                return False
            self.lost = [int(place) for entry in entries[1:] for place in entry["lost"]]
            self.done, self.cut = (int(entries[-1].get(name, 0)) for name in ("done", "cut"))
            self.made = str(entries[-1].get("fingerprint", ""))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False
        self.flushed = len(self.lost)
        return self.done > 0

    def ended(self) -> bool:
        """Whether an earlier call made OUT.h5 to its end and was killed before it could say so."""
        if self.part.exists() or not self.out.is_file() or not self.begun() or not self.made:
            return False
        try:
            ended = read_packed(self.out).fingerprint == self.made
        except UserError:  # somebody else's file
            return False
        if ended:
            self.log.unlink()
        return ended

    def run(self, *, progress: Progress, checking: Progress, workers: int | None = None) -> None:
        """Make OUT.h5, or go on with it. ``progress`` and ``checking``: called while pictures are decoded, and then read once more.

        Raises:
            UserError: another process makes it, no picture can be read, the disk is full; what is done is kept for the next call.
        """
        descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        if taken(descriptor):
            os.close(descriptor)
            raise UserError(f"{self.out}: another process is packing it; wait until it has ended, or stop it")
        try:
            with open(descriptor, "r+b", buffering=1 << 20) as file:
                self._begin(file)
                self._decode(file, progress, workers)
                fingerprint = self._close(file, checking)
            finish(self.part, self.out, fingerprint, len(self.chosen) * self.row)
        except BaseException as error:
            self._leave(error)
            if isinstance(error, OSError):
                raise UserError(f"{self.out}: cannot be written: {reason_of(error)}; {self._kept()}") from error
            raise
        self.log.unlink(missing_ok=True)

    def _begin(self, file: BinaryIO) -> None:
        """Take up what is there, or begin anew; the disk must have room for all."""
        there = os.fstat(file.fileno()).st_size
        if not self.begun() or there < self.start + (self.done - len(self.lost)) * self.row:
            self.done = self.cut = self.flushed = there = 0
            self.lost = []
            file.truncate(0)
            self.log.unlink(missing_ok=True)
        needed = self.start + len(self.chosen) * self.row + (1 << 20) - there
        if (free := shutil.disk_usage(self.out.parent).free) < needed:
            raise UserError(no_room(self.out, free, needed))

    def _decode(self, file: BinaryIO, progress: Progress, workers: int | None) -> None:
        since, last = 0, time.monotonic()
        for chunk in self.plan.decoded(self.chosen, self.done, workers):
            self._write(file, chunk)
            since += len(chunk)
            self.done += len(chunk)
            progress(self.done, len(self.chosen))
            if since * self.row >= FLUSH_BYTES or time.monotonic() - last >= FLUSH_SECONDS:
                self._flush(file)
                since, last = 0, time.monotonic()
        if self.log.exists():
            self._flush(file)

    def _write(self, file: BinaryIO, chunk: Sequence[Placed]) -> None:
        at = -1
        for place, pixels in chunk:
            if pixels is None:
                self.lost.append(place)
                continue
            where = self.start + (place - len(self.lost)) * self.row
            if where != at:
                file.seek(where)
            file.write(np.ascontiguousarray(pixels).data)
            at = where + self.row
            self.cut += isinstance(pixels, Mended)

    def _flush(self, file: BinaryIO, **more: str) -> None:
        """Bring the images to the disk, then say in the log that they are there, and ``more``."""
        file.flush()
        os.fsync(file.fileno())
        entry = {"done": self.done, "lost": self.lost[self.flushed :], "cut": self.cut, **more}
        head = b"" if self.log.exists() else json.dumps({"key": self.key}).encode() + b"\n"
        with open(self.log, "r+b" if not head else "wb") as log:
            log.seek(0)
            log.seek(log.read().rfind(b"\n") + 1 if not head else 0)  # over a line that a kill has torn
            log.truncate()
            log.write(head + json.dumps(entry).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())
        self.flushed = len(self.lost)

    def _close(self, file: BinaryIO, checking: Progress) -> str:
        """Put all else around the images, once their fingerprint is known, and return that."""
        file.flush()
        shape = (len(self.chosen) - len(self.lost), *self.plan.shape)
        nothing = np.broadcast_to(np.uint8(0), shape)  # of the right shape, and no bytes: a mapped file cannot be renamed on Windows
        dataset = self.plan.described(self.chosen, nothing, self.lost, self.cut, "unknown")
        pages = np.memmap(self.part, np.uint8, "r", self.start, shape)
        dataset.fingerprint = dataclasses.replace(dataset, images=pages).compute_fingerprint(
            checking if len(pages) * self.row > checked.SMALL else lambda done, total: None
        )
        if frame(file, dataset) != self.start:
            raise UserError(f"{self.out}: the HDF5 library has put the images elsewhere than at first; please report this with its version")
        os.fsync(file.fileno())
        if self.log.exists():
            self._flush(file, fingerprint=dataset.fingerprint)
        return dataset.fingerprint

    def _leave(self, error: BaseException) -> None:
        """What an error leaves: what the log knows of is kept for the next call, anything else is removed."""
        if not self.log.exists() or (isinstance(error, UserError) and len(self.lost) == self.done == len(self.chosen)):
            for path in (self.part, self.log):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        elif isinstance(error, KeyboardInterrupt):
            print(self._kept(), file=sys.stderr, flush=True)

    def _kept(self) -> str:
        if not self.log.exists():
            return "nothing was kept, free some space or write elsewhere"
        return f"what is done is kept in {self.part}: the same command goes on there; delete it and {self.log.name} if you do not want to"
