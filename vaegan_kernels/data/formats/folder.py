"""Any folder of pictures, nested or not. What becomes of one picture is said in images.py, which files are pictures in kinds.py.

A folder with train/ and one of val/ and test/ has these splits; any other has a split by a hash of each name (dataset.py). The folders of
this program's own runs are passed over.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaegan_kernels.data.cache_folder import key_of
from vaegan_kernels.data.dataset import PADDED, hashed_splits
from vaegan_kernels.data.images import READ_ERRORS, read_square
from vaegan_kernels.data.kinds import is_junk, picture_kind
from vaegan_kernels.data.parallel import quiet_pillow
from vaegan_kernels.data.plan import Plan, in_order
from vaegan_kernels.shell.errors import UserError

VERSION = 2  # raised with every change of the pixels made from a picture

Entry = tuple[str, int, int]  # path below the folder with "/", bytes, time of change in ns
Job = tuple[str, int, int, str]  # file, image size, channels, fit


#: Folders of a split, in small letters, with the split's code.
SPLIT_FOLDERS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
_OWN = frozenset(("config.json", "metrics.jsonl"))  # both are in a folder of a run, beside its pictures
_CLOSED = "no right to be opened: folders"


class Found(NamedTuple):
    """What lies below a folder: its pictures, sorted by path, and how many files were passed over, by what they are."""

    entries: list[Entry]
    others: dict[str, int]


def walk(folder: Path) -> Found:
    """Everything below ``folder``. Hidden files, systems' own and this program's runs are left out, links are followed once."""
    entries: list[Entry] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    waiting = [(str(folder), "")]  # no recursion: a tree can be deeper than Python's stack
    while waiting:
        path, below = waiting.pop()
        try:
            facts = os.stat(path)
            items = list(os.scandir(path))
        except OSError:
            others[_CLOSED] += 1
            continue
        if (facts.st_dev, facts.st_ino) in seen or {item.name for item in items} >= _OWN:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        for item in items:
            if is_junk(item.name):
                continue
            try:
                if item.is_dir():
                    waiting.append((item.path, f"{below}{item.name}/"))
                elif stat.S_ISREG((facts := item.stat()).st_mode):
                    if (kind := picture_kind(item.path)) is None:
                        entries.append((below + item.name, facts.st_size, facts.st_mtime_ns))
                    elif kind:
                        others[kind] += 1
            except OSError:
                continue
    entries.sort()
    return Found(entries, dict(sorted(others.items())))


def told(others: dict[str, int]) -> str:
    """What was passed over, in words: "3 with the ending .heic (pip install pillow-heif)"; "" for nothing."""
    return "; ".join(f"{count} with {what}" for what, count in others.items())


def list_images(folder: Path) -> list[Entry]:
    """The pictures below ``folder``, sorted by path: those of `walk`."""
    return walk(folder).entries


def splits_of(names: list[str]) -> np.ndarray:
    """uint8 [n]: the splits of pictures called so. By the folders train/, val/ and test/ where the first is there and one of the others;
    what lies beside them is for training, and without val/ so are about 95 % of train/, the others validation, by a hash of each name."""
    tops = [SPLIT_FOLDERS.get(name.split("/", 1)[0].lower(), -1) if "/" in name else -1 for name in names]
    if 0 not in tops or not {1, 2} & set(tops):
        return hashed_splits(names)
    splits = np.array([max(top, 0) for top in tops], np.uint8)
    if 1 not in tops:
        train = np.flatnonzero(splits == 0)
        splits[train[hashed_splits([names[i] for i in train]) == 1]] = 1
    return splits


def decode_chunk(jobs: Sequence[Job]) -> list[np.ndarray | None]:
    """uint8 [S,S,C] of each job, None where it cannot be read."""
    return [_decode(*job) for job in jobs]


def _decode(path: str, image_size: int, channels: int, fit: str = "crop") -> np.ndarray | None:
    try:
        with open(path, "rb") as stream:
            return read_square(stream, image_size, channels, fit)
    except READ_ERRORS:
        return None


def check_folder(folder: Path) -> None:
    """Raise UserError unless ``folder`` holds a picture that can be read; reads pictures until one can."""
    entries, others = walk(folder)
    if not entries:
        raise UserError(
            f"{folder}: no image in this folder that can be read; " + (told(others) or "expected JPEG, PNG or others in it or below")
        )
    with quiet_pillow():
        if not any(_decode(str(folder / name), 8, 3) is not None for name, _, _ in entries):
            raise UserError(_unreadable(folder, len(entries)))


def _unreadable(folder: Path, count: int) -> str:
    return f"{folder}: none of the {count} image files can be read; check that they are whole pictures"


def plan_folder(folder: Path, *, image_size: int, channels: int, fit: str = "crop") -> Plan:
    """What decoding a folder of pictures will give."""
    entries, others = walk(folder)
    if not entries:
        check_folder(folder)
    facts = {
        "source": "image folder", "version": VERSION, "image_size": image_size, "channels": channels,
        "crop": "centred square" if fit == "crop" else PADDED, "resize": "lanczos", "left_out": others,
    }  # fmt: skip
    names = [name for name, _, _ in entries]

    def jobs(chosen: np.ndarray) -> list[Job]:
        return [(str(folder / names[i]), image_size, channels, fit) for i in chosen]

    shape = (image_size, image_size, channels)
    return Plan(
        folder.name or "images", facts, f"decoded-{key_of(os.path.realpath(folder))}-{image_size}x{channels}", entries,
        shape, splits_of(names), in_order(decode_chunk, jobs, shape), unreadable=lambda n: _unreadable(folder, n),
        kept_splits=lambda rows: splits_of([names[i] for i in rows]),
    )  # fmt: skip
