"""Pictures of a run: grids of samples and reconstructions, the animation, the curves. Images are [N, S, S, C].

Grids need only Pillow. Pixels are enlarged by a whole factor, unsmoothed, so that a person sees what the network made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegan_kernels.files import save_image
from vaegan_kernels.pictures.chart import new_figure, printable, save_figure

CELL = 96  # an image is enlarged to about this many pixels
GAP = 4
MARGIN = 14
HEADER = 34
BACKGROUND = (250, 250, 248)
INK = (45, 45, 50)
FAINT = (120, 120, 125)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """float images in [-1, 1], or uint8 ones, as uint8 RGB [N, S, S, 3]."""
    if images.dtype != np.uint8:
        images = np.clip((images + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def grid(images: np.ndarray, columns: int, title: str = "", note: str = "", row_labels: Sequence[str] = (), band: int = 1) -> Image.Image:
    """Images in rows of ``columns``, under a title and a faint note at its right.

    Args:
        images: [N, S, S, C], uint8 or float in [-1, 1].
        row_labels: one for each row, written at its left.
        band: rows that belong together; a wider gap follows each band.
    """
    pixels, title, note = to_uint8(images), printable(title), printable(note)
    row_labels = [printable(text) for text in row_labels]
    size = pixels.shape[1]
    scale = max(1, round(CELL / size))
    cell, rows = size * scale, -(-len(pixels) // columns)
    small, large = ImageFont.load_default(size=12), ImageFont.load_default(size=15)
    left = MARGIN + (max(int(small.getlength(text)) for text in row_labels) + 10 if row_labels else 0)
    top = MARGIN + (HEADER - 8 if title else 0)
    band_gap = GAP + 10 if band > 1 else GAP
    y_of = [top + row * (cell + GAP) + (row // band) * (band_gap - GAP) for row in range(rows)]
    width = left + columns * (cell + GAP) - GAP + MARGIN
    picture = Image.new("RGB", (width, y_of[-1] + cell + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((left, MARGIN - 2), title, fill=INK, font=large)
        if left + large.getlength(title) + 20 + small.getlength(note) <= width - MARGIN:
            draw.text((width - MARGIN - small.getlength(note), MARGIN + 1), note, fill=FAINT, font=small)
    for row, text in enumerate(row_labels):
        draw.text((left - 10 - small.getlength(text), y_of[row] + cell / 2 - 8), text, fill=FAINT, font=small)
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        enlarged = Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1))
        picture.paste(enlarged, (left + column * (cell + GAP), y_of[row]))
    return picture


def pairs(originals: np.ndarray, others: np.ndarray, columns: int, title: str, note: str, label: str) -> Image.Image:
    """Rows of originals, each with the row of ``others`` (reconstructions) right below it."""
    count = len(originals)
    columns = min(columns, count)
    images, labels = [], []
    for start in range(0, count - count % columns, columns):
        images += [to_uint8(originals[start : start + columns]), to_uint8(others[start : start + columns])]
        labels += ["original", label]
    return grid(np.concatenate(images), columns, title, note, labels, band=2)


def step_name(step: int) -> str:
    """``samples/step_000100.png``: names that sort by step."""
    return f"step_{step:06d}.png"


def drawn_steps(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of the grids in a folder, by step."""
    found = [(re.fullmatch(r"step_([0-9]{1,12})\.png", path.name), path) for path in folder.glob("step_*.png")]
    return sorted((int(match[1]), path) for match, path in found if match)


