"""A file that HDF5 can write through without harm where the disk is full."""

from __future__ import annotations

import io
from typing import Any, BinaryIO


class SafeFile(io.RawIOBase):
    """A binary file that HDF5 writes through, and that never fails in HDF5's hands.

    A write error inside HDF5 (a full disk) can leave its library in a state where closing the file fails again or crashes.
    Here the first error is kept in ``error`` and later writes are dropped, so that HDF5 closes cleanly; the caller raises it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._try(self.file.truncate, size) or 0

    def write(self, data: Any) -> int:
        self._try(self.file.write, data)
        return len(data)

    def flush(self) -> None:
        self._try(self.file.flush)

    def readinto(self, buffer: Any) -> int:
        count = self.file.readinto(buffer) or 0  # type: ignore[attr-defined]
        if self.error is not None:  # what was dropped reads as zeros: the file is thrown away in any case
            buffer[count:] = bytes(len(buffer) - count)
            count = len(buffer)
        return count

    def _try(self, call: Any, *arguments: Any) -> Any:
        if self.error is None:
            try:
                return call(*arguments)
            except OSError as error:
                self.error = error
        return None
