"""What the tests of packing share: folders with pictures that cannot be read, packed files, and kills without a process."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from vaegan_kernels.data import Dataset, packing, plan, read_packed, write_packed

COUNT = 40


def write_pictures(folder, count=COUNT, broken=()):
    folder.mkdir()
    for i in range(count):
        if i in broken:
            (folder / f"{i:03}.jpg").write_bytes(b"no picture")
        else:
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    return folder


def flush_often(monkeypatch):
    """Four pictures at a time, each time flushed to the disk."""
    monkeypatch.setattr(plan, "CHUNK", 4)
    monkeypatch.setattr(packing, "FLUSH_SECONDS", 0.0)


class Killed(BaseException):
    """In place of SIGKILL: nothing is tidied up behind it."""


def kill_at(patch, moment):
    """Raise `Killed` in the given call of what brings something to the disk, before it or behind it; count the calls."""
    seen = []

    def of(own):
        def there(*arguments):
            seen.append(own)
            if len(seen) == -moment:
                raise Killed
            result = own(*arguments)
            if len(seen) == moment:
                raise Killed
            return result

        return there

    for name in ("fsync", "replace"):
        patch.setattr(os, name, of(getattr(os, name)))
    patch.setattr(packing.Packing, "_leave", lambda self, error: None)
    return seen


def packed(path, names, labels=None, label_names=(), n=5, kind=np.int8, **options):
    images = np.random.default_rng(len(path.name)).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    values = np.where(np.arange(n * len(names)).reshape(n, -1) % 3, 1, -1).astype(kind) if names else None
    splits = np.array([0, 1, 2, 0, 0], np.uint8)
    labels = None if labels is None else np.array(labels, np.int16)
    write_packed(path, Dataset(path.stem, images, splits, values, names, labels=labels, label_names=label_names, **options))
    return read_packed(path)
