"""Any folder of pictures, nested or not. What becomes of one picture is said in images.py, how a split is made in dataset.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vaegan_kernels.data.cache import CacheDir, cached, key_of
from vaegan_kernels.data.dataset import Dataset, Progress, hashed_splits, limited
from vaegan_kernels.data.images import EXTENSIONS, READ_ERRORS, read_square
from vaegan_kernels.data.parallel import map_chunks, quiet_pillow
from vaegan_kernels.shell.errors import UserError

VERSION = 1  # raised with every change of the pixels made from a picture

Entry = tuple[str, int, int]  # path below the folder with "/", bytes, time of change in ns
Job = tuple[str, int, int]  # file, image size, channels


def list_images(folder: Path) -> list[Entry]:
    """The pictures below ``folder`` by their extensions, sorted by path. Hidden files and folders are left out, links are followed once."""
    entries: list[Entry] = []
    seen: set[tuple[int, int]] = set()

    def walk(path: str, below: str) -> None:
        try:
            facts = os.stat(path)
            items = sorted(os.scandir(path), key=lambda item: item.name)
        except OSError:
            return
        if (facts.st_dev, facts.st_ino) in seen:
            return
        seen.add((facts.st_dev, facts.st_ino))
        for item in items:
            if item.name.startswith("."):
                continue
            try:
                if item.is_dir():
                    walk(item.path, f"{below}{item.name}/")
                elif os.path.splitext(item.name)[1].lower() in EXTENSIONS and stat.S_ISREG((facts := item.stat()).st_mode):
                    entries.append((below + item.name, facts.st_size, facts.st_mtime_ns))
            except OSError:
                continue

    walk(str(folder), "")
    entries.sort()
    return entries


def decode_chunk(jobs: Sequence[Job]) -> list[np.ndarray | None]:
    """uint8 [S,S,C] of each job, None where it cannot be read."""
    return [_decode(*job) for job in jobs]


def _decode(path: str, image_size: int, channels: int) -> np.ndarray | None:
    try:
        with open(path, "rb") as stream:
            return read_square(stream, image_size, channels)
    except READ_ERRORS:
        return None


def check_folder(folder: Path) -> None:
    """Raise UserError unless ``folder`` holds a picture that can be read; reads pictures until one can."""
    entries = list_images(folder)
    if not entries:
        raise UserError(f"{folder}: no image in this folder, expected files ending in {', '.join(sorted(EXTENSIONS))} in it or below")
    with quiet_pillow():
        if not any(_decode(str(folder / name), 8, 3) is not None for name, _, _ in entries):
            raise UserError(_unreadable(folder, len(entries)))


def _unreadable(folder: Path, count: int) -> str:
    return f"{folder}: none of the {count} image files can be read; check that they are whole pictures"


def load_folder(
    folder: Path, *, image_size: int, channels: int, limit: int | None = None, cache_dir: CacheDir = None,
    progress: Progress | None = None, workers: int | None = None,
) -> Dataset:  # fmt: skip
    """Decode a folder of pictures, or read it from the cache if nothing in the folder has changed."""
    entries = list_images(folder)
    if not entries:
        check_folder(folder)
    facts = {
        "source": "image folder",
        "version": VERSION,
        "image_size": image_size,
        "channels": channels,
        "crop": "centred square",
        "resize": "lanczos",
    }

    def make() -> Dataset:
        names = [name for name, _, _ in entries]
        splits = hashed_splits(names)
        chosen = limited(splits, limit)
        jobs = [(str(folder / names[i]), image_size, channels) for i in chosen]
        images, kept = collect(map_chunks(decode_chunk, jobs, workers=workers, progress=progress), len(jobs), image_size, channels)
        if not len(kept):
            raise UserError(_unreadable(folder, len(jobs)))
        splits = hashed_splits([names[i] for i in chosen[kept]])
        return Dataset(folder.name or "images", images, splits, None, (), facts, skipped=len(jobs) - len(kept))

    return cached(cache_dir, f"decoded-{key_of(os.path.realpath(folder))}-{image_size}x{channels}", key_of([facts, entries, limit]), make)


def collect(chunks: Iterable[Sequence[np.ndarray | None]], count: int, image_size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [m,S,S,C] of the results that are not None, and their indices int64 [m] among all ``count``."""
    images = np.empty((count, image_size, image_size, channels), np.uint8)
    kept: list[int] = []
    place = 0
    for chunk in chunks:
        for pixels in chunk:
            if pixels is not None:
                images[len(kept)] = pixels
                kept.append(place)
            place += 1
    return images[: len(kept)], np.array(kept, dtype=np.int64)
