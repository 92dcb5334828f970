"""68 landmarks of each face, and the similarity transforms that bring faces to their mean shape.

The file is text, a line a picture: the picture's name, then 136 numbers x1 y1 ... x68 y68 in the picture's pixels, counted from 0 at the
centre of the first pixel, as landmark detectors give them. Spaces, tabs or commas separate; a first line of headings is allowed. Of a name
only the last part without its ending counts: lfw/Ann_Smith/Ann_Smith_0001.jpg and Ann_Smith_0001 are the same picture.

A shape is 68 points as complex numbers x + iy, in which rotating and scaling is a product: no fit can mirror a face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaegan_kernels.shell.errors import UserError

POINTS = 68
_FARTHEST = 10_000.0  # pixels
_LONGEST_LINE = 1 << 16  # characters


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """{picture's name without folder and ending: complex128 [68], from the corner of the corner pixel}.

    Raises:
        UserError: no such file, no text, or a line that is wrong; the message names it.
    """
    shapes: dict[str, np.ndarray] = {}
    try:
        with open(path, encoding="utf-8-sig") as stream:
            number = 0
            while line := stream.readline(_LONGEST_LINE):
                number += 1
                words = line.replace(",", " ").split()
                if not words or words[0].startswith("#"):
                    continue
                try:
                    values = np.array([float(word) for word in words[1:]])
                except ValueError:
                    if number == 1:
                        continue  # headings
                    raise UserError(f"{path}, line {number} ({words[0][:60]}): has something else than numbers after the name") from None
                name = words[0].replace("\\", "/").rsplit("/", 1)[-1]
                stem = name.rsplit(".", 1)[0]
                if stem in shapes:
                    raise UserError(f"{path}, line {number}: {name[:60]} is listed twice, expected a line a picture")
                shapes[stem] = _shape(values, f"{path}, line {number} ({name[:60]})")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no text file" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{path}: {reason}, expected a picture's name and {2 * POINTS} numbers in each line") from error
    if not shapes:
        raise UserError(f"{path}: is empty, expected a picture's name and {2 * POINTS} numbers in each line")
    return shapes


def _shape(values: np.ndarray, where: str) -> np.ndarray:
    if len(values) != 2 * POINTS:
        raise UserError(f"{where}: got {len(values)} numbers, expected {2 * POINTS}: x and y of {POINTS} landmarks")
    if not (np.abs(values) <= _FARTHEST).all():  # NaN is refused too
        raise UserError(f"{where}: has a landmark that is no place in a picture, expected pixels")
    shape = values[0::2] + 1j * values[1::2] + (0.5 + 0.5j)
    if np.abs(shape - shape.mean()).max() < 1:
        raise UserError(f"{where}: all landmarks are in one place, expected those of a face")
    return shape


def mean_shape(shapes: np.ndarray) -> np.ndarray:
    """complex128 [68]: the mean of ``shapes`` [n,68], in the pictures' pixels.

    The full Procrustes mean: the shapes are moved to the origin, scaled to size 1 and rotated so that they fit their mean best, which makes
    it the first eigenvector of sum z z^H (Kent, The complex Bingham distribution and shape analysis, 1994). Its place, size and direction
    are the shapes' means.
    """
    centres = shapes.mean(axis=1, keepdims=True)
    sizes = np.sqrt((np.abs(shapes - centres) ** 2).sum(axis=1, keepdims=True))
    units = (shapes - centres) / sizes
    first = np.linalg.eigh(units.T @ units.conj())[1][:, -1]
    turn = np.vdot(first, units.mean(axis=0))
    return np.asarray(centres.mean() + sizes.mean() * first * (turn / abs(turn) if abs(turn) > 0 else 1))


def similarity(shape: np.ndarray, target: np.ndarray) -> tuple[complex, complex, float]:
    """a, b of the map z -> a z + b that brings ``shape`` [68] to ``target`` [68] with the least sum of squares, and how well it fits.

    It is Umeyama's (1991) without reflection. The fit is a correlation: 1 where both are the same shape, near 0 where a is meaningless.
    """
    from_centre, to_centre = shape - shape.mean(), target - target.mean()
    product, power = np.vdot(from_centre, to_centre), np.vdot(from_centre, from_centre).real
    a = complex(product / power)
    return a, complex(target.mean() - a * shape.mean()), float(abs(product) / np.sqrt(power * np.vdot(to_centre, to_centre).real))
