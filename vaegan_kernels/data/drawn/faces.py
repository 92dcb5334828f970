"""The built-in data set: `COUNT` faces that the program draws itself, each a pure function of (seed, index).

What is drawn never changes; the bytes are the same wherever Pillow's version is, since versions round a little differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaegan_kernels.data.cache import cached
from vaegan_kernels.data.cache_folder import CacheDir, key_of
from vaegan_kernels.data.dataset import Dataset, Progress, limited
from vaegan_kernels.data.drawn.face_drawing import draw_face
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES, draw_traits
from vaegan_kernels.data.parallel import map_chunks

COUNT = 6000
VERSION = 1  # raised with every change that can be seen in a picture or an attribute

Job = tuple[int, int, int, int]  # seed, index, image size, channels


def face_splits(count: int = COUNT) -> np.ndarray:
    """uint8 [count]: of each 20 faces 18 train, one validation, one test."""
    place = np.arange(count) % 20
    return np.where(place == 19, 2, np.where(place == 18, 1, 0)).astype(np.uint8)


def draw_chunk(jobs: Sequence[Job]) -> list[tuple[np.ndarray, list[int]]]:
    """Pixels uint8 [S,S,C] and attributes of each job."""
    drawn = []
    for seed, index, image_size, channels in jobs:
        face = draw_traits(seed, index)
        drawn.append((draw_face(face, image_size, channels), face.attributes()))
    return drawn


def load_faces(
    *, image_size: int, channels: int, seed: int = 0, limit: int | None = None, cache_dir: CacheDir = None,
    progress: Progress | None = None, workers: int | None = None,
) -> Dataset:  # fmt: skip
    """The built-in faces, drawn or read from the cache; ``limit`` of them are drawn and not cached."""
    facts = {"source": "built-in faces", "version": VERSION, "seed": seed, "image_size": image_size, "channels": channels}

    def make() -> Dataset:
        splits = face_splits()
        chosen = limited(splits, limit)
        images = np.empty((len(chosen), image_size, image_size, channels), np.uint8)
        attributes = np.empty((len(chosen), len(ATTRIBUTE_NAMES)), np.int8)
        done = 0
        for chunk in map_chunks(draw_chunk, [(seed, int(i), image_size, channels) for i in chosen], workers=workers, progress=progress):
            for pixels, values in chunk:
                images[done], attributes[done] = pixels, values
                done += 1
        return Dataset("built-in faces", images, splits[chosen], attributes, ATTRIBUTE_NAMES, facts)

    if limit is not None and limit < COUNT:
        return make()
    return cached(cache_dir, f"faces-{image_size}x{channels}-seed{seed}", key_of(facts), make)
