"""``python -m vaegan_kernels.experiments.walk``: what lies between images, as animations.

``walk-images.gif`` goes from test image to test image and ``walk-samples.gif`` from sample to sample, there and back, several pairs at
once; ``walk-images.png`` has the same ways as strips. ``walk-prior.gif`` is a closed random walk through the prior.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, parse, run_of
from vaegan_kernels.experiments.reconstructions import test_images
from vaegan_kernels.experiments.results import load_data, open_model
from vaegan_kernels.files import save_image
from vaegan_kernels.interpolate import walk
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, check_choice, run_main, whole_number

EPILOG = """examples:
  python -m vaegan_kernels.experiments.walk --data celeba/ --out results/
  python -m vaegan_kernels.experiments.walk --data celeba/ --out results/ --system gan --frames 64"""

PAIRS_ABREAST = 2
GRID = (6, 3)  # columns and rows of the random walk


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.experiments.walk", epilog=EPILOG, description="Animate walks in latent space.")
    add_common(parser)
    parser.add_argument("--system", default="vaegan", metavar="NAME", help=f"one of {', '.join(ORDER)} (default: vaegan)")
    parser.add_argument("--rows", type=whole_number, default=3, metavar="N", help="rows of pairs, two abreast (default: 3)")
    parser.add_argument("--frames", type=whole_number, default=20, metavar="N", help="images from one end to the other (default: 20)")
    parser.add_argument("--harmonics", type=whole_number, default=2, metavar="N", help="how winding the random walk is (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_choice("--system", arguments.system, ORDER)
    check_count("--rows", arguments.rows, 20)
    check_count("--frames", arguments.frames, 500, 2)
    check_count("--harmonics", arguments.harmonics, 20)
    folder, out = run_of(arguments, arguments.system), Path(arguments.out)

    from vaegan_kernels.pictures import figures

    model = open_model(arguments, folder)
    name, pairs = NAMES[arguments.system], PAIRS_ABREAST * arguments.rows
    ends = {"samples": model.prior(2 * pairs, arguments.seed)}
    if arguments.system != "gan":
        images = test_images(load_data(arguments), 2 * pairs)
        ends["images"] = model.latents(images[np.arange(2 * pairs) % len(images)], seed=arguments.seed)
    written = []
    for kind, z in ends.items():
        ways = np.stack([walk(a, b, arguments.frames, "spherical") for a, b in zip(z[0::2], z[1::2], strict=True)])
        decoded = figures.to_uint8(model.decode(ways.reshape(-1, model.latent)))
        decoded = decoded.reshape(pairs, arguments.frames, *decoded.shape[1:])
        what = "reconstructions of test images" if kind == "images" else "samples"
        save_frames(out / f"walk-{kind}.gif", pair_frames(decoded, f"{name}: between {what}"), there_and_back=True)
        strip = strips(decoded[: arguments.rows], 11)
        save_image(out / f"walk-{kind}.png", figures.grid(strip, len(strip) // arguments.rows, f"{name}: between {what}", "spherical"))
        written += [f"walk-{kind}.gif", f"walk-{kind}.png"]
    columns, rows = GRID
    z = closed_walk(columns * rows, 2 * arguments.frames, model.latent, harmonics=arguments.harmonics, seed=arguments.seed)
    decoded = figures.to_uint8(model.decode(z.reshape(-1, model.latent))).reshape(*z.shape[:2], *model.image_shape[:2], 3)
    title = f"{name}: a walk through the prior"
    save_frames(out / "walk-prior.gif", [figures.grid(decoded[:, k], columns, title) for k in range(z.shape[1])])
    print(f"{', '.join([*written, 'walk-prior.gif'])} in {out}")
    return 0


def closed_walk(count: int, frames: int, latent: int, *, harmonics: int = 2, seed: int = 0) -> np.ndarray:
    """Smooth closed ways through the prior: z [count, frames, L]; the frame after the last is the first.

    z(t) = sum over k = 1..K of (a_k cos 2 pi k t + b_k sin 2 pi k t) / sqrt(K) with a_k, b_k ~ N(0, I). cos^2 + sin^2 = 1, so at every t
    z is a draw from N(0, I) itself: the walk never leaves the shell on which the decoder was trained, as straight lines do.
    """
    from kernels import philox

    draws = philox.normal((harmonics, 2, count, 1, latent), seed=seed, step=1, stream=philox.STREAM_FIGURE_PRIOR)
    angle = 2 * np.pi * np.arange(frames)[:, None] / frames
    z = sum(draws[k - 1, 0] * np.cos(k * angle) + draws[k - 1, 1] * np.sin(k * angle) for k in range(1, harmonics + 1))
    return np.asarray(z / np.sqrt(harmonics))


def strips(ways: np.ndarray, columns: int) -> np.ndarray:
    """``columns`` images of each way [W, frames, S, S, 3], evenly chosen, ends included, one way after the other."""
    frames = ways.shape[1]
    chosen = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    return ways[:, chosen].reshape(-1, *ways.shape[2:])


def pair_frames(ways: np.ndarray, title: str) -> list[Image.Image]:
    """A picture of every moment of the ways [W, frames, S, S, 3]: each pair's two ends, and between them, framed, where it is now."""
    from vaegan_kernels.pictures import figures

    pairs, frames, size = ways.shape[0], ways.shape[1], ways.shape[2]
    columns, scale = PAIRS_ABREAST, max(1, round(figures.CELL / size))
    cell, gap, margin = size * scale, figures.GAP, figures.MARGIN
    block, top = 3 * cell + 4 * gap, margin + figures.HEADER - 8
    width = 2 * margin + columns * block + (columns - 1) * 5 * gap
    height = top + -(-pairs // columns) * (cell + 2 * gap) - 2 * gap + margin
    base = Image.new("RGB", (width, height), figures.BACKGROUND)
    draw = ImageDraw.Draw(base)
    draw.text((margin, margin - 2), title, fill=figures.INK, font=ImageFont.load_default(size=15))

    def place(picture: Image.Image, pair: int, slot: int, image: np.ndarray) -> tuple[int, int]:
        x = margin + (pair % columns) * (block + 5 * gap) + slot * (cell + 2 * gap)
        y = top + (pair // columns) * (cell + 2 * gap)
        picture.paste(Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1)), (x, y))
        return x, y

    for pair in range(pairs):
        place(base, pair, 0, ways[pair, 0])
        place(base, pair, 2, ways[pair, -1])
    pictures = []
    for k in range(frames):
        picture = base.copy()
        for pair in range(pairs):
            x, y = place(picture, pair, 1, ways[pair, k])
            ImageDraw.Draw(picture).rectangle((x - 2, y - 2, x + cell + 1, y + cell + 1), outline=figures.INK, width=2)
        pictures.append(picture)
    return pictures


def save_frames(out: Path, pictures: Sequence[Image.Image], *, there_and_back: bool = False, milliseconds: int = 80) -> None:
    """Write an endless GIF; ``there_and_back`` plays the frames forwards and backwards and rests at both ends."""
    frames = [picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    durations = [milliseconds] * len(frames)
    if there_and_back:
        durations[0] = durations[-1] = 700
        frames, durations = frames + frames[-2:0:-1], durations + durations[-2:0:-1]
    save_image(out, frames[0], save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)


if __name__ == "__main__":
    sys.exit(run_main(main))
