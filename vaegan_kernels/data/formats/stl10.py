"""STL-10 in its official binary form, as the archive or unpacked: colour images of 96 pixels, ten classes, most of them unlabelled.

stl10_binary.tar.gz or stl10_binary/:
    train_X.bin, test_X.bin, unlabeled_X.bin   images of 27,648 bytes: red, green and blue plane, each column by column
    train_y.bin, test_y.bin                    a byte an image, 1 to 10; absent: those images are unlabelled
    class_names.txt                            a name a line; may be absent
    fold_indices.txt                           ten folds of the training images; not used

The training split is train_X.bin, then unlabeled_X.bin (labels -1); the test split is test_X.bin; there are no validation images.
Any of the three may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from vaegan_kernels.data.formats.members import Members, find_place, members_of
from vaegan_kernels.data.formats.records import Listing, Part, names_of_text, read_records
from vaegan_kernels.shell.errors import UserError

FOLDERS = ("stl10_binary",)
ARCHIVES = ("stl10_binary.tar.gz", "stl10_binary.tar")
IMAGES = {"train": 0, "unlabeled": 0, "test": 2}  # of <key>_X.bin, with their split's code, in the order of the data set
NAMES = "class_names.txt"
CLASSES, SIDE = 10, 96
_RECORD = 3 * SIDE * SIDE


def _is_images(name: str) -> bool:
    return name.endswith("_X.bin") and name.removesuffix("_X.bin") in IMAGES


def _wanted(name: str) -> bool:
    return _is_images(name) or name in ("train_y.bin", "test_y.bin", NAMES)


def _is_small(name: str) -> bool:
    return not _is_images(name)


def _find(path: Path) -> Path | None:
    return find_place(path, FOLDERS, ARCHIVES, _is_images)


def is_stl10(path: Path) -> bool:
    """True where ``path`` is or holds STL-10: the official archive, or a folder with files called as the official ones."""
    return _find(path) is not None


def list_stl10(path: Path) -> Listing:
    """Read the labels and names, make no image. UserError says which file is wrong, and how."""
    place = _find(path) or path
    return _list(place, members_of(place, _wanted, _is_small).stamps)


@lru_cache(maxsize=2)
def _list(place: Path, stamps: object) -> Listing:
    del stamps  # part of the cache's key only
    members = members_of(place, _wanted, _is_small)
    parts = []
    for key, code in IMAGES.items():
        name = f"{key}_X.bin"
        if name not in members:
            continue
        size = members.sizes[name]
        if size % _RECORD or not size:
            problem = "holds no image" if not size else f"is {size} bytes, expected a multiple of {_RECORD}; it is cut off or not STL-10's"
            raise UserError(f"{members.where(name)}: {problem}; download it again")
        count = size // _RECORD
        parts.append(Part(name, np.full(count, code, np.uint8), _labels(members, f"{key}_y.bin", count), _read))
    if not parts:
        raise UserError(f"{place}: has no images of STL-10, expected train_X.bin, test_X.bin or unlabeled_X.bin")
    names = tuple(str(i + 1) for i in range(CLASSES))
    if NAMES in members:
        names = names_of_text(members.read(NAMES), CLASSES, members.where(NAMES))
    return Listing("STL-10", members, tuple(parts), names)


def _labels(members: Members, name: str, count: int) -> np.ndarray | None:
    """int16 [count], from 0 on; None where there is no such file."""
    if name not in members:
        return None
    where = members.where(name)
    if members.sizes[name] != count:
        raise UserError(f"{where}: has {members.sizes[name]} labels for {count} images; download both again")
    labels = np.frombuffer(members.read(name), np.uint8)
    wrong = np.flatnonzero((labels < 1) | (labels > CLASSES))
    if len(wrong):
        raise UserError(f"{where}: image {wrong[0]} has the label {labels[wrong[0]]}, expected 1 to {CLASSES}; is it STL-10's?")
    return labels.astype(np.int16) - np.int16(1)


def _read(stream: IO[bytes], where: str, chosen: np.ndarray) -> Iterator[np.ndarray]:
    for piece in read_records(stream, where, 0, _RECORD, chosen):
        yield np.ascontiguousarray(piece.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1))
