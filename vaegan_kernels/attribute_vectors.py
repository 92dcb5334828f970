"""``python -m vaegan_kernels.attribute_vectors RUN``: computes and keeps what an attribute does to z (`measures.attribute_vectors`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from vaegan_kernels.measures.attribute_vectors import COMMAND, Vectors, check_model, cosines, measure, save
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.shell.cli import Parser, add_place, add_weights, check_choice, place_of, run_main
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shipped import FOLDER

EPILOG = """examples:
  python -m vaegan_kernels.attribute_vectors runs/my-run                       of the data that the run was trained on
  python -m vaegan_kernels.attribute_vectors runs/my-run --data celeba/ --split validation
  python -m vaegan_kernels.edit photo.jpg --checkpoint runs/my-run --add Smiling --remove Eyeglasses      uses them"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog=COMMAND, epilog=EPILOG,
        description="Compute the visual attribute vectors of a trained model and keep them in its checkpoint. Resuming drops them.",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="RUN", help="a run folder or a checkpoint.h5")
    parser.add_argument("--data", metavar="PATH", help="images with attributes (default: the data that the run was trained on)")
    parser.add_argument("--split", default="train", metavar="{train,validation,test}", help="images to take (default: train)")
    add_weights(parser)
    add_place(parser)
    parser.add_argument("--quiet", action="store_true", help="print only the result and errors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)

    from vaegan_kernels import load_model
    from vaegan_kernels.data import SPLITS
    from vaegan_kernels.files import check_writable, quoted
    from vaegan_kernels.runs.run_data import data_of
    from vaegan_kernels.shell.progress import Counter

    check_choice("--split", arguments.split, SPLITS)
    file = checkpoint.find(arguments.checkpoint)
    if file.resolve().parent == FOLDER:
        copy = f"python -m vaegan_kernels.export {quoted(arguments.checkpoint)} --format checkpoint --out FOLDER"
        raise UserError(f"{arguments.checkpoint}: comes with the program, with its vectors, and is not written to; for others: {copy}")
    check_writable(file.absolute().parent, probe=True, flag=str(file), wanted=file)
    model = load_model(file, weights=arguments.weights, **place_of(arguments))
    check_model(model)
    dataset = data_of(model, arguments.data, quiet=arguments.quiet, check=check_names)
    found = measure(model, dataset, arguments.split, progress=Counter("encoding images", quiet=arguments.quiet))
    save(file, found, model.weights)
    print("\n".join(table(found)))
    if found.left_out:
        print(f"left out, because no image has them or every image does: {', '.join(found.left_out)}")
    print(f"{len(found.names)} attribute vectors in {file}")
    return 0


def check_names(source: str | None) -> None:
    """Raise `UserError` unless the images there have attributes."""
    from vaegan_kernels import data

    if not data.attribute_names(source):
        raise UserError(f"--data: {source} has no attributes; give CelebA, LFW, a packed .h5 with attributes, or train on drawn faces")


def table(found: Vectors) -> list[str]:
    """A line for each attribute: how many images have it, the vector's length, the vector that points most the same way."""
    near = cosines(found.vectors) - 2 * np.eye(len(found.names))
    width = max(len(name) for name in (*found.names, "attribute"))
    lines = [f"{'attribute':{width}}  {'with':>7}  {'without':>7}  {'length':>6}  nearest other (cosine)"]
    for k, name in enumerate(found.names):
        other = int(np.argmax(near[k]))
        nearest = f"{found.names[other]} ({near[k, other]:+.2f})" if len(found.names) > 1 else "-"
        lines.append(f"{name:{width}}  {found.with_it[k]:7,}  {found.without[k]:7,}  {found.lengths[k]:6.2f}  {nearest}")
    return [
        *lines,
        f"length: in standard deviations of z over the images; two images are about {np.sqrt(2 * found.vectors.shape[1]):.0f} apart",
    ]


if __name__ == "__main__":
    sys.exit(run_main(main))
