"""A grid of images with names above its columns and texts beside its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegan_kernels.pictures.chart import printable
from vaegan_kernels.pictures.figures import BACKGROUND, FAINT, GAP, INK, MARGIN, to_uint8

LABEL, TITLE, LINE = 12, 15, 15  # sizes of the letters, height of a line of labels


def enlarge(image: np.ndarray, cell: int) -> Image.Image:
    """uint8 [S, S, 3] enlarged by the whole factor that brings it nearest to ``cell`` pixels, unsmoothed."""
    scale = factor(len(image), cell)
    return Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1))


def factor(size: int, cell: int) -> int:
    """The whole factor, at least 1, that enlarges ``size`` to about ``cell``."""
    return max(1, int(cell / size + 0.5))


def wrap(text: str, width: float, size: int = LABEL) -> list[str]:
    """``text`` in lines of at most ``width`` pixels, broken at spaces; a word that is wider has a line of its own."""
    font = ImageFont.load_default(size=size)
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(lines: list[str], most: int) -> list[str]:
    """At most ``most`` of the lines, at least one, and dots where some are left out."""
    most = max(1, most)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"]


def widest(texts: Sequence[str], size: int = LABEL) -> int:
    """Pixels of the widest word of ``texts``."""
    font = ImageFont.load_default(size=size)
    return max((int(font.getlength(word) + 1) for text in texts for word in text.split()), default=0)


def labelled_grid(
    images: np.ndarray, columns: Sequence[str], rows: Sequence[str] = (), *, title: str = "", note: str = "",
    cell: int = 96, beside: int = 0, gaps: Sequence[int] = (), heads: Sequence[tuple[int, int, str]] = (),
) -> Image.Image:  # fmt: skip
    """Images in rows, under a title.

    Args:
        images: [rows * columns, S, S, C], uint8 or float in [-1, 1].
        columns: a name above each column, broken into lines where it is wider than an image.
        rows: a text beside each row, at its left, broken into lines; what does not fit beside an image is cut off.
        cell: images are enlarged by a whole factor to about so many pixels.
        beside: pixels of the texts beside the rows (0: as wide as the widest).
        gaps: columns before which there is more room.
        heads: (first, last, text): a text above these columns, over their names.
    """
    pixels, title, note = to_uint8(images), printable(title), printable(note)
    columns, rows = [printable(text) for text in columns], [printable(text) for text in rows]
    size = pixels.shape[1] * factor(pixels.shape[1], cell)
    small, large = ImageFont.load_default(size=LABEL), ImageFont.load_default(size=TITLE)
    step = max(size, widest(columns)) + GAP
    beside = beside or (int(max(small.getlength(text) for text in rows)) + 1 if rows else 0)
    left = MARGIN + (beside + 10 if rows else 0)
    x_of = [left + column * step + 12 * sum(column >= gap for gap in gaps) for column in range(len(columns))]
    broken = [wrap(name, step - GAP) for name in columns]
    above = max(len(lines) for lines in broken) * LINE
    top = MARGIN + (26 if title else 0) + (22 if heads else 0) + (above + 4 if above else 0)
    count = len(pixels) // len(columns)
    width = x_of[-1] + step - GAP + MARGIN
    under = title and note and left + large.getlength(title) + 20 + small.getlength(note) > width - MARGIN
    top += 18 if under else 0
    width = max(width, int(MARGIN + max(large.getlength(title), small.getlength(note)) + MARGIN))
    picture = Image.new("RGB", (width, top + count * (size + GAP) - GAP + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((MARGIN, MARGIN - 2), title, fill=INK, font=large)
        draw.text((MARGIN, MARGIN + 20) if under else (width - MARGIN - small.getlength(note), MARGIN + 1), note, fill=FAINT, font=small)
    for first, last, text in heads:
        y = top - above - 24
        middle = (x_of[first] + x_of[last] + step - GAP) / 2
        draw.text((middle - small.getlength(text) / 2, y), text, fill=INK, font=small)
        draw.line((x_of[first], y + 18, x_of[last] + step - GAP, y + 18), fill=FAINT)
    for x, lines in zip(x_of, broken, strict=True):
        for k, line in enumerate(lines):
            y = top - 4 - (len(lines) - k) * LINE
            draw.text((x + (step - GAP - small.getlength(line)) / 2, y), line, fill=INK, font=small)
    for row in range(count):
        y = top + row * (size + GAP)
        lines = shortened(wrap(rows[row], beside) if rows else [], size // LINE)
        for k, line in enumerate(lines):
            draw.text((MARGIN, y + (size - len(lines) * LINE) / 2 + k * LINE), line, fill=INK, font=small)
        for column, x in enumerate(x_of):
            picture.paste(enlarge(pixels[row * len(columns) + column], cell), (x + (step - GAP - size) // 2, y))
    return picture


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other."""
    picture = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), BACKGROUND)
    y = 0
    for part in pictures:
        picture.paste(part, (0, y))
        y += part.height
    return picture
