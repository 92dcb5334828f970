"""Files of HDF5, read with distrust: opened without locks, looked at only where something is expected, any trouble one line.

Whoever made a file may have made it to hurt: links to other files, arrays that say they are larger than any memory, groups without end.
So names are looked up, and of an array its kind, type, shape and storage are known before a byte of it is read. Only a file that is to be
copied whole is walked through, within bounds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.hdf5_probe import harmless
from vaegan_kernels.shell.errors import UserError

#: An array may say that it has so many times the bytes that are stored; gzip's best is 1032 to 1.
RATIO, SLACK = 1000, 1 << 16
BLOCK = 4096  # bytes of an array that a checksum adds up
DEEPEST, MOST = 8, 20_000  # groups within groups, and arrays, of a file that is copied whole


@contextmanager
def reading(path: Path, *, what: str, advice: str) -> Iterator[Any]:
    """An h5py.File, open for reading without a lock: file systems may have none, and another program may hold one.

    Args:
        what: "a checkpoint", for messages. advice: what to do about a damaged file.

    Raises:
        UserError: the file cannot be opened, or anything that h5py raises within.
    """
    import h5py

    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty, expected {what}")
        if not harmless(path):
            raise UserError(f"{path}: is damaged, so that the HDF5 library crashes or never ends on it; {advice}")
        file = h5py.File(path, "r", locking=False)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: no such file; expected {what}") from None
    except PermissionError:
        raise UserError(f"{path}: permission denied") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: {_why(path, str(error))}") from None
    try:
        with file:
            yield file
    except UserError:
        raise
    except Exception as error:  # h5py's own are of any kind: OSError, RuntimeError, KeyError, UnicodeDecodeError, SystemError
        raise UserError(f"{path}: is damaged ({first_line(error)}); {advice}") from None


def _why(path: Path, text: str) -> str:
    """In words, why a file cannot be opened."""
    if "truncated" in text:
        return "the file is truncated (an incomplete copy?); copy it again"
    if "already open for write" in text:
        return "another program has the file open for writing, or ended while it had; close it there, or repair it with h5clear"
    with open(path, "rb") as stream:
        if stream.read(8) == b"\x89HDF\r\n\x1a\n":
            return f"the file is damaged ({text.splitlines()[0][:120]}); copy it again"
    return "not an HDF5 file, expected one that this program wrote"


def first_line(error: BaseException) -> str:
    """The beginning of an error's first line, or its kind."""
    return (str(error).splitlines() or [""])[0][:160] or type(error).__name__


def array_of(file: Any, name: str, path: Path) -> Any:
    """The h5py.Dataset called ``name`` (with slashes), None where there is no such thing.

    Raises:
        UserError: it is reached through a link or lies outside of the file, or says that it is far larger than what is stored of it.
    """
    import h5py

    place = file
    for part in name.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{path}: the array {name} points outside the file; it was not written by this program")
        place = place.get(part)
    if not isinstance(place, h5py.Dataset):
        return None
    if place.external or place.is_virtual:  # these would read other files
        raise UserError(f"{path}: the array {name} points outside the file; it was not written by this program")
    if place.nbytes > RATIO * place.id.get_storage_size() + SLACK:
        raise UserError(f"{path}: {name} says it has {place.nbytes:,} bytes and stores next to none; it was not written by this program")
    return place


def place_of(array: Any) -> tuple[int, int] | None:
    """(first byte, byte behind the last) of an h5py.Dataset in its file, where it lies there in one piece as it is in memory; else None."""
    start = None if array.chunks is not None else array.id.get_offset()
    return None if start is None or array.id.get_storage_size() != array.nbytes else (start, start + array.nbytes)


def mapped(array: Any, path: Path) -> np.ndarray | None:
    """An array of `array_of` as pages of the file, read when they are looked at; None where that cannot be had.

    The first and the last row are held against what the library reads.
    """
    place = place_of(array)
    if place is None or place[1] > path.stat().st_size or not array.nbytes:
        return None
    try:
        pages = np.asarray(np.memmap(path, array.dtype, "r", place[0], array.shape))
    except (OSError, ValueError):  # a file system that maps nothing
        return None
    return pages if all(np.array_equal(pages[row], array[row]) for row in (0, -1)) else None


def checksum(array: np.ndarray) -> int:
    """A number that no change of one value leaves the same: the CRC-32 of sums over blocks of 4 KiB, many times as fast as of all bytes."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(data) // BLOCK * BLOCK
    sums = data[:whole].view("<u8").reshape(-1, BLOCK // 8).sum(axis=1)
    return zlib.crc32(data[whole:].tobytes(), zlib.crc32(sums.astype("<u8").tobytes()))


def strangers(file: Any, expected: set[str], allowed: tuple[str, ...] = ()) -> list[str]:
    """What lies in the groups of the arrays ``expected`` and is none of them, nor a group of one; at the root none of ``allowed``."""
    import h5py

    known: dict[str, set[str]] = {"": {name.rstrip("/") for name in allowed}}
    for name in expected:
        parts = name.split("/")
        for depth, part in enumerate(parts):
            known.setdefault("/".join(parts[:depth]), set()).add(part)
    found = []
    for group, names in known.items():
        place = file.get(group) if group else file
        if isinstance(place, h5py.Group):
            found += [f"{group}/{name}".lstrip("/") for name in place if name not in names]
    return sorted(found)


def names_of(file: Any, path: Path) -> list[str]:
    """The names of all arrays of a file that is to be copied whole. Raises `UserError` where there are too many, or too deep."""
    import h5py

    names: list[str] = []
    waiting = [(file, "", 0)]
    while waiting:
        place, prefix, depth = waiting.pop()
        for name in place:
            item = place.get(name) if isinstance(place.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(item, h5py.Group):
                waiting.append((item, f"{prefix}{name}/", depth + 1))
            elif isinstance(item, h5py.Dataset):
                names.append(prefix + name)
        if depth > DEEPEST or len(names) > MOST:
            raise UserError(f"{path}: has more in it than a checkpoint has; it was not written by this program")
    return sorted(names)
