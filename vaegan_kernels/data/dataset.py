"""The data set, and the rules that every source shares: splits, limits, sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaegan_kernels.shell.errors import UserError

SPLITS = ("train", "validation", "test")  # codes 0, 1, 2, as in CelebA's list_eval_partition.txt
FITS = ("crop", "pad")  # what becomes of a picture that is no square
PADDED = "none, padded with white"  # what ``preprocessing["crop"]`` says of the second
ATTRIBUTE_TYPES = (np.dtype(np.int8), np.dtype(np.float32))
BLOCK = 1 << 24  # bytes of images that are looked at together where all may be too many
Progress = Callable[[int, int], None]  # (done, total)


@dataclass
class Dataset:
    """Images with their splits, attributes and labels. n images of S x S pixels, C channels, A attributes."""

    name: str
    images: np.ndarray  # uint8 [n,S,S,C]; of a packed file its own pages, read when they are looked at: never to be copied whole
    splits: np.ndarray  # uint8 [n], an index into SPLITS
    attributes: np.ndarray | None = None  # [n,A]: int8, +1 or -1, or float32, real-valued
    attribute_names: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)  # JSON-able: how the pixels were made
    skipped: int = 0  # images of the source that could not be read
    fingerprint: str = ""  # SHA-256 over images, splits, attributes, labels and names; made here when not given
    labels: np.ndarray | None = None  # int16 [n]: the class, from 0 on, or -1 where an image is unlabelled
    label_names: tuple[str, ...] = ()  # of the classes, in order; none where they have no names

    def __post_init__(self) -> None:
        self.attribute_names = tuple(self.attribute_names)
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[1] != self.images.shape[2]:
            raise ValueError(f"images: got {self.images.dtype} {list(self.images.shape)}, expected uint8 [n,S,S,C]")
        if self.splits.dtype != np.uint8 or self.splits.shape != (n,) or (n and self.splits.max() > 2):
            raise ValueError(f"splits: got {self.splits.dtype} {list(self.splits.shape)}, expected uint8 [{n}] of 0, 1, 2")
        expected = (n, len(self.attribute_names))
        a = self.attributes
        if a is not None and (a.dtype not in ATTRIBUTE_TYPES or a.shape != expected):
            raise ValueError(f"attributes: got {a.dtype} {list(a.shape)}, expected int8 or float32 {list(expected)}")
        if a is not None and not np.isfinite(a).all():
            raise ValueError("attributes: some values are not finite")
        self.label_names = tuple(self.label_names)
        if (labels := self.labels) is None:
            if self.label_names:
                raise ValueError(f"label_names: got {len(self.label_names)} names, expected none without labels")
        elif labels.dtype != np.int16 or labels.shape != (n,):
            raise ValueError(f"labels: got {labels.dtype} {list(labels.shape)}, expected int16 [{n}]")
        elif n and not -1 <= labels.min() <= labels.max() < (len(self.label_names) or 2**15):
            last = f"{len(self.label_names) - 1}, the last of label_names" if self.label_names else "any class"
            raise ValueError(f"labels: got {labels.min()} to {labels.max()}, expected -1 to {last}")
        if not self.fingerprint:
            self.fingerprint = self.compute_fingerprint()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def left_out(self) -> dict[str, int]:
        """How many images of the source were left out on purpose, by the reason: what they have, or lack."""
        found = self.preprocessing.get("left_out")
        return found if isinstance(found, dict) else {}

    @property
    def cut(self) -> int:
        """How many images lack the last bytes of their files, and were read all the same."""
        found = self.preprocessing.get("cut")
        return found if isinstance(found, int) else 0

    @property
    def passed_over(self) -> str:
        """What of the source is not here, or not whole, in words; "" where it is all here."""
        parts = [f"{self.skipped} unreadable skipped"] if self.skipped else []
        parts += [f"{self.cut} that lack their last bytes read"] if self.cut else []
        return ", ".join(parts + [f"{count} with {why} left out" for why, count in self.left_out.items()])

    @property
    def fit(self) -> str:
        """One of `FITS`."""
        return FITS[self.preprocessing.get("crop") == PADDED]

    def split(self, name: str) -> np.ndarray:
        """int64 indices of the images of split ``name``, ascending. ValueError for an unknown name."""
        if name not in SPLITS:
            raise ValueError(f"split: got {name!r}, expected one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.splits == SPLITS.index(name))

    def labelled(self, split: str) -> np.ndarray:
        """int64 indices of the images of ``split`` that have a label, ascending; none without labels. ValueError for an unknown name."""
        indices = self.split(split)
        return indices[:0] if self.labels is None else indices[self.labels[indices] >= 0]

    def attributes_of(self, names: Sequence[str]) -> np.ndarray:
        """float32 [n, len(names)]: the attributes called ``names``, in that order. ValueError for one that the data does not have."""
        columns = []
        for name in names:
            if self.attributes is None or name not in self.attribute_names:
                raise ValueError(f"attribute: got {name!r}, expected one of {', '.join(self.attribute_names) or 'none: there are none'}")
            columns.append(self.attributes[:, self.attribute_names.index(name)])
        return np.stack(columns, axis=1).astype(np.float32) if columns else np.empty((len(self), 0), np.float32)

    def compute_fingerprint(self, progress: Progress = lambda done, total: None) -> str:
        """SHA-256, in hexadecimal, over shapes, images, splits, attributes, attribute names and, if any, labels and their names.

        The images are read a block at a time: there may be more of them than memory. ``progress``: called with the images done, and all.
        """
        digest = hashlib.sha256()
        for array in (self.images, self.splits, self.attributes):
            if array is not None:
                digest.update(f"{array.dtype.str}{array.shape};".encode())
                for block in blocks(array):
                    digest.update(np.ascontiguousarray(array[block]).data)
                    if array is self.images:
                        progress(block.stop, len(self))
        digest.update("\n".join(self.attribute_names).encode())
        if self.labels is not None:  # after all else: data without labels keeps the fingerprint that it had before there were labels
            digest.update(f"\nlabels{self.labels.shape};".encode())
            digest.update(np.ascontiguousarray(self.labels, "<i2").data)
            digest.update("\n".join(self.label_names).encode())
        return digest.hexdigest()

    def take(self, indices: np.ndarray) -> Dataset:
        """A data set of the images at ``indices`` (int64), in that order."""
        attributes = None if self.attributes is None else self.attributes[indices]
        return Dataset(
            self.name, self.images[indices], self.splits[indices], attributes, self.attribute_names, dict(self.preprocessing), self.skipped,
            labels=None if self.labels is None else self.labels[indices], label_names=self.label_names,
        )  # fmt: skip


def blocks(array: np.ndarray, size: int = BLOCK) -> list[slice]:
    """The rows of ``array`` in pieces of about ``size`` bytes."""
    step = max(1, size // max(1, array[:1].nbytes))
    return [slice(start, min(start + step, len(array))) for start in range(0, len(array), step)]


def check_shape(image_size: int, channels: int, limit: int | None = None) -> None:
    """Raise UserError unless the numbers make sense."""
    if not 8 <= image_size <= 1024:
        raise UserError(f"image size: got {image_size}, expected 8 to 1024 pixels")
    if channels not in (1, 3):
        raise UserError(f"channels: got {channels}, expected 1 (grey) or 3 (colour)")
    if limit is not None and limit < 1:
        raise UserError(f"limit: got {limit}, expected at least 1 image")


def hashed_splits(names: list[str]) -> np.ndarray:
    """uint8 [n] splits from a hash of each name: about 90 / 5 / 5 % train, validation, test.

    A name keeps its split whatever other names there are. With 3 names or more each split has at least one: where one is empty, the
    name whose hash lies nearest to it moves there.
    """
    marks = np.array(
        [int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7], "big") / 2.0**56 for name in names]
    )
    splits = np.where(marks < 0.05, 2, np.where(marks < 0.10, 1, 0)).astype(np.uint8)
    if len(names) >= 3:
        order = np.argsort(marks, kind="stable")
        if not (splits == 2).any():
            splits[order[0]] = 2
        if not (splits == 0).any():
            splits[order[-1]] = 0
        if not (splits == 1).any():
            tests = order[splits[order] == 2]
            splits[tests[-1] if len(tests) > 1 else order[splits[order] == 0][0]] = 1
    return splits


def every_nth(count: int, nth: int) -> np.ndarray:
    """uint8 [count] splits of a training file that has no official validation images: of each ``nth`` images the last is one."""
    return (np.arange(count) % nth == nth - 1).astype(np.uint8)


def limited(splits: np.ndarray, limit: int | None) -> np.ndarray:
    """int64 indices of at most ``limit`` images, evenly spaced within each split; splits in proportion, none emptied if possible."""
    n = len(splits)
    if limit is None or limit >= n:
        return np.arange(n)
    groups = [members for code in range(3) if len(members := np.flatnonzero(splits == code))]
    shares = np.array([len(members) * limit / n for members in groups])
    quotas = np.floor(shares).astype(np.int64)
    if limit >= len(groups):
        quotas = np.maximum(quotas, 1)
    while quotas.sum() < limit:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > limit:
        quotas[np.argmax(np.where(quotas > (limit >= len(groups)), quotas - shares, -np.inf))] -= 1
    chosen = [members[np.arange(quota) * len(members) // max(quota, 1)] for members, quota in zip(groups, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))
