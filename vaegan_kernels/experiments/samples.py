"""``python -m vaegan_kernels.experiments.samples``: samples of the four systems from the same latents (the paper's Fig. 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, parse, run_of
from vaegan_kernels.experiments.results import open_model
from vaegan_kernels.files import save_image
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, check_choice, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.experiments.samples --data celeba/ --out results/                  trains what is not there yet
  python -m vaegan_kernels.experiments.samples --data celeba/ --out results/ --rows 2 --seed 1"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.samples",
        epilog=EPILOG,
        description="Draw samples of the four systems from the same latents.",
    )
    add_common(parser)
    parser.add_argument("--systems", default=",".join(ORDER), metavar="A,B", help=f"which, in this order (default: {','.join(ORDER)})")
    parser.add_argument("--rows", type=whole_number, default=3, metavar="N", help="rows of images for each system (default: 3)")
    parser.add_argument("--columns", type=whole_number, default=8, metavar="N", help="images in a row (default: 8)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--rows", arguments.rows, 100)
    check_count("--columns", arguments.columns, 100)
    systems = list_of("--systems", arguments.systems, ORDER)
    runs = {system: run_of(arguments, system) for system in systems}
    models = {system: open_model(arguments, folder) for system, folder in runs.items()}
    out = draw(models, Path(arguments.out) / "samples.png", rows=arguments.rows, columns=arguments.columns, seed=arguments.seed)
    print(f"{arguments.rows * arguments.columns} samples of each of {len(runs)} systems in {out}")
    return 0


def list_of(flag: str, text: str, choices: Sequence[str]) -> list[str]:
    """``"vae,gan"`` as a list. Raises `UserError` for an unknown name, a name given twice, or none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        check_choice(flag, name, choices)
    if not names or len(set(names)) < len(names):
        raise UserError(f"{flag}: got {text!r}, expected names from {', '.join(choices)}, each once, with commas between")
    return names


def draw(models: Mapping[str, Any], out: Path, *, rows: int = 3, columns: int = 8, seed: int = 0) -> Path:
    """Write the figure: a block of ``rows`` for each system. The latents of a place are the same in every block."""
    blocks = [(NAMES[system], model.sample(rows * columns, seed=seed)) for system, model in models.items()]
    save_image(out, stack(blocks, columns, "Samples from the prior", "the same z in the same place of every block"))
    return out


def stack(blocks: Sequence[tuple[str, np.ndarray]], columns: int, title: str, note: str = "") -> Any:
    """Blocks of images below each other, each with its name at the left of its middle. All have equally many images."""
    from vaegan_kernels.pictures import figures

    rows = len(blocks[0][1]) // columns
    labels = [name if row == (rows - 1) // 2 else "" for name, _ in blocks for row in range(rows)]
    images = np.concatenate([figures.to_uint8(images[: rows * columns]) for _, images in blocks])
    return figures.grid(images, columns, title, note, labels, band=rows)


if __name__ == "__main__":
    sys.exit(run_main(main))