def write_animation(folder: Path, out: Path, *, frames: int = 30) -> None:
    """An animated GIF of the grids in ``folder`` at half size, evenly chosen, the last one held. None for fewer than two grids."""
    steps = drawn_steps(folder)
    if len(steps) < 2:
        return
    chosen = sorted({round(i * (len(steps) - 1) / (min(frames, len(steps)) - 1)) for i in range(min(frames, len(steps)))})
    pictures = []
    for index in chosen:
        with Image.open(steps[index][1]) as picture:
            pictures.append(picture.convert("RGB").reduce(2))
    frames_p = [picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    durations = [160] * (len(frames_p) - 1) + [2500]
    save_image(out, frames_p[0], save_all=True, append_images=frames_p[1:], duration=durations, loop=0, optimize=False)


PANELS: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
    ("GAN loss", (("gan_real", "real"), ("gan_generated", "generated"), ("generator", "generator")), "linear"),
    ("Feature likelihood", (("like", "like"),), "log"),
    ("KL to the prior", (("prior", "prior"),), "linear"),
    ("Updated (share of steps)", (("dec_update_rate", "decoder"), ("dis_update_rate", "discriminator")), "linear"),
)


def write_curves(
    metrics: list[dict[str, Any]], out: Path, title: str, gate: tuple[float, float] | None = None, *, pixels: bool = False
) -> None:  # fmt: skip
    """Losses and gate rates over the steps, as many panels as the system has. Imports matplotlib, slow, only here.

    Args:
        gate: (equilibrium, margin), drawn as a band.
        pixels: the likelihood is one of pixels (a VAE's), not of features.
    """
    panels = [panel for panel in PANELS if any(key in line for line in metrics for key, _ in panel[1])]
    if len(metrics) < 2 or not panels:
        return
    rows = -(-len(panels) // 2)
    figure = new_figure(11, 6.6 if rows == 2 else 3.8)
    top, bottom = 1 - 0.73 / figure.get_figheight(), 0.5 / figure.get_figheight()
    figure.subplots_adjust(left=0.06, right=0.985, top=top, bottom=bottom, hspace=0.2, wspace=0.14)
    steps = np.array([line["step"] for line in metrics])
    for axes, (name, curves, scale) in zip(figure.subplots(rows, 2, sharex=True).flat, panels, strict=False):
        if name == "GAN loss" and gate is not None:
            axes.axhspan(gate[0] - gate[1], gate[0] + gate[1], color="#8a8f98", alpha=0.13, lw=0, label="gate open")
        for number, (key, label) in enumerate(curves):
            values = np.array([float(line.get(key, np.nan)) for line in metrics])
            if np.isnan(values).all():
                continue
            colour = f"C{number}"
            axes.plot(steps, values, color=colour, lw=0.8, alpha=0.35)
            axes.plot(steps, smooth(values), color=colour, lw=1.6, label=label)
        name = "Pixel likelihood" if pixels and name == "Feature likelihood" else name
        dress(axes, name, log=scale == "log" and positive(metrics, curves))
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8.5)
    for axes in figure.axes[-2:]:
        axes.set_xlabel("step")
    figure.suptitle(title, x=0.06, y=0.975, ha="left", fontsize=11)
    save_figure(figure, out)


def dress(axes: Any, name: str, *, log: bool) -> None:
    """Title, scale and grid of one of `PANELS`."""
    from matplotlib.ticker import LogFormatter

    axes.set_title(f"{name}{', per image' if 'share' not in name else ''}", loc="left", fontsize=10)
    if log:
        axes.set_yscale("log")
        for axis in ("major", "minor"):  # 150, not 1.5 x 10^2
            getattr(axes.yaxis, f"set_{axis}_formatter")(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if "share" in name:
        axes.set_ylim(-0.03, 1.05)


def positive(metrics: list[dict[str, Any]], curves: tuple[tuple[str, str], ...]) -> bool:
    """Whether all values can stand on a logarithmic axis."""
    return all(line.get(key, 1.0) > 0 for line in metrics for key, _ in curves)


def smooth(values: np.ndarray) -> np.ndarray:
    """A centred running mean over about a thirtieth of the run, shorter at the ends."""
    half = max(1, len(values) // 60)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.clip(np.arange(len(values)) - half, 0, None)
    high = np.clip(np.arange(len(values)) + half + 1, None, len(values))
    return (sums[high] - sums[low]) / (high - low)
