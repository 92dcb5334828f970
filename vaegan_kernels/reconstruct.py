"""``python -m vaegan_kernels.reconstruct CHECKPOINT --images …``: images and what the model makes of them, in pairs of rows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaegan_kernels.files import save_image
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.sample import add_common, check_common, check_count
from vaegan_kernels.settings.condition import add_attributes, check_conditional, parse, set_attributes
from vaegan_kernels.shell.cli import Parser, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.reconstruct runs/small32-quick-faces-001 --out rebuilt.png       test images of the run's data
  python -m vaegan_kernels.reconstruct runs/my-run --images photo.jpg holidays/ --mean      your own pictures, z = mu"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.reconstruct", description="Encode and decode images, z = mu + sigma*eps.", epilog=EPILOG)
    add_common(parser, "reconstructions.png")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="image files and folders (default: test images of the run's data)")
    parser.add_argument("--data", metavar="PATH", help="test images of this data instead (as for train)")
    parser.add_argument("--count", type=whole_number, default=32, metavar="N", help="at most so many images (default: 32)")
    parser.add_argument("--columns", type=whole_number, default=8, metavar="N", help="images in a row (default: 8)")
    parser.add_argument("--mean", action="store_true", help="decode mu instead of a sampled z")
    add_attributes(parser, "others are the test images' own, and for --images, where they are not known, the mean of the training images'")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    values = parse(arguments.attributes)
    out = check_common(arguments, (".png", ".jpg", ".webp"))
    check_count("--count", arguments.count)
    check_count("--columns", arguments.columns, 1000)
    if arguments.images and arguments.data:
        raise UserError("--images and --data: both given, expected one of them")
    files = list_files(arguments.images)[: arguments.count] if arguments.images else []

    from vaegan_kernels import load_model
    from vaegan_kernels.pictures import figures

    model = load_model(arguments.checkpoint, weights=arguments.weights, **place_of(arguments))
    check_encoder(model)
    check_conditional(model, values)
    if files:
        originals = read_images(files, model)
        given = np.tile(model.mean_attributes(), (len(originals), 1)) if model.attribute_names else None
    else:
        originals, given = test_images(model, arguments.data, arguments.count)
    given = None if given is None else set_attributes(model, values, given)
    others = model.reconstruct(originals, mean=arguments.mean, seed=arguments.seed, attributes=given)
    error = float(np.mean((others - (originals / 127.5 - 1)) ** 2))
    title = "Reconstructions   z = mu" if arguments.mean else "Reconstructions   z sampled"
    note = f"step {model.header.step:,}"
    save_image(out, figures.pairs(originals, others, arguments.columns, title, note, "rebuilt"))
    print(f"{len(originals)} reconstructions in {out}; mean squared error {error:.4f} (pixels in [-1, 1])")
    return 0


def check_encoder(model: Model) -> None:
    """Raise `UserError` if the model cannot encode images."""
    if not model.has_encoder:
        raise UserError(f"a model of the system {model.system} has no encoder: it draws samples, and cannot encode or reconstruct images")


def list_files(paths: Sequence[str]) -> list[Path]:
    """Image files among ``paths`` and in the folders among them; what is passed over is told on stderr.

    Of several paths, as a shell makes them of ``*``, those that are nobody's picture are passed over. Raises `UserError` if one is missing
    or none is found.
    """
    from vaegan_kernels.data.formats.folder import told, walk
    from vaegan_kernels.data.kinds import is_junk

    others: Counter[str] = Counter()
    files: list[Path] = []
    for path in map(Path, paths):
        if len(paths) > 1 and is_junk(path.name):
            continue
        if path.is_dir():
            found = walk(path)
            files += [path / name for name, _, _ in found.entries]
            others.update(found.others)
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; expected images")
    if files and others:
        print(f"passed over: {told(others)}", file=sys.stderr)
    if not files:
        raise UserError(f"{' '.join(paths)[:200]}: no images there that can be read; " + (told(others) or "expected JPEG, PNG or others"))
    return files


def read_image(path: Path, model: Model) -> np.ndarray:
    """One image file as uint8 [S, S, C], by the rules that training uses. Raises `UserError` if it cannot be read."""
    from vaegan_kernels.data.images import READ_ERRORS, read_square
    from vaegan_kernels.data.kinds import picture_kind

    try:
        if kind := picture_kind(str(path)):
            raise UserError(f"{path}: not a readable image: it has {kind}")
        with open(path, "rb") as stream:
            return read_square(stream, model.image_shape[0], model.image_shape[2], model.header.config.fit)
    except READ_ERRORS as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a readable image ({reason})") from None


def read_images(files: Sequence[Path], model: Model) -> np.ndarray:
    """Image files as uint8 [N, S, S, C]; unreadable ones are skipped and told on stderr. Raises `UserError` if none is left."""
    images, problem = [], None
    for path in files:
        try:
            images.append(read_image(path, model))
        except UserError as error:
            problem = error
            if len(files) > 1:
                print(f"skipped: {error}", file=sys.stderr)
    if not images:
        raise problem if problem is not None and len(files) == 1 else UserError("none of the images can be read")
    return np.stack(images)


def test_images(model: Model, source: str | None, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first test images of ``source`` or, for None, of the data that the model was trained on; of a conditional model also their
    attributes [N, A]. Raises `UserError` if the data has others."""
    from vaegan_kernels import data
    from vaegan_kernels.pictures.artist import held_out
    from vaegan_kernels.runs.run_data import data_of

    def check(place: str | None) -> None:
        missing = [name for name in model.attribute_names if name not in data.attribute_names(place)]
        if missing:
            where = place or "the built-in set"
            raise UserError(f"--data: {where} has no attribute {missing[0]!r}, which the model is given; use other data")

    dataset = data_of(model, source, check=check)
    shown = held_out(dataset)[:count]
    given = dataset.attributes_of(model.attribute_names)[shown] if model.attribute_names else None
    return np.asarray(dataset.images[shown]), given


if __name__ == "__main__":
    sys.exit(run_main(main))
