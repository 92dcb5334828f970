"""``python -m vaegan_kernels.interpolate CHECKPOINT --from A --to B``: a walk between two images or two samples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaegan_kernels.files import save_image
from vaegan_kernels.reconstruct import check_encoder, read_image
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.sample import add_common, check_common, check_count
from vaegan_kernels.settings.condition import add_attributes, check_conditional, parse, set_attributes
from vaegan_kernels.shell.cli import Parser, check_choice, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.interpolate runs/my-run --from 1 --to 2 --out walk.gif            between the samples of two seeds
  python -m vaegan_kernels.interpolate runs/my-run --from a.jpg --to b.jpg --frames 9 --out walk.png"""

PATHS = ("spherical", "linear")


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.interpolate", description="Walk through latent space.", epilog=EPILOG)
    add_common(parser, "interpolation.png")
    parser.add_argument("--from", dest="start", required=True, metavar="A", help="an image file, or the seed of a sample")
    parser.add_argument("--to", dest="end", required=True, metavar="B", help="the same, for the other end")
    parser.add_argument("--frames", type=whole_number, default=16, metavar="N", help="images, both ends included (default: 16)")
    parser.add_argument("--path", default="spherical", metavar="{spherical,linear}", help="way between the ends (default: spherical)")
    parser.add_argument("--mean", action="store_true", help="of an image take mu instead of a sampled z")
    add_attributes(parser, "the same on the whole way; others are the mean of the training images'")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    values = parse(arguments.attributes)
    out = check_common(arguments, (".png", ".gif", ".jpg", ".webp"))
    check_count("--frames", arguments.frames, 1000, 2)
    check_choice("--path", arguments.path, PATHS)
    ends = [check_end("--from", arguments.start), check_end("--to", arguments.end)]

    from vaegan_kernels import load_model
    from vaegan_kernels.pictures import figures

    model = load_model(arguments.checkpoint, weights=arguments.weights, **place_of(arguments))
    check_conditional(model, values)
    if any(isinstance(end, Path) for end in ends):
        check_encoder(model)
    given = set_attributes(model, values, model.mean_attributes()[None]) if model.attribute_names else None
    a, b = (latent_of(end, model, arguments.mean, arguments.seed, given) for end in ends)
    along = None if given is None else np.repeat(given, arguments.frames, axis=0)
    images = model.decode(walk(a, b, arguments.frames, arguments.path), along)
    if out.suffix.lower() == ".gif":
        save_walk(out, images)
    else:
        title = f"From {Path(arguments.start).name} to {Path(arguments.end).name}"
        save_image(out, figures.grid(images, min(8, arguments.frames), title, f"{arguments.path} · step {model.header.step:,}"))
    print(f"{arguments.frames} frames in {out}")
    return 0


def check_end(flag: str, text: str) -> Path | int:
    """A file that exists, or a seed. Raises `UserError` for neither."""
    if Path(text).is_file():
        return Path(text)
    if text.isascii() and text.isdigit() and int(text) < 2**63:
        return int(text)
    what = "a folder" if Path(text).is_dir() else repr(text)
    raise UserError(f"{flag}: got {what}, expected an image file that exists or a seed (a whole number)")


def latent_of(end: Path | int, model: Model, mean: bool, seed: int, attributes: np.ndarray | None = None) -> np.ndarray:
    """z [L] of an image (mu + sigma*eps, or mu), with its ``attributes`` [1, A] for a conditional model, or of a seed."""
    if isinstance(end, int):
        return np.asarray(model.prior(1, end)[0])
    return np.asarray(model.latents(read_image(end, model)[None], mean=mean, seed=seed, attributes=attributes)[0])


def walk(a: np.ndarray, b: np.ndarray, frames: int, path: str) -> np.ndarray:
    """Latents [frames, L] from ``a`` to ``b`` [L], ends included.

    "spherical" turns the direction evenly and goes evenly from one length to the other: draws from N(0, I) have almost the
    same length, and the straight line between two passes through shorter ones that the decoder has never seen.
    """
    t = np.linspace(0, 1, frames)[:, None]
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    straight = (1 - t) * a + t * b
    if path == "linear" or length_a == 0 or length_b == 0:
        return straight
    angle = np.arccos(np.clip(np.dot(a, b) / (length_a * length_b), -1, 1))
    if not 1e-4 < angle < np.pi - 1e-4:  # the same or opposite directions have no one arc
        return straight
    direction = (np.sin((1 - t) * angle) * a / length_a + np.sin(t * angle) * b / length_b) / np.sin(angle)
    return direction * ((1 - t) * length_a + t * length_b)


def save_walk(out: Path, images: np.ndarray) -> None:
    """An animated GIF that goes there and back."""
    from vaegan_kernels.pictures import figures

    scale = max(1, 256 // images.shape[1])
    frames = [Image.fromarray(image).resize((scale * image.shape[1],) * 2, Image.Resampling.BICUBIC) for image in figures.to_uint8(images)]
    frames = [frame.quantize(256, dither=Image.Dither.NONE) for frame in frames]
    loop = frames + frames[-2:0:-1]
    durations = [500 if i in (0, len(frames) - 1) else 80 for i in range(len(loop))]
    save_image(out, loop[0], save_all=True, append_images=loop[1:], duration=durations, loop=0)


if __name__ == "__main__":
    sys.exit(run_main(main))
