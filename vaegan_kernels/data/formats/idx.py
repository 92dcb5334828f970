"""MNIST and Fashion-MNIST: four idx files in a folder, gzipped or not. Other data in such files works as well.

train-images-idx3-ubyte, t10k-images-idx3-ubyte   0, 0, 8 (bytes), 3 (axes), three big-endian uint32: images, rows, columns; then the pixels
train-labels-idx1-ubyte, t10k-labels-idx1-ubyte   0, 0, 8, 1, one uint32: labels; then a byte a label

Each with or without .gz; a dot in the place of the last hyphen but one (train-images.idx3-ubyte) is known too. Of the training images every
twelfth is for validation (55,000 and 5,000 of the whole set); t10k is the test set. Images without their labels' file are unlabelled.
The files of the two sets have the same names: it is Fashion-MNIST where the folder, or one of the two above it, has "fashion" in its name.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import IO

import numpy as np

from vaegan_kernels.data.dataset import every_nth
from vaegan_kernels.data.formats.members import Members, explained, find_place, members_of, open_packed
from vaegan_kernels.data.formats.records import Listing, Part, read_records
from vaegan_kernels.shell.errors import UserError

FOLDERS = ("raw",)  # torchvision's
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_VALIDATION = 12  # of so many training images one is for validation
_SIDES = (4, 1024)
_MOST = 10_000_000  # images
_RATIO = 1040  # gzip's best: a header cannot claim more than so many times the bytes of the file


def _spellings(key: str, kind: str, axes: int) -> list[str]:
    """The names that a file may have, the preferred one first."""
    return [f"{key}-{kind}{joint}idx{axes}-ubyte{ending}" for ending, joint in product(("", ".gz"), ("-", "."))]


_IMAGES = {key: _spellings(key, "images", 3) for key in ("train", "t10k")}
_LABELS = {key: _spellings(key, "labels", 1) for key in ("train", "t10k")}


def _is_images(name: str) -> bool:
    return any(name in names for names in _IMAGES.values())


def _wanted(name: str) -> bool:
    return _is_images(name) or any(name in names for names in _LABELS.values())


def _find(path: Path) -> Path | None:
    place = find_place(path, FOLDERS, (), _is_images) if path.is_dir() else None
    return place if place is not None and any(map(_is_images, members_of(place, _wanted).sizes)) else None


def is_idx(path: Path) -> bool:
    """True where ``path`` is a folder with images in files called as MNIST's, or has them in a folder raw/."""
    return _find(path) is not None


def list_idx(path: Path) -> Listing:
    """Read the headers and labels; of gzipped images, check that they are whole. UserError says which file is wrong, and how."""
    place = _find(path) or path
    return _list(place, members_of(place, _wanted).stamps)


@lru_cache(maxsize=2)
def _list(place: Path, stamps: object) -> Listing:
    del stamps  # part of the cache's key only
    members = members_of(place, _wanted)
    parts = []
    for key in _IMAGES:
        images, labels = (next((name for name in names[key] if name in members), None) for names in (_IMAGES, _LABELS))
        if images is None:
            continue
        (count, height, width), _ = _content(members, images, 3)
        if not 1 <= count <= _MOST or not all(_SIDES[0] <= side <= _SIDES[1] for side in (height, width)):
            expected = f"expected 1 to {_MOST} of {_SIDES[0]} to {_SIDES[1]} pixels a side; download it again"
            raise UserError(f"{members.where(images)}: says {count} images of {height} x {width} pixels, {expected}")
        splits = every_nth(count, _VALIDATION) if key == "train" else np.full(count, 2, np.uint8)
        parts.append(Part(images, splits, None if labels is None else _labels(members, labels, count), _Reader(height, width)))
    if not parts:
        raise UserError(f"{place}: has no images of MNIST, expected {_IMAGES['train'][0]} or {_IMAGES['t10k'][0]}, gzipped or not")
    fashion = any("fashion" in part.lower() for part in place.resolve().parts[-3:])
    last = max([9, *(int(part.labels.max()) for part in parts if part.labels is not None)])
    names = FASHION if fashion and last == 9 else tuple(str(i) for i in range(last + 1))
    return Listing("Fashion-MNIST" if fashion else "MNIST", members, tuple(parts), names)


@contextmanager
def _opened(members: Members, name: str) -> Iterator[IO[bytes]]:
    with explained(members.where(name)), open_packed(members.place / name) as stream:
        yield stream


def _content(members: Members, name: str, axes: int, labels_of: int | None = None) -> tuple[tuple[int, ...], bytes]:
    """The sizes in a file's header and, of the labels of ``labels_of`` images, all that follows.

    UserError unless just as many bytes follow as the header says, and it says as many labels as there are images.
    """
    where, size, head = members.where(name), members.sizes[name], 4 + 4 * axes
    again = "download it again"
    with _opened(members, name) as stream:
        header = stream.read(head)
        if header[:4] != bytes((0, 0, 8, axes)) or len(header) < head:
            found = header[:4].hex(" ") or "nothing"
            raise UserError(f"{where}: begins with {found}, expected 00 00 08 {axes:02x} and {axes} sizes; {again}")
        sizes = struct.unpack(f">{axes}I", header[4:])
        if labels_of is not None and sizes != (labels_of,):
            raise UserError(f"{where}: has {sizes[0]} labels for {labels_of} images; download both again")
        bytes_said, keep = math.prod(sizes), labels_of is not None
        packed = isinstance(stream, gzip.GzipFile)
        if not packed and size != head + bytes_said:
            problem = "it is cut off" if size < head + bytes_said else "it is not what its header says"
            raise UserError(f"{where}: is {size} bytes, expected {head + bytes_said} for {' x '.join(map(str, sizes))}; {problem}, {again}")
        if packed and bytes_said > _RATIO * size:
            raise UserError(f"{where}: says {' x '.join(map(str, sizes))}, which cannot be in {size} bytes of gzip; {again}")
        if not packed and not keep:
            return sizes, b""
        pieces, left = [], bytes_said + 1  # one more: there must not be any
        while left and (piece := stream.read(min(left, 1 << 20))):
            pieces.append(piece if keep else b"")
            left -= len(piece)
        if left != 1:
            problem = f"ends after {bytes_said + 1 - left} of {bytes_said} bytes" if left else f"continues after the {bytes_said} bytes"
            raise UserError(f"{where}: {problem} that its header says; {again}")
    return sizes, b"".join(pieces)


def _labels(members: Members, name: str, count: int) -> np.ndarray:
    """int16 [count]."""
    return np.frombuffer(_content(members, name, 1, labels_of=count)[1], np.uint8).astype(np.int16)


class _Reader:
    """Reads images of H x W pixels from a file, gzipped or not."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def __call__(self, stream: IO[bytes], where: str, chosen: np.ndarray) -> Iterator[np.ndarray]:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        content = gzip.GzipFile(fileobj=stream) if packed else stream
        for piece in read_records(content, where, 16, self.height * self.width, chosen):  # type: ignore[arg-type]
            yield piece.reshape(-1, self.height, self.width, 1)
