"""``python -m vaegan_kernels.experiments.attribute_vectors``: attribute vectors added to the z of test images (the paper's Fig. 5).

``attribute_vectors.png`` has every attribute at one strength, ``attribute_vectors/<name>.png`` one attribute at several, and
``attribute_correlations.png`` what comes with what: the correlation of two attributes in the data beside the cosine of their vectors.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, config_of, parse, run_of, train_flags
from vaegan_kernels.experiments.correlations import agreement, correlations, order_of, pairs_table, write_matrix
from vaegan_kernels.experiments.reconstructions import test_images
from vaegan_kernels.experiments.results import about, load_data, open_model
from vaegan_kernels.files import save_image, write_json
from vaegan_kernels.measures.attribute_vectors import Vectors, check_model, cosines, measure, save
from vaegan_kernels.measures.regressor import RegressorModel
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.sample import check_count
from vaegan_kernels.settings.edits import float_of
from vaegan_kernels.shell.cli import Parser, check_choice, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

SYSTEMS = tuple(system for system in ORDER if system != "gan")  # a GAN has no encoder

# Those of the authors' figure.
AUTHORS = (
    "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Bushy_Eyebrows", "Eyeglasses", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male",
    "Mustache", "Pale_Skin", "Rosy_Cheeks", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Lipstick", "Young",
)  # fmt: skip

EPILOG = """examples:
  python -m vaegan_kernels.experiments.attribute_vectors --data celeba/ --out results/
  python -m vaegan_kernels.experiments.attribute_vectors --data celeba/ --out results/ --no-originals      no real face in the pictures"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.attribute_vectors", epilog=EPILOG,
        description="Add the vector of each attribute to the z of test images; show which attributes come together.",
    )  # fmt: skip
    add_common(parser)
    parser.add_argument("--system", default="vaegan", metavar="NAME", help=f"one of {', '.join(SYSTEMS)} (default: vaegan)")
    parser.add_argument("--count", type=whole_number, default=6, metavar="N", help="test images, a row each (default: 6)")
    parser.add_argument("--skip", type=whole_number, default=0, metavar="N", help="leave out the first N test images (default: 0)")
    parser.add_argument("--strength", type=float_of, default=1.5, metavar="X", help="strength in the overview (default: 1.5)")
    parser.add_argument(
        "--strengths", default="-2,-1,0,1,2", metavar="X,...", help="those of the other figures (default: --strengths=-2,-1,0,1,2)"
    )
    parser.add_argument("--mean", action="store_true", help="add to mu instead of a sampled z")
    parser.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="show the test images themselves (default: on)"
    )
    text = "count with this one how often a vector makes its attribute seen (default: OUT/regressor.h5 if it is there, else not counted)"
    parser.add_argument("--regressor", metavar="FILE", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--count", arguments.count, 100)
    check_count("--skip", arguments.skip, 10**6, 0)
    check_choice("--system", arguments.system, SYSTEMS)
    strengths = strengths_of(arguments.strengths)
    check_attributes(arguments)
    regressor, out = regressor_if_any(arguments), Path(arguments.out)
    folder = run_of(arguments, arguments.system)
    dataset, model = load_data(arguments), open_model(arguments, folder)
    check_model(model)
    facts = about(arguments, dataset, [folder])
    found = measure(model, dataset)
    save(checkpoint.find(folder), found, model.weights)  # for edit and sample

    images = test_images(dataset, arguments.skip + arguments.count)[arguments.skip :]
    if not len(images):
        raise UserError(f"--skip: got {arguments.skip}, there are no more test images; expected fewer")
    z = model.latents(images, mean=arguments.mean, seed=arguments.seed)
    originals = images if arguments.originals else None
    name = f"{NAMES[arguments.system]}: attribute vectors"
    save_image(out / "attribute_vectors.png", overview(model, z, found, originals, arguments.strength, name))
    for attribute, picture in sheets(model, z, found, originals, strengths, NAMES[arguments.system]):
        path = out / "attribute_vectors" / f"{file_name(attribute)}.png"
        path.parent.mkdir(exist_ok=True)
        save_image(path, picture)

    results = compare(found, dataset)
    if regressor is not None:
        results["seen"] = seen_by(regressor, model, dataset, found, arguments.seed)
    write_matrix(out / "attribute_correlations.png", results["names"], results["label_correlation"], results["cosine"])
    write_json(
        out / "attribute_vectors.json",
        {**facts, "system": arguments.system, **results, "tables": {"attribute-vectors": pairs_table(results)}},
    )  # fmt: skip
    print(
        f"{len(found.names)} attributes in {out / 'attribute_vectors.png'} and, at {len(strengths)} strengths, {out / 'attribute_vectors'}/"
    )
    print(f"which come together: {out / 'attribute_correlations.png'}, {out / 'attribute_vectors.json'}")
    return 0


def regressor_if_any(arguments: argparse.Namespace) -> RegressorModel | None:
    """--regressor, or OUT/regressor.h5 if it is there and complete, else None."""
    from vaegan_kernels.measures.regressor import load_regressor

    try:
        return load_regressor(arguments.regressor or Path(arguments.out) / "regressor.h5", **place_of(arguments))
    except UserError:
        if arguments.regressor:
            raise
        return None


def check_regressor(regressor: RegressorModel, dataset: Dataset, names: Sequence[str]) -> None:
    """Raise `UserError` unless the regressor can judge images like those of ``dataset``, and knows the attributes ``names``."""
    own, shape = regressor.attribute_names, tuple(dataset.images.shape[1:])
    foreign = [name for name in names if name not in own] or [name for name in own if name not in dataset.attribute_names]
    if foreign or regressor.image_shape != shape:
        what = (
            f"the attribute {foreign[0]} is not in both" if foreign else f"its images have the shape {regressor.image_shape}, these {shape}"
        )
        raise UserError(f"--regressor: it was trained on other data ({what}); leave it out, or give one trained on these")


def seen_by(regressor: RegressorModel, model: Model, dataset: Dataset, found: Vectors, seed: int) -> dict[str, Any]:
    """`quality.vector_accuracy` on the test images (at most 500) with the attributes that the regressor knows."""
    from vaegan_kernels.measures.quality import COUNT, vector_accuracy
    from vaegan_kernels.pictures.artist import held_out

    check_regressor(regressor, dataset, ())
    test = held_out(dataset)[:COUNT]
    attributes = dataset.attributes_of(regressor.attribute_names)[test]
    return vector_accuracy(
        model, regressor, dataset.images[test], attributes, dict(zip(found.names, found.vectors, strict=True)), seed=seed
    )


def check_attributes(arguments: argparse.Namespace) -> None:
    """Raise `UserError` before any training if the data has no attributes."""
    from vaegan_kernels.data import attribute_names

    if not attribute_names(config_of(train_flags(arguments)).data):
        raise UserError(f"--data: {arguments.data} has no attributes; give CelebA, LFW or a packed .h5 with attributes")


def strengths_of(text: str) -> list[float]:
    """``"-2,-1,0"`` as numbers. Raises `UserError` for anything else."""
    try:
        values = [float_of(part) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--strengths: {error}, several with commas between: -2,-1,0,1,2") from None
    return values


def file_name(attribute: str) -> str:
    """An attribute as the name of a file: of its letters, digits, dashes and underscores."""
    return re.sub(r"[^\w-]+", "_", attribute)


def words(attribute: str) -> str:
    """An attribute as it is written in a figure: ``Wearing_Hat`` as "Wearing Hat"."""
    return attribute.replace("_", " ")


def overview(
    model: Model, z: np.ndarray, found: Vectors, originals: np.ndarray | None, strength: float, title: str
) -> Any:  # fmt: skip
    """A row for each image and a column for each attribute, in blocks of columns; the authors' attributes first."""
    from vaegan_kernels.pictures.figures import to_uint8
    from vaegan_kernels.pictures.labelled_grid import labelled_grid, stacked

    left = [] if originals is None else [("original", to_uint8(originals))]
    left.append(("rebuilt", to_uint8(model.decode(z))))
    parts: list[Any] = []
    for block in blocks(found.names):
        edited = [to_uint8(model.decode(z + strength * found.vectors[found.names.index(name)])) for name, _ in block]
        images = np.stack([*(series for _, series in left), *edited], axis=1)
        columns = [*(name for name, _ in left), *(words(name) for name, _ in block)]
        name, note = ("", "") if parts else (title, f"strength {strength:g}")
        heads = headings(block, len(left))
        parts.append(labelled_grid(images.reshape(-1, *images.shape[2:]), columns, title=name, note=note, gaps=[len(left)], heads=heads))
    return stacked(parts)


def blocks(names: Sequence[str], most: int = 11) -> list[list[tuple[str, str]]]:
    """Blocks of nearly equally many (attribute, heading), at most ``most``: the authors' attributes, then the others.

    No headings where the data has few of the authors' attributes.
    """
    theirs = [name for name in AUTHORS if name in names]
    if len(theirs) < len(AUTHORS) / 2:
        row = [(name, "") for name in names]
    else:
        row = [(name, "the authors' attributes") for name in theirs]
        row += [(name, "others") for name in names if name not in AUTHORS]
    count = -(-len(row) // most)
    return [row[k * len(row) // count : (k + 1) * len(row) // count] for k in range(count)]


def headings(block: Sequence[tuple[str, str]], first: int) -> list[tuple[int, int, str]]:
    """(first column, last column, heading) of each heading of a block that begins at column ``first``."""
    texts = [text for _, text in block]
    spans = [(text, texts.index(text), len(texts) - 1 - texts[::-1].index(text)) for text in dict.fromkeys(texts) if text]
    return [(first + start, first + end, text) for text, start, end in spans]


def sheets(
    model: Model, z: np.ndarray, found: Vectors, originals: np.ndarray | None, strengths: Sequence[float], title: str
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """(attribute, figure) of each attribute: a row for each image, a column for each strength."""
    from vaegan_kernels.pictures.figures import to_uint8
    from vaegan_kernels.pictures.labelled_grid import labelled_grid

    left = [] if originals is None else [to_uint8(originals)]
    columns = [*(["original"] if left else []), *(f"{strength:+g}" if strength else "rebuilt" for strength in strengths)]
    for name, vector in zip(found.names, found.vectors, strict=True):
        series = [to_uint8(model.decode(z + strength * vector)) for strength in strengths]
        images = np.stack([*left, *series], axis=1)
        k = found.names.index(name)
        note = f"{title}; {found.with_it[k]:,} of {found.with_it[k] + found.without[k]:,} training images have it"
        yield name, labelled_grid(images.reshape(-1, *images.shape[2:]), columns, title=words(name), note=note, gaps=[len(left)])


def compare(found: Vectors, dataset: Dataset) -> dict[str, Any]:
    """The numbers of the correlations, attributes ordered so that those that come together lie together."""
    has = dataset.attributes_of(found.names)[dataset.split("train")] > 0
    labels = correlations(has)
    cosine = cosines(found.vectors)
    order = order_of(labels + cosine)
    labels, cosine = labels[np.ix_(order, order)], cosine[np.ix_(order, order)]
    return {
        "names": [found.names[k] for k in order],
        "with": found.with_it[order],
        "without": found.without[order],
        "length": found.lengths[order].round(4),
        "left_out": found.left_out,
        "agreement": agreement(labels, cosine),
        "label_correlation": labels.round(4),
        "cosine": cosine.round(4),
    }


if __name__ == "__main__":
    sys.exit(run_main(main))
