"""LFW made for tests: people of few pictures, each of one grey level, their lists, and faces with known landmarks.

A face's 68 landmarks are a base shape, a little deformed, under a known rotation, scale and shift.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

PEOPLE = {"Ann_Smith": 3, "Bo_Li": 1, "Cy_van_der_Berg": 2, "Di_O'Hara": 1, "El_Ng": 2}
NAMES = ["Male", "Black Hair", "5 o' Clock Shadow"]
KEYS = [(person, i) for person in sorted(PEOPLE) for i in range(1, PEOPLE[person] + 1)]


def level(person, number):
    return 30 + 40 * sorted(PEOPLE).index(person) + 10 * number


def write_lfw(parent, name="lfw", *, attributes=True, dev=True, sets=False, side=250):
    """A folder with LFW's pictures, each of one grey level in its middle and white outside of it, and its lists."""
    for person, number in KEYS:
        folder = parent / name / person
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((side, side, 3), 255, np.uint8)
        edge = side // 5
        pixels[edge : side - edge, edge : side - edge] = level(person, number)
        Image.fromarray(pixels).save(folder / f"{person}_{number:04d}.jpg", quality=95)
    if attributes:
        rows = [
            f"{person.replace('_', ' ')}\t{number}\t" + "\t".join(f"{v:.6f}" for v in values(person, number)) for person, number in KEYS
        ]
        header = ["# made for a test", "#\t" + "\t".join(["person", "imagenum", *NAMES])]
        (parent / "lfw_attributes.txt").write_text("\n".join([*header, *rows]) + "\n")
    if dev:
        (parent / "peopleDevTrain.txt").write_text("3\nAnn_Smith\t3\nBo_Li\t1\nCy_van_der_Berg\t2\n")
        (parent / "peopleDevTest.txt").write_text("2\nDi_O'Hara\t1\nEl_Ng\t2\n")
    if sets:
        (parent / "people.txt").write_text("3\n3\nAnn_Smith\t3\nBo_Li\t1\nCy_van_der_Berg\t2\n1\nDi_O'Hara\t1\n1\nEl_Ng\t2\n")
    return parent


def values(person, number):
    return [math.sin(level(person, number) + i) for i in range(3)]


def base_shape():
    """complex [68] around 0, of a size that fits the crop: an oval of 40 points, and inner points of no symmetry."""
    rng = np.random.default_rng(10)
    oval = [complex(45 * math.cos(t), 55 * math.sin(t)) for t in np.linspace(0.3, 2.9, 40)]
    return np.array(oval + (rng.uniform(-35, 35, 28) + 1j * rng.uniform(-45, 30, 28)).tolist())


def draw_points(shape, marked, side=250):
    """A picture with a soft dot, sigma 2 pixels, at each of the points ``marked`` of ``shape`` (pixel centres at whole numbers)."""
    y, x = np.mgrid[:side, :side]
    dots = [np.exp(-((x - shape[i].real) ** 2 + (y - shape[i].imag) ** 2) / 8) for i in marked]
    return Image.fromarray((255 * np.clip(sum(dots), 0, 1)).astype(np.uint8)).convert("RGB")


def moved_shapes(count, deformation=0.0):
    rng = np.random.default_rng(11)
    for _ in range(count):
        turn = rng.uniform(0.75, 1.25) * np.exp(1j * rng.uniform(-0.5, 0.5))
        noise = deformation * (rng.normal(size=68) + 1j * rng.normal(size=68))
        yield turn * (base_shape() + noise) + complex(*rng.uniform(105, 145, 2))


def write_landmarks(path, rows, joint=" ", header="", name=lambda p, i: f"{p}_{i:04d}.jpg"):
    lines = [joint.join([name(p, i), *(f"{v:.4f}" for z in shape for v in (z.real, z.imag))]) for (p, i), shape in rows.items()]
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def write_faces(tmp_path, shapes, marked):
    write_lfw(tmp_path, attributes=False)
    for (person, number), shape in zip(KEYS, shapes, strict=True):
        draw_points(shape, marked).save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", quality=98)
    return write_landmarks(tmp_path / "landmarks.txt", dict(zip(KEYS, shapes, strict=True)))
