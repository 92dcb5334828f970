"""The sheet that a built-in face is drawn on: a picture with a pen that measures in units, and soft patches of colour.

A sheet is 120 units wide, of which the middle 100 are seen, so that a turned or shifted head still has a background around it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from vaegan_kernels.data.drawn.face_traits import Color, blend

MARGIN = 10.0
WIDTH = 100.0 + 2 * MARGIN
POINTS = 40
TURN = [(math.cos(2 * math.pi * i / POINTS), math.sin(2 * math.pi * i / POINTS)) for i in range(POINTS)]
BLACK = (12, 10, 14)

Point = tuple[float, float]


_RADIUS = np.hypot(*(np.mgrid[0:96, 0:96] * (2.0 / 95) - 1.0))  # 1 at the rim of the inscribed circle


@lru_cache(maxsize=64)
def _round_mask(strength: float) -> Image.Image:
    """A mask of 255 * strength in the middle, falling softly to 0 at the rim."""
    return Image.fromarray((255 * strength * np.clip(1.0 - _RADIUS * _RADIUS, 0.0, 1.0)).astype(np.uint8))


@lru_cache(maxsize=1)
def rim_mask() -> Image.Image:
    """A mask of 0 in the middle, 255 at and beyond the rim: the shade that makes a head round."""
    return Image.fromarray((255 * np.clip((_RADIUS - 0.55) / 0.55, 0.0, 1.0) ** 1.5).astype(np.uint8))


class Sheet:
    """A picture with a drawing pen that measures in units."""

    def __init__(self, pixels_per_unit: float, backdrop: tuple[Color, Color, Color, Color]) -> None:
        self.k = pixels_per_unit
        self.size = round(WIDTH * self.k)
        corners = Image.new("RGB", (2, 2))
        corners.putdata(backdrop)
        self.image = corners.resize((self.size, self.size), Image.Resampling.BICUBIC)
        self.pen = ImageDraw.Draw(self.image)

    def at(self, points: list[Point]) -> list[Point]:
        k = self.k
        return [((x + MARGIN) * k, (y + MARGIN) * k) for x, y in points]

    def polygon(self, points: list[Point], color: Color) -> None:
        self.pen.polygon(self.at(points), fill=color)

    def line(self, points: list[Point], color: Color, width: float) -> None:
        self.pen.line(self.at(points), fill=color, width=max(1, round(width * self.k)), joint="curve")

    def box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        k = self.k
        return ((x - rx + MARGIN) * k, (y - ry + MARGIN) * k, (x + rx + MARGIN) * k, (y + ry + MARGIN) * k)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        self.pen.ellipse(self.box(x, y, rx, ry), fill=color)

    def mask(self, points: list[Point]) -> Image.Image:
        mask = Image.new("L", (self.size, self.size))
        ImageDraw.Draw(mask).polygon(self.at(points), fill=255)
        return mask

    def glow(self, x: float, y: float, rx: float, ry: float, color: Color, strength: float, inside: Image.Image | None = None) -> None:
        """A soft round patch of ``color``, seen only ``inside`` a mask of the sheet's size."""
        left, top, right, bottom = (round(v) for v in self.box(x, y, rx, ry))
        mask = _round_mask(strength).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.NEAREST)
        if inside is not None:
            mask = ImageChops.multiply(mask, inside.crop((left, top, left + mask.width, top + mask.height)))
        self.image.paste(color, (left, top, left + mask.width, top + mask.height), mask)


def shade(color: Color, factor: float) -> Color:
    """Darker below 1, towards white above."""
    return blend((0, 0, 0), color, factor) if factor <= 1 else blend(color, (255, 255, 255), factor - 1)
