"""How much a batch's images are varied, for every engine: the strengths, and the random numbers that are used."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels import philox


class Augmentation(NamedTuple):
    """Strengths of `augment_batch`: standard deviations; 0 leaves a part out.

    Attributes:
        translation: of the shift along each axis, in shares of the image's side.
        scale: of the factor N(1, scale). rotation: in radians.
        gamma: σ of the exponent exp(N(σ², σ) / ln 2) of every channel.
        contrast: σ of the same exponent of saturation and value (HSV). hue: in turns of the colour circle.
    """

    translation: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    hue: float = 0.0


#: The authors' strengths on CelebA (their translation is 2 pixels of a crop of 148).
AUTHORS = Augmentation(2 / 148, 0.01, 0.01, 0.05, 0.05, 0.01)
DRAWS = 8  # normal draws an image: shifts along columns and rows, scale, rotation, gamma, contrast, hue, and one that is not used


def exponent(sigma: float, draw: np.ndarray) -> np.ndarray:
    """exp((σ² + σ · draw) / ln 2)."""
    return np.exp((sigma * sigma + sigma * draw) / math.log(2))


def check_strengths(strengths: Augmentation) -> None:
    """Raise `ValueError` for a strength that is negative or not finite, or a scale that could turn an image inside out."""
    for name, value in strengths._asdict().items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: got {value}, expected a finite number of at least 0")
    if strengths.scale > 0.15:  # Box-Muller's draws from 32 bits reach 6.66
        raise ValueError(f"scale: got {strengths.scale}, expected at most 0.15")


def draws(n: int, *, seed: int, step: int, first: int = 0) -> np.ndarray:
    """float64 [n, DRAWS], N(0, 1): the numbers of n images of a step's batch, from its image ``first`` on."""
    return philox.normal((n, DRAWS), seed=seed, step=step, stream=philox.STREAM_AUGMENT, start=first * DRAWS)
