"""``python -m vaegan_kernels.edit photo.jpg --add Smiling``: photos, what the model makes of them, and the same with other attributes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaegan_kernels.files import check_output, save_image
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.reconstruct import list_files, read_images
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.run_folder import RUNS
from vaegan_kernels.settings.condition import add_attributes, parse, set_attributes
from vaegan_kernels.settings.edits import add_edits, direction, names_of, wording
from vaegan_kernels.shell.cli import CHECKPOINT, Parser, add_place, add_weights, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

DESCRIPTION = """Change attributes of the faces in photos: z of a photo, plus or minus attribute vectors, decoded.
Of every photo the centred square is taken and resized to the model's size, also where the model was trained on CelebA's own crop:
cut the photo so that the face fills it as in the training images."""

EPILOG = """examples:
  python -m vaegan_kernels.edit photo.jpg --add Smiling --remove Eyeglasses --strength 1.5
  python -m vaegan_kernels.edit a.jpg b.jpg --add Blond_Hair,Bangs --checkpoint runs/my-run --out blond.png
  python -m vaegan_kernels.edit photo.jpg --attributes Smiling=1 --own Smiling=-1,Male=1 --checkpoint runs/my-conditional-run"""

CELL = 192  # pixels that an image is enlarged to, about


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.edit", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files and folders of them")
    add_edits(parser)
    add_attributes(parser, "those of the edited image; others as with --own")
    text = "of a conditional model: the attributes that the photos have (others: the mean of the training images')"
    parser.add_argument("--own", metavar="NAME=X,...", help=text)
    parser.add_argument("--checkpoint", metavar="RUN", help=f"{CHECKPOINT} (default: the newest run in runs/ that can do it)")
    parser.add_argument("--out", default="edited.png", metavar="FILE", help="the picture to write (default: edited.png)")
    parser.add_argument("--only", action="store_true", help="write the edited images alone, not the photo and the rebuilt one beside them")
    parser.add_argument("--mean", action="store_true", help="start from mu instead of a sampled z = mu + sigma*eps")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="seed of the noise eps (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    add_weights(parser, "those that the attribute vectors were made with; of a conditional model the average, where there is one")
    add_place(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    add, remove = names_of(arguments.add), names_of(arguments.remove)
    values, own = parse(arguments.attributes), parse(arguments.own)
    conditional = bool(values or own)
    if conditional and (add or remove or arguments.strength is not None):
        raise UserError(
            "--add, --remove, --strength are for attribute vectors, --attributes and --own for a conditional model; give one kind"
        )
    if not (add or remove or values):
        raise UserError("nothing to change: give --add NAME or --remove NAME (of a conditional model: --attributes NAME=X)")
    if not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed: got {arguments.seed}, expected a whole number of at least 0")
    out = check_output(arguments.out, overwrite=arguments.overwrite, suffixes=(".png", ".jpg", ".webp"))
    files = list_files(arguments.photos)
    path = find_checkpoint(arguments.checkpoint, conditional=conditional)
    check_kind(path, conditional)
    change = None if conditional else direction(attribute_vectors.load(path), add, remove, arguments.strength)
    weights = arguments.weights if conditional else attribute_vectors.weights_of(path, arguments.weights)

    from vaegan_kernels import load_model

    model = load_model(path, weights=weights, **place_of(arguments))
    photos = read_images(files, model)
    if change is None:
        has = set_attributes(model, own, np.tile(model.mean_attributes(), (len(photos), 1)))
        wanted = set_attributes(model, values, has)
        z = model.latents(photos, mean=arguments.mean, seed=arguments.seed, attributes=has)
        rebuilt, edited, what = model.decode(z, has), model.decode(z, wanted), arguments.attributes
    else:
        z = model.latents(photos, mean=arguments.mean, seed=arguments.seed)
        rebuilt, edited, what = model.decode(z), model.decode(z + change), wording(add, remove, arguments.strength)
    save_image(out, only(edited) if arguments.only else side_by_side(photos, rebuilt, edited, what))
    print(f"{len(photos)} photo{'s' * (len(photos) > 1)}, {what}: {out}")
    return 0


def find_checkpoint(given: str | None, *, conditional: bool) -> Path:
    """--checkpoint, or the newest run in runs/ with attribute vectors (``conditional``: a conditional run), which is told."""
    if given is not None:
        return checkpoint.find(given)
    what = "a conditional model with an encoder" if conditional else "attribute vectors"
    found = [path for path in RUNS.glob("*/checkpoint.h5") if can_edit(path, conditional)]
    if not found:
        make = f"take --checkpoint faces, which comes with the program, or make them with: {attribute_vectors.COMMAND} RUN"
        advice = "or train one with --conditional" if conditional else make
        raise UserError(f"--checkpoint: not given, and no run in {RUNS}/ has {what}; name a run, {advice}")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    print(f"{newest.parent}: the newest run with {what}")
    return newest


def can_edit(path: Path, conditional: bool) -> bool:
    """True if the checkpoint can be used; false also for one that cannot be read."""
    try:
        config = checkpoint.read_header(path).config
        if conditional:
            return config.conditional and config.model != "gan"
        return bool(checkpoint.read_extra_names(path, attribute_vectors.NAMES))
    except UserError:
        return False


def check_kind(path: Path, conditional: bool) -> None:
    """Raise `UserError` if the model in ``path`` has no encoder, or is edited in the other way."""
    config = checkpoint.read_header(path).config
    if config.model == "gan":
        raise UserError(f"{path}: a model of the system gan has no encoder: it draws samples, and cannot edit photos")
    if config.conditional and not conditional:
        raise UserError(f"{path}: the model is conditional; give --attributes NAME=1 instead of --add NAME, NAME=-1 instead of --remove")
    if conditional and not config.conditional:
        raise UserError(f"{path}: --attributes and --own are for a conditional model, this one is not; give --add NAME or --remove NAME")


def side_by_side(photos: np.ndarray, rebuilt: np.ndarray, edited: np.ndarray, what: str) -> Image.Image:
    """A row for each photo: as the model sees it, rebuilt, edited."""
    from vaegan_kernels.pictures.figures import to_uint8
    from vaegan_kernels.pictures.labelled_grid import labelled_grid

    rows = np.stack([to_uint8(photos), to_uint8(rebuilt), to_uint8(edited)], axis=1)
    return labelled_grid(rows.reshape(-1, *rows.shape[2:]), ["original", "rebuilt", "edited"], title=what, cell=CELL)


def only(edited: np.ndarray) -> Image.Image:
    """The edited images alone, enlarged, side by side."""
    from vaegan_kernels.pictures.figures import to_uint8
    from vaegan_kernels.pictures.labelled_grid import enlarge

    cells = [np.asarray(enlarge(image, CELL)) for image in to_uint8(edited)]
    return Image.fromarray(np.concatenate(cells, axis=1))


if __name__ == "__main__":
    sys.exit(run_main(main))
