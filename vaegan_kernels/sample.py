"""``python -m vaegan_kernels.sample CHECKPOINT``: a grid of images from the prior."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.files import check_output, save_image
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.settings.condition import add_attributes, check_conditional, parse, set_attributes
from vaegan_kernels.settings.edits import add_edits, direction, names_of, wording
from vaegan_kernels.shell.cli import CHECKPOINT, Parser, add_place, add_weights, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.sample runs/small32-quick-faces-001 --out samples.png
  python -m vaegan_kernels.sample runs/small32-quick-faces-001/checkpoint.h5 --count 100 --grid 10x10 --seed 7 --out more.png
  python -m vaegan_kernels.sample runs/my-conditional-run --attributes Smiling=1,Male=-1 --out smiling.png
  python -m vaegan_kernels.sample runs/my-run --add Smiling --strength 2 --out smiling.png"""


def add_common(parser: Any, out: str) -> None:
    """The arguments that sample, reconstruct and interpolate share."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("--out", default=out, metavar="FILE", help=f"the picture to write (default: {out})")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="seed of the noise (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    add_weights(parser)
    add_place(parser)


def check_common(arguments: Any, suffixes: tuple[str, ...]) -> Path:
    """Check them; returns the path of the picture. Raises `UserError`."""
    if not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed: got {arguments.seed}, expected a whole number of at least 0")
    checkpoint.find(arguments.checkpoint)
    return check_output(arguments.out, overwrite=arguments.overwrite, suffixes=suffixes)


def check_count(flag: str, value: int, maximum: int = 10_000, minimum: int = 1) -> None:
    """Raise `UserError` unless ``minimum`` <= value <= ``maximum``."""
    if not minimum <= value <= maximum:
        raise UserError(f"{flag}: got {value}, expected a whole number from {minimum} to {maximum}")


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.sample", description="Draw images from the prior, z ~ N(0, I).", epilog=EPILOG)
    add_common(parser, "samples.png")
    parser.add_argument("--count", type=whole_number, metavar="N", help="number of images (default: 64, or as many as --grid holds)")
    parser.add_argument("--grid", metavar="COLUMNSxROWS", help="layout, such as 8x8 (default: as square as can be)")
    add_attributes(parser, "others are those of training images, chosen by --seed")
    add_edits(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    out = check_common(arguments, (".png", ".jpg", ".webp"))
    count, columns = layout(arguments.count, arguments.grid)
    values = parse(arguments.attributes)
    add, remove = names_of(arguments.add), names_of(arguments.remove)
    if arguments.strength is not None and not (add or remove):
        raise UserError("--strength: given without --add or --remove; name an attribute")
    edits = (add, remove, arguments.strength)
    change, weights = None, arguments.weights
    if add or remove:
        change = direction(attribute_vectors.load(arguments.checkpoint), *edits)
        weights = attribute_vectors.weights_of(arguments.checkpoint, weights)

    from vaegan_kernels import load_model
    from vaegan_kernels.pictures import figures

    model = load_model(arguments.checkpoint, weights=weights, **place_of(arguments))
    check_conditional(model, values)
    given = set_attributes(model, values, model.examples(count, arguments.seed)) if model.attribute_names else None
    if change is None:
        images = model.sample(count, seed=arguments.seed, attributes=given)
    else:
        images = model.decode(model.prior(count, arguments.seed) + change, given)
    title = "Samples" if change is None else f"Samples   {wording(*edits)}"
    save_image(out, figures.grid(images, columns, title, f"seed {arguments.seed} · step {model.header.step:,}"))
    print(f"{count} samples in {out}")
    return 0


def layout(count: int | None, grid: str | None) -> tuple[int, int]:
    """(images, columns) of ``--count`` and ``--grid``. Raises `UserError` if they are ill-formed or do not agree."""
    if count is not None:
        check_count("--count", count)
    if grid is None:
        count = count or 64
        return count, math.ceil(math.sqrt(count))
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", grid)
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= columns * rows <= 10_000:
        raise UserError(f"--grid: got {grid!r}, expected COLUMNSxROWS such as 8x8")
    if count is not None and count > columns * rows:
        raise UserError(f"--grid: {grid} holds {columns * rows} images, --count asks for {count}; make one of them fit")
    return count or columns * rows, columns


if __name__ == "__main__":
    sys.exit(run_main(main))
