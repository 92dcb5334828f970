"""CIFAR-10 in its two official forms, as archives or unpacked: 60,000 colour images of 32 pixels, ten classes.

cifar-10-python.tar.gz or cifar-10-batches-py/: `data_batch_1` to `data_batch_5`, `test_batch`, `batches.meta`, pickles of Python 2, which
are read as plain data (see plain_pickle.py). A batch is a dict with "data", uint8 [n,3072], and "labels", n numbers.

cifar-10-binary.tar.gz or cifar-10-batches-bin/: the same names with .bin, `batches.meta.txt` with a name a line. A batch is records of 3073
bytes: the label, then the image.

In both, an image is its red, its green and its blue plane, each row by row. Of each training batch every tenth image is for validation
(45,000 and 5,000 of the whole set); `test_batch` is the test set. The batches that are there are used; the names' file may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from vaegan_kernels.data.dataset import every_nth
from vaegan_kernels.data.formats.members import Members, explained, find_place, members_of
from vaegan_kernels.data.formats.plain_pickle import MOST, Refused, read_plain_pickle
from vaegan_kernels.data.formats.records import Listing, Part, check_label_names, names_of_text, read_records
from vaegan_kernels.shell.errors import UserError

FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-python.tar", "cifar-10-binary.tar")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
META, META_TEXT = "batches.meta", "batches.meta.txt"
CLASSES, SIDE = 10, 32
_IMAGE = 3 * SIDE * SIDE
_RECORD = 1 + _IMAGE
_VALIDATION = 10  # of so many training images one is for validation


def _is_batch(name: str) -> bool:
    return name.removesuffix(".bin") in BATCHES


def _wanted(name: str) -> bool:
    return _is_batch(name) or name in (META, META_TEXT)


def _find(path: Path) -> Path | None:
    return find_place(path, FOLDERS, ARCHIVES, _is_batch)


def is_cifar10(path: Path) -> bool:
    """True where ``path`` is or holds CIFAR-10: an official archive, or a folder with batches called as the official ones."""
    return _find(path) is not None


def list_cifar10(path: Path) -> Listing:
    """Read the labels and their names, make no image. UserError says which file is wrong, and how."""
    place = _find(path) or path
    return _list(place, members_of(place, _wanted).stamps)


@lru_cache(maxsize=2)
def _list(place: Path, stamps: object) -> Listing:
    del stamps  # part of the cache's key only
    members = members_of(place, _wanted)
    ending = "" if any(name in members for name in BATCHES) else ".bin"
    names = [name + ending for name in BATCHES if name + ending in members]
    if not names:
        raise UserError(f"{place}: has no batch of CIFAR-10, expected {BATCHES[0]} to {BATCHES[4]} and {BATCHES[5]}, or these with .bin")
    labels: dict[str, np.ndarray] = {}
    with members.opened() as open_member:
        for name in sorted(names, key=list(members.sizes).index):
            with explained(members.where(name)), open_member(name) as stream:
                labels[name] = _binary_labels(stream, name, members) if ending else _python_batch(stream, members.where(name))[1]
    parts = []
    for name in names:
        count = len(labels[name])
        splits = np.full(count, 2, np.uint8) if name.startswith("test") else every_nth(count, _VALIDATION)
        parts.append(Part(name, splits, labels[name], _read_binary if ending else _read_python))
    return Listing("CIFAR-10", members, tuple(parts), _label_names(members, META_TEXT if ending else META))


def _label_names(members: Members, name: str) -> tuple[str, ...]:
    if name not in members:
        return tuple(str(i) for i in range(CLASSES))
    where, content = members.where(name), members.read(name)
    if name == META_TEXT:
        return names_of_text(content, CLASSES, where)
    meta = _unpickled(content, where)
    names = meta.get("label_names")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise UserError(f"{where}: has no list 'label_names' of texts; is it CIFAR-10's?")
    return check_label_names(names, CLASSES, where)


def _checked(labels: np.ndarray, where: str) -> np.ndarray:
    """``labels`` as int16 [n]. UserError unless there is one, and all are classes."""
    if not len(labels):
        raise UserError(f"{where}: holds no image; download it again")
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        raise UserError(f"{where}: image {wrong[0]} has the label {labels[wrong[0]]}, expected 0 to {CLASSES - 1}; is it CIFAR-10's?")
    return labels.astype(np.int16)


def _binary_labels(stream: IO[bytes], name: str, members: Members) -> np.ndarray:
    size, where = members.sizes[name], members.where(name)
    if size % _RECORD:
        raise UserError(f"{where}: is {size} bytes, expected a multiple of {_RECORD}; it is cut off or not CIFAR-10's, download it again")
    pieces = read_records(stream, where, 0, _RECORD, np.arange(size // _RECORD))
    return _checked(np.concatenate([np.empty(0, np.uint8), *(piece[:, 0] for piece in pieces)]), where)


def _unpickled(content: bytes, where: str) -> dict[Any, Any]:
    try:
        value = read_plain_pickle(content)
    except Refused as error:
        raise UserError(f"{where}: {error}; it is not the official file, download it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: holds a {type(value).__name__}, expected a dict; is it CIFAR-10's?")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: one for key, one in value.items()}


def _python_batch(stream: IO[bytes], where: str) -> tuple[np.ndarray, np.ndarray]:
    """The images uint8 [n,3072] and labels int16 [n] of a batch."""
    batch = _unpickled(stream.read(MOST + 1), where)
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _IMAGE:
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else "none"
        raise UserError(f"{where}: 'data' is {found}, expected uint8 [n, {_IMAGE}]; is it CIFAR-10's?")
    if not isinstance(labels, list) or not all(type(one) is int and abs(one) < 2**31 for one in labels):
        raise UserError(f"{where}: has no list 'labels' of numbers; is it CIFAR-10's?")
    if len(labels) != len(data):
        raise UserError(f"{where}: has {len(labels)} labels for {len(data)} images; download it again")
    return data, _checked(np.array(labels, np.int64), where)


def _images(planes: np.ndarray) -> np.ndarray:
    """uint8 [m,3072] as [m,32,32,3]."""
    return planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _read_python(stream: IO[bytes], where: str, chosen: np.ndarray) -> Iterator[np.ndarray]:
    data, _ = _python_batch(stream, where)
    for start in range(0, len(chosen), 1000):
        yield _images(data[chosen[start : start + 1000]])


def _read_binary(stream: IO[bytes], where: str, chosen: np.ndarray) -> Iterator[np.ndarray]:
    for piece in read_records(stream, where, 0, _RECORD, chosen):
        yield _images(np.ascontiguousarray(piece[:, 1:]))
