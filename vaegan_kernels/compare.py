"""``python -m vaegan_kernels.compare RUN…``: the curves of several runs in one picture, their grids side by side, what differs in a table.

Only files of the runs' folders are read: a run that is still in progress is shown as far as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaegan_kernels.files import check_output, save_image, shown
from vaegan_kernels.pictures import figures
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.resolve import read_config
from vaegan_kernels.shell.cli import Parser, run_main, whole_number
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shipped import shipped

EPILOG = """examples:
  python -m vaegan_kernels.compare runs/seed-1 runs/seed-2 runs/seed-3
  python -m vaegan_kernels.compare runs/* --step 500 --out half-way"""
MOST = 8  # runs in one picture: beyond, colours cannot be told apart
NOT_COMPARED = {"steps", "draw_every", "save_every", "log_every", "animation", "curves", "tensorboard", "engine", "threads", "precision"}
FIGURES = (  # of summary.json: key, its name in the table, format
    ("step", "steps done", ",.0f"),
    ("reconstruction_mse", "reconstruction error", ".4f"),
    ("reconstruction_ratio", "  of the mean image's", ".0%"),
    ("sample_diversity", "sample diversity", ".3f"),
    ("diversity_ratio", "  of the data's", ".0%"),
    ("sharpness_ratio", "sharpness, of the data's", ".0%"),
    ("colour_noise_ratio", "colour noise, of the data's", ".0%"),
    ("attribute_agreement", "attribute agreement", ".0%"),
    ("seconds", "seconds of training", ",.0f"),
)


@dataclass
class Run:
    """What a run's folder says about it. ``metrics`` and ``summary`` may be empty; ``name`` tells it from the others."""

    folder: RunFolder
    config: Config
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]
    name: str = ""
    file: Path | None = None  # of a model without a folder: its checkpoint


def read_run(path: str | Path) -> Run:
    """The run in the folder ``path``. Raises `UserError` where there is none, or nothing to show yet."""
    folder = RunFolder(path)
    if (file := shipped(path)) is not None:
        header = checkpoint.read_header(file)
        return Run(folder, header.config, [{"step": header.step}], {}, file=file)
    if not folder.path.is_dir():
        raise UserError(f"no such run: {path}; give the folders of runs, such as runs/small32-quick-faces-001")
    if not folder.config.is_file():
        raise UserError(f"{path}: is not a run's folder: it has no config.json")
    config = Config.from_dict(read_config(folder.config), str(folder.config))
    metrics = read_metrics(folder.metrics)
    if not metrics:
        raise UserError(f"{path}: has no line of metrics yet; wait for its first steps")
    summary: dict[str, Any] = {}
    if folder.summary.is_file():
        try:
            found = json.loads(folder.summary.read_text(encoding="utf-8"))
            summary = found if isinstance(found, dict) else {}
        except (OSError, ValueError) as error:
            raise UserError(f"{folder.summary}: cannot be read ({error}); remove it, or end the run once more with --resume") from None
    return Run(folder, config, metrics, summary)


def read_runs(paths: Sequence[str]) -> list[Run]:
    """The runs, each with a name as short as tells them apart. Raises `UserError` as `read_run`, and for too many, or one given twice."""
    if len(paths) > MOST:
        raise UserError(f"got {len(paths)} runs, expected at most {MOST}: more cannot be told apart in one picture")
    resolved = [Path(path).resolve() for path in paths]
    for path, whole in zip(paths, resolved, strict=True):
        if resolved.count(whole) > 1:
            raise UserError(f"{path}: given twice; give each run once")
    runs = [read_run(path) for path in paths]
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    for run, whole in zip(runs, resolved, strict=True):
        run.name = "/".join(whole.parts[-depth:])
    return runs


def drawn(folder: Path, step: int | None) -> tuple[int, Path] | None:
    """(step, file) of the last grid in ``folder``, or of the last at or before ``step``; None where there is none."""
    found = [(at, path) for at, path in figures.drawn_steps(folder) if step is None or at <= step]
    return found[-1] if found else None


def samples_of(file: Path) -> Any:
    """A grid of samples of the model in ``file``, drawn now: it has no folder with pictures."""
    from vaegan_kernels import load_model

    model = load_model(file, engine="numpy", threads=1)
    return figures.grid(model.sample(64), 8, "Samples", f"step {model.header.step:,}")


def grids(runs: Sequence[Run], step: int | None) -> Any:
    """A column for each run: its name, its grid of samples and, under it, of reconstructions, at half size. None where nothing is drawn."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=15)
    columns: list[Any] = []
    for run in runs:
        pictures = [samples_of(run.file).reduce(2)] if run.file else []
        for folder in (run.folder.samples, run.folder.reconstructions):
            if (last := drawn(folder, step)) is not None:
                with Image.open(last[1]) as picture:
                    pictures.append(picture.convert("RGB").reduce(2))
        if not pictures:
            continue
        width = max(max(p.width for p in pictures), int(font.getlength(run.name)) + 2 * figures.MARGIN)
        column = Image.new("RGB", (width, 30 + sum(p.height for p in pictures)), figures.BACKGROUND)
        ImageDraw.Draw(column).text((figures.MARGIN // 2, 9), run.name, fill=figures.INK, font=font)
        y = 30
        for picture in pictures:
            column.paste(picture, (0, y))
            y += picture.height
        columns.append(column)
    if not columns:
        return None
    whole = Image.new("RGB", (sum(c.width for c in columns), max(c.height for c in columns)), figures.BACKGROUND)
    x = 0
    for column in columns:
        whole.paste(column, (x, 0))
        x += column.width
    return whole


def table(runs: Sequence[Run]) -> list[list[str]]:
    """Rows of texts, a column for each run: the settings that differ, then what the summaries say."""
    rows = [["", *(run.name for run in runs)]]
    for name in Config.__dataclass_fields__:
        values = [getattr(run.config, name) for run in runs]
        if name not in NOT_COMPARED and any(value != values[0] for value in values):
            rows.append([name.replace("_", "-"), *("–" if value is None else str(value) for value in values)])
    for key, label, form in FIGURES:
        found = [run.summary.get(key, run.metrics[-1].get(key) if key == "step" else None) for run in runs]
        known = [key in run.summary or value is not None for run, value in zip(runs, found, strict=True)]  # no dash: measured in vain
        if any(known):
            rows.append([label, *(shown(value, form) if there else "–" for value, there in zip(found, known, strict=True))])
    return rows


def lines_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as aligned text."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    padded = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join([row[0].ljust(widths[0]), *cells[1:]]) for row, cells in zip(rows, padded, strict=True)]


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.compare",
        description="Lay the curves and grids of several runs side by side, and what differs in a table.",
        epilog=EPILOG,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help=f"folders of runs, or faces, up to {MOST}")
    parser.add_argument("--out", metavar="FOLDER", default="compare", help="where curves.png and grids.png go (default: compare)")
    parser.add_argument("--step", type=whole_number, metavar="N", help="the grids of step N, or the last before it (default: the last)")
    parser.add_argument("--overwrite", action="store_true", help="replace the pictures of an earlier comparison")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    from vaegan_kernels.pictures.overlaid import write_overlaid

    arguments = make_parser().parse_args(argv)
    if arguments.step is not None and arguments.step < 1:
        raise UserError(f"--step: got {arguments.step}, expected a whole number of at least 1")
    runs = read_runs(arguments.runs)
    out = Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder")
    out.mkdir(parents=True, exist_ok=True)
    curves, pictures = (check_output(out / name, overwrite=arguments.overwrite) for name in ("curves.png", "grids.png"))
    written = []
    if write_overlaid([(run.name, run.metrics) for run in runs], curves):
        written.append(str(curves))
    picture = grids(runs, arguments.step)
    if picture is not None:
        save_image(pictures, picture)
        written.append(str(pictures))
    for line in lines_of(table(runs)):
        print(line)
    lasts = [(run.metrics[-1]["step"], run.file) if run.file else drawn(run.folder.samples, arguments.step) for run in runs]
    pairs = zip(runs, lasts, strict=True)
    steps = ", ".join(f"{run.name} at step {last[0]:,}" if last else f"{run.name} without one" for run, last in pairs)
    print(f"grids: {steps}")
    print(f"written: {' and '.join(written) or 'nothing: fewer than two lines of metrics, and no grid'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
