"""``python -m vaegan_kernels.experiments.reconstructions``: test images and what each system makes of them (the paper's Fig. 4)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, parse, run_of
from vaegan_kernels.experiments.results import load_data, open_model
from vaegan_kernels.experiments.samples import list_of
from vaegan_kernels.files import save_image
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, run_main, whole_number

SYSTEMS = tuple(system for system in ORDER if system != "gan")  # a GAN has no encoder

EPILOG = """examples:
  python -m vaegan_kernels.experiments.reconstructions --data celeba/ --out results/
  python -m vaegan_kernels.experiments.reconstructions --data celeba/ --out results/ --no-originals     no real face in the picture"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.reconstructions", epilog=EPILOG,
        description="Draw test images and their reconstructions by the systems that have an encoder.",
    )  # fmt: skip
    add_common(parser)
    parser.add_argument("--systems", default=",".join(SYSTEMS), metavar="A,B", help=f"which, in this order (default: {','.join(SYSTEMS)})")
    parser.add_argument("--count", type=whole_number, default=20, metavar="N", help="test images (default: 20)")
    parser.add_argument("--columns", type=whole_number, default=10, metavar="N", help="images in a row (default: 10)")
    parser.add_argument("--mean", action="store_true", help="decode mu instead of a sampled z")
    parser.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="show the test images themselves (default: on)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--count", arguments.count)
    check_count("--columns", arguments.columns, 100)
    systems = list_of("--systems", arguments.systems, SYSTEMS)
    runs = {system: run_of(arguments, system) for system in systems}
    out = Path(arguments.out) / "reconstructions.png"
    models = {system: open_model(arguments, folder) for system, folder in runs.items()}
    draw(
        models, test_images(load_data(arguments), arguments.count), out,
        columns=arguments.columns, originals=arguments.originals, mean=arguments.mean, seed=arguments.seed,
    )  # fmt: skip
    print(f"{arguments.count} test images, rebuilt by {len(runs)} systems, in {out}")
    return 0


def test_images(dataset: Any, count: int) -> np.ndarray:
    """The first ``count`` test images, uint8 [count, S, S, C]; fewer where there are fewer."""
    from vaegan_kernels.pictures.artist import held_out

    return np.asarray(dataset.images[held_out(dataset)[:count]])


def draw(
    models: Mapping[str, Any],
    images: np.ndarray,
    out: Path,
    *,
    columns: int = 10,
    originals: bool = True,
    mean: bool = False,
    seed: int = 0,
) -> Path:
    """Write the figure: for every ``columns`` images a band of rows, the originals first, then one row a system."""
    rows = [("original", images)] if originals else []
    rows += [(NAMES[system], model.reconstruct(images, mean=mean, seed=seed)) for system, model in models.items()]
    save_image(out, bands(rows, columns, "Reconstructions of test images", "z = mu" if mean else "z sampled"))
    return out


def bands(rows: Sequence[tuple[str, np.ndarray]], columns: int, title: str, note: str = "") -> Any:
    """Series of images that belong together place by place, as bands: a row of each series for every ``columns`` images."""
    from vaegan_kernels.pictures import figures

    count = len(rows[0][1])
    columns = min(columns, count)
    images, labels = [], []
    for start in range(0, count - count % columns, columns):
        for name, series in rows:
            images.append(figures.to_uint8(series[start : start + columns]))
            labels.append(name)
    return figures.grid(np.concatenate(images), columns, title, note, labels, band=len(rows))


if __name__ == "__main__":
    sys.exit(run_main(main))
