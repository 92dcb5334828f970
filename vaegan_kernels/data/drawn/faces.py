"""The built-in data set: `COUNT` faces that the program draws itself, each a pure function of (seed, index).

What is drawn never changes; the bytes are the same wherever Pillow's version is, since versions round a little differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaegan_kernels.data.drawn.face_drawing import draw_face
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES, draw_traits
from vaegan_kernels.data.plan import Plan, in_order

COUNT = 6000
VERSION = 1  # raised with every change that can be seen in a picture or an attribute

Job = tuple[int, int, int, int]  # seed, index, image size, channels


def face_splits(count: int = COUNT) -> np.ndarray:
    """uint8 [count]: of each 20 faces 18 train, one validation, one test."""
    place = np.arange(count) % 20
    return np.where(place == 19, 2, np.where(place == 18, 1, 0)).astype(np.uint8)


def draw_chunk(jobs: Sequence[Job]) -> list[np.ndarray]:
    """Pixels uint8 [S,S,C] of each job."""
    return [draw_face(draw_traits(seed, index), image_size, channels) for seed, index, image_size, channels in jobs]


def plan_faces(*, image_size: int, channels: int, seed: int = 0) -> Plan:
    """What drawing the built-in faces will give."""
    facts = {"source": "built-in faces", "version": VERSION, "seed": seed, "image_size": image_size, "channels": channels}

    def jobs(chosen: np.ndarray) -> list[Job]:
        return [(seed, int(i), image_size, channels) for i in chosen]

    def attributes(rows: np.ndarray) -> np.ndarray:
        return np.array([draw_traits(seed, int(i)).attributes() for i in rows], np.int8).reshape(len(rows), -1)

    shape = (image_size, image_size, channels)
    return Plan(
        "built-in faces", facts, f"faces-{image_size}x{channels}-seed{seed}", None, shape, face_splits(),
        in_order(draw_chunk, jobs, shape), attributes, tuple(ATTRIBUTE_NAMES),
    )  # fmt: skip
