"""The page of a condition in the stability experiment: a row for each seed with its samples, and beside it verdict and numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegan_kernels.experiments.tables import numbers_of
from vaegan_kernels.files import save_image
from vaegan_kernels.pictures import figures

SHOWN = 10  # samples in a row
CELL = 80
ROW_GAP = 12  # so that the words of two rows stay apart
TEXT = 190  # pixels of the column of words
LINES = 4  # of words, as many as a row is high
GOOD, BAD = (28, 120, 62), (178, 44, 36)
EMPTY = (228, 228, 226)

Row = tuple[int, "np.ndarray | None", Mapping[str, Any]]  # seed, samples or None, result


def draw_page(out: Path, condition: str, rows: Sequence[Row], size: int) -> None:
    """Write the page. ``size``: pixels a side of a sample."""
    good = sum(bool(result["diverse_faces"]) for _, _, result in rows)
    title = f"{condition}: diverse faces in {good} of {len(rows)} runs"
    save_image(out, page(title, [(f"seed {seed}", images, lines_of(result)) for seed, images, result in rows], size))


def lines_of(result: Mapping[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    """What stands beside a run's samples, each line with its colour: the verdict first."""
    if "failed" in result:
        words = textwrap.wrap(result["failed"], 32)[:2]
        return [("failed", BAD), *[(text, figures.FAINT) for text in words]]
    good = bool(result["diverse_faces"])
    lines = [("diverse faces" if good else "not diverse faces", GOOD if good else BAD)]
    measures = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in numbers_of(result.get("measures", {})).items()]
    losses = result.get("losses", {})
    gan = [f"GAN loss {losses['gan_real']:.2f} / {losses['gan_generated']:.2f}"] if {"gan_real", "gan_generated"} <= losses.keys() else []
    rates = [result.get(f"{network}_update_rate") for network in ("dec", "dis")]
    updated = [f"updated: Dec {rates[0]:.0%}, Dis {rates[1]:.0%}"] if None not in rates else []
    texts = textwrap.wrap(", ".join(measures), 34) + gan + updated
    return lines + [(text, figures.FAINT) for text in texts[: LINES - 1]]


def page(title: str, rows: Sequence[tuple[str, Any, Sequence[tuple[str, tuple[int, int, int]]]]], size: int) -> Image.Image:
    """Rows of (label, images or None, lines): the label left, ``SHOWN`` images, the lines at their right."""
    small, large = ImageFont.load_default(size=12), ImageFont.load_default(size=15)
    scale = max(1, round(CELL / size))
    cell, gap, margin = size * scale, figures.GAP, figures.MARGIN
    left = margin + max(int(small.getlength(label)) for label, _, _ in rows) + 10
    right = left + SHOWN * (cell + gap) + 10
    top = margin + figures.HEADER - 8
    picture = Image.new("RGB", (right + TEXT + margin, top + len(rows) * (cell + ROW_GAP) - ROW_GAP + margin), figures.BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((left, margin - 2), title, fill=figures.INK, font=large)
    for row, (label, images, lines) in enumerate(rows):
        y = top + row * (cell + ROW_GAP)
        draw.text((left - 10 - small.getlength(label), y + cell / 2 - 8), label, fill=figures.FAINT, font=small)
        for column in range(SHOWN):
            x = left + column * (cell + gap)
            if images is None or column >= len(images):
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=EMPTY)
                continue
            image = figures.to_uint8(np.asarray(images[column : column + 1]))[0]
            picture.paste(Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)), (x, y))
        height = 16 * len(lines)
        for index, (text, colour) in enumerate(lines):
            draw.text((right, y + (cell - height) / 2 + 16 * index), text, fill=colour, font=small)
    return picture
