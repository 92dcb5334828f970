"""The files of a data set by their official names, in a folder or in the tar archive they come in.

Nothing is ever extracted: a member is read through the archive, and one that is a link or no plain file is not seen.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO

from vaegan_kernels.shell.errors import UserError

SMALL = 1 << 20  # bytes up to which a member of an archive is kept when the archive is listed: lists, labels, pictures' names
_LARGEST = 8 << 30  # no file of a known data set is larger; a false size in an archive must not keep the reader busy for days
_AT_ONCE = 1 << 26  # bytes that may be asked for at once: more only comes from a false size in an archive's own headers
READ_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError)

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Members:
    """Files by name (without folders), in the order in which they are best read."""

    place: Path  # folder or archive
    sizes: dict[str, int]
    small: dict[str, bytes] = field(default_factory=dict)  # contents, of an archive's members of up to SMALL bytes that were asked for
    stamps: tuple[object, ...] = ()  # changes whenever the files do

    def __contains__(self, name: str) -> bool:
        return name in self.sizes

    def where(self, name: str) -> str:
        """The file, for an error message."""
        return f"{self.place / name}" if self.place.is_dir() else f"{self.place}, {name}"

    @contextmanager
    def opened(self) -> Iterator[Callable[[str], IO[bytes]]]:
        """A function that opens a file by its name for reading. Read an archive's in the order of `sizes`: going back starts over."""
        if self.place.is_dir():
            yield lambda name: open(self.place / name, "rb")  # noqa: SIM115 (the caller closes it)
            return
        with _archive(self.place) as archive:
            found: dict[str, tarfile.TarInfo] = {}

            def open_member(name: str) -> IO[bytes]:
                if name in self.small:
                    return io.BytesIO(self.small[name])
                while name not in found:
                    member = archive.next()
                    if member is None:
                        raise UserError(f"{self.where(name)}: is gone; was the archive changed meanwhile?")
                    if _is_plain(member):
                        found.setdefault(os.path.basename(member.name), member)
                stream = archive.extractfile(found[name])
                assert stream is not None  # a plain file, see isreg
                return stream

            yield open_member

    def read(self, name: str, most: int = SMALL) -> bytes:
        """The whole of a small file. UserError for one of more than ``most`` bytes."""
        if self.sizes[name] > most:
            raise UserError(f"{self.where(name)}: is {self.sizes[name]} bytes, expected at most {most}; is it the official file?")
        with explained(self.where(name)), self.opened() as open_member, open_member(name) as stream:
            return stream.read(most)


@contextmanager
def explained(where: str | Path) -> Iterator[None]:
    """Errors of a damaged file or archive as one `UserError` that names it."""
    try:
        yield
    except READ_ERRORS as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise UserError(f"{where}: cannot be read, is it cut off or damaged? ({reason}); download it again") from error


class _Stream:
    """What `tarfile` reads an archive from, packed or not: bounded in what is asked for at once, quick in passing over members."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.tell, self.seekable = raw.tell, raw.seekable

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _AT_ONCE:
            raise tarfile.ReadError("a header of the archive is too large")
        return self.raw.read(size)

    def seek(self, place: int) -> int:
        while isinstance(self.raw, gzip.GzipFile) and (ahead := place - self.raw.tell()) > 0:
            if not self.raw.read(min(ahead, 1 << 20)):
                break
        return self.raw.seek(place)


def open_packed(path: Path) -> IO[bytes]:
    """A file for reading, unpacked on the way where its first bytes say that it is gzipped."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    with explained(path), open_packed(path) as raw, tarfile.open(fileobj=_Stream(raw), mode="r:") as archive:  # type: ignore[call-overload]
        yield archive


def find_place(path: Path, folders: Sequence[str], archives: Sequence[str], wanted: Wanted) -> Path | None:
    """Where the files of a data set lie, if ``path`` is or holds one: a folder with a file that is wanted, or an archive.

    ``folders`` and ``archives`` are the official names. A folder is never taken for its name alone.
    """
    if path.is_file():
        return path if path.name in archives else None
    for place in (path, *(path / name for name in folders)):
        with suppress(OSError):  # no folder, or a closed one
            if any(wanted(item.name) and item.is_file() for item in list(os.scandir(place))):
                return place
    return next((path / name for name in archives if (path / name).is_file()), None)


def members_of(place: Path, wanted: Wanted, keep: Wanted = lambda name: True) -> Members:
    """The plain files called such that ``wanted(name)``, directly in a folder or anywhere in an archive.

    ``keep``: which members of an archive, of those up to SMALL bytes, to hold in memory. Raises UserError for a damaged archive.
    """
    try:
        facts = place.stat()
        if place.is_dir():
            return _in_folder(place, wanted)
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror}") from error
    return _in_archive(place, wanted, keep, facts.st_size, facts.st_mtime_ns)


def _in_folder(folder: Path, wanted: Wanted) -> Members:
    sizes: dict[str, int] = {}
    stamps: list[object] = []
    for item in sorted(os.scandir(folder), key=lambda item: item.name):
        if wanted(item.name) and stat.S_ISREG((facts := item.stat()).st_mode):
            sizes[item.name] = facts.st_size
            stamps.append((item.name, facts.st_size, facts.st_mtime_ns))
    return Members(folder, sizes, stamps=tuple(stamps))


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


@lru_cache(maxsize=2)
def _in_archive(path: Path, wanted: Wanted, keep: Wanted, size: int, changed: int) -> Members:
    """Read through once, which takes as long as decompressing it; remembered while the process lasts."""
    sizes: dict[str, int] = {}
    small: dict[str, bytes] = {}
    with _archive(path) as archive:
        for member in archive:
            if member.size > _LARGEST or member.size < 0:
                raise UserError(f"{path}: its member {member.name[:80]!r} says it has {member.size} bytes; is it the official archive?")
            name = os.path.basename(member.name)
            if not _is_plain(member) or name in sizes or not wanted(name):
                continue
            sizes[name] = member.size
            if member.size <= SMALL and keep(name):
                stream = archive.extractfile(member)
                small[name] = stream.read() if stream is not None else b""
                if len(small[name]) < member.size:
                    raise UserError(f"{path}: ends within {name}; it is cut off, download it again")
    return Members(path, sizes, small, stamps=(path.name, size, changed))
