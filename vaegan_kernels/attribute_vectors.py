"""``python -m vaegan_kernels.attribute_vectors RUN``: what an attribute does to z, kept in the run's checkpoint for `edit` and `sample`.

The vector of an attribute is the mean of mu over the training images that have it minus the mean over those that do not (section 4.1.1
of the paper). An image has an attribute whose value is above 0. N images, A attributes, L latent numbers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.cli import Parser, check_choice, close_match, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

VECTORS = "attribute_vectors/vectors"  # in a checkpoint: float32 [A, L]
NAMES = "attribute_vector_names"  # its root attribute: JSON list of the A names
COMMAND = "python -m vaegan_kernels.attribute_vectors"
BATCH = 256  # images encoded at once
STRENGTH = 1.5
Progress = Callable[[int, int], None]

EPILOG = """examples:
  python -m vaegan_kernels.attribute_vectors runs/my-run                       of the data that the run was trained on
  python -m vaegan_kernels.attribute_vectors runs/my-run --data celeba/ --split validation
  python -m vaegan_kernels.edit photo.jpg --checkpoint runs/my-run --add Smiling --remove Eyeglasses      uses them"""


@dataclass(frozen=True)
class Vectors:
    """Attribute vectors and the numbers behind them."""

    vectors: np.ndarray  # float32 [A, L]
    names: tuple[str, ...]
    with_it: np.ndarray  # int64 [A], images that have the attribute
    without: np.ndarray  # int64 [A]
    left_out: tuple[str, ...]  # attributes that no image or every image has
    deviation: float  # of one number of z over all images (aggregate posterior), root mean square over the L numbers

    @property
    def lengths(self) -> np.ndarray:
        """float64 [A]: lengths of the vectors in units of `deviation`. A whole z is about the root of L long."""
        return np.asarray(np.linalg.norm(self.vectors.astype(np.float64), axis=1) / self.deviation)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog=COMMAND, epilog=EPILOG,
        description="Compute the visual attribute vectors of a trained model and keep them in its checkpoint. Resuming drops them.",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="RUN", help="a run folder or a checkpoint.h5")
    parser.add_argument("--data", metavar="PATH", help="images with attributes (default: the data that the run was trained on)")
    parser.add_argument("--split", default="train", metavar="{train,validation,test}", help="images to take (default: train)")
    parser.add_argument("--device", default="cpu", metavar="{auto,cpu,cuda}", help="where to compute (default: cpu)")
    parser.add_argument("--threads", type=whole_number, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--quiet", action="store_true", help="print only the result and errors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)

    from vaegan_kernels import load_model
    from vaegan_kernels.data import SPLITS
    from vaegan_kernels.files import check_writable
    from vaegan_kernels.runs.run_data import data_of
    from vaegan_kernels.shell.progress import Counter

    check_choice("--split", arguments.split, SPLITS)
    file = checkpoint.find(arguments.checkpoint)
    check_writable(file.absolute().parent, probe=True, flag=str(file), wanted=file)
    model = load_model(file, device=arguments.device, threads=arguments.threads)
    check_model(model)
    dataset = data_of(model, arguments.data, quiet=arguments.quiet, check=check_names)
    found = measure(model, dataset, arguments.split, progress=Counter("encoding images", quiet=arguments.quiet))
    save(file, found)
    print("\n".join(table(found)))
    if found.left_out:
        print(f"left out, because no image has them or every image does: {', '.join(found.left_out)}")
    print(f"{len(found.names)} attribute vectors in {file}")
    return 0


def check_model(model: Model) -> None:
    """Raise `UserError` unless attribute vectors can be made of the model."""
    if not model.has_encoder:
        raise UserError(f"a model of the system {model.system} has no encoder, so images have no z and there are no attribute vectors")
    if model.attribute_names:
        raise UserError(
            "the model is conditional: its attributes are chosen with --attributes (sample, edit), it needs no attribute vectors"
        )


def check_names(source: str | None) -> None:
    """Raise `UserError` unless the images there have attributes."""
    from vaegan_kernels import data

    if not data.attribute_names(source):
        raise UserError(f"--data: {source} has no attributes; give CelebA, LFW, a packed .h5 with attributes, or train on drawn faces")


def compute(model: Model, dataset: Dataset, split: str = "train") -> tuple[np.ndarray, tuple[str, ...]]:
    """(vectors float32 [A, L], their names): mean mu of the images of ``split`` that have an attribute minus mean mu of the others.

    Attributes that no image or every image has are left out. Raises `UserError` if the data has none, or the model no encoder.
    """
    found = measure(model, dataset, split)
    return found.vectors, found.names


def measure(model: Model, dataset: Dataset, split: str = "train", progress: Progress = lambda done, total: None) -> Vectors:
    """`compute` with all its numbers. The images are encoded a batch at a time and only sums are kept."""
    check_model(model)
    indices = dataset.split(split)
    if dataset.attributes is None or not dataset.attribute_names:
        raise UserError(f"{dataset.name}: the images have no attributes; give data that has some")
    if not len(indices):
        raise UserError(f"--split {split}: {dataset.name} has no such images; choose another split")
    has = dataset.attributes[indices] > 0
    total, squares = np.zeros(model.latent), np.zeros(model.latent)
    sums = np.zeros((has.shape[1], model.latent))  # of mu over the images that have each attribute
    for start in range(0, len(indices), BATCH):
        mu, logvar = (a.astype(np.float64) for a in model.encode(dataset.images[indices[start : start + BATCH]]))
        total += mu.sum(axis=0)
        squares += (mu**2 + np.exp(logvar)).sum(axis=0)
        sums += has[start : start + BATCH].T.astype(np.float64) @ mu
        progress(min(start + BATCH, len(indices)), len(indices))
    n, count = len(indices), has.sum(axis=0)
    kept = (count > 0) & (count < n)
    if not kept.any():
        raise UserError(f"--split {split}: every attribute of {dataset.name} is the same in all its {n} images; take more or other images")
    k = count[kept][:, None]
    vectors = (sums[kept] / k - (total - sums[kept]) / (n - k)).astype(np.float32)
    names = np.array(dataset.attribute_names)
    return Vectors(
        vectors, tuple(map(str, names[kept])), count[kept], n - count[kept], tuple(map(str, names[~kept])),
        float(np.sqrt(np.mean(squares / n - (total / n) ** 2))),
    )  # fmt: skip


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


def cosines(vectors: np.ndarray) -> np.ndarray:
    """float64 [A, A]: the cosine between every two of ``vectors`` [A, L]; 0 where one has no length."""
    v = np.asarray(vectors, np.float64)
    v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
    return np.asarray(np.clip(v @ v.T, -1, 1))


def save(file: Path, found: Vectors) -> None:
    """Put the vectors into a checkpoint."""
    checkpoint.write_extra(file, {VECTORS: found.vectors}, {NAMES: json.dumps(list(found.names))})


def load(path: str | Path) -> dict[str, np.ndarray]:
    """{attribute: vector float32 [L]} of a checkpoint or run folder. Raises `UserError` if it has none."""
    file = checkpoint.find(path)
    vectors, names = checkpoint.read_extra(file, VECTORS), checkpoint.read_extra_names(file, NAMES)
    if vectors is None:
        config = checkpoint.read_header(file).config
        if config.model == "gan" or config.conditional:
            kind = "conditional" if config.conditional else f"of the system {config.model}"
            advice = "its attributes are chosen with --attributes" if config.conditional else "it has no encoder to make them with"
            raise UserError(f"{file}: no attribute vectors in it: the model is {kind}, {advice}")
        raise UserError(f"{file}: no attribute vectors in it (resuming drops them); make them with: {COMMAND} {path}")
    if vectors.ndim != 2 or len(vectors) != len(names) or not names:
        raise UserError(f"{file}: {VECTORS} has shape {vectors.shape} for {len(names)} names; make them again with: {COMMAND} {path}")
    return dict(zip(names, vectors.astype(np.float32), strict=True))


def add_edits(parser: Any) -> None:
    """Add --add, --remove and --strength."""
    for flag, what in (("--add", "added to"), ("--remove", "subtracted from")):
        text = f"attribute vectors {what} z; several with commas between, or the flag repeated"
        parser.add_argument(flag, action="append", default=[], metavar="NAME,...", help=text)
    parser.add_argument("--strength", type=float_of, metavar="X", help=f"times how much (default: {STRENGTH:g})")


def float_of(text: str) -> float:
    """argparse type: a finite number of a size that Dec can make something of."""
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from -100 to 100")
    return value


def names_of(values: Iterable[str]) -> list[str]:
    """``["Smiling,Male", "Young"]`` as three names."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def direction(vectors: dict[str, np.ndarray], add: Sequence[str], remove: Sequence[str], strength: float | None) -> np.ndarray:
    """What is added to z, [L]: strength times the sum of the vectors ``add`` minus those of ``remove`` (strength None: `STRENGTH`).

    Raises `UserError` for a name that there is no vector of, or one given twice.
    """
    for flag, names in (("--add", add), ("--remove", remove)):
        for name in names:
            if name not in vectors:
                near = close_match(name, vectors) or f"; it has {', '.join(vectors)}"
                raise UserError(f"{flag}: the checkpoint has no vector of the attribute {name!r}{near}")
    twice = [name for name in vectors if [*add, *remove].count(name) > 1]
    if twice:
        raise UserError(f"--add, --remove: {twice[0]} is given twice; give it once, --strength makes it stronger")
    parts = [vectors[name] for name in add] + [-vectors[name] for name in remove]
    return np.asarray((STRENGTH if strength is None else strength) * np.sum(parts, axis=0, dtype=np.float64))


def wording(add: Sequence[str], remove: Sequence[str], strength: float | None) -> str:
    """``"+Smiling -Eyeglasses, strength 1.5"``."""
    names = [f"+{name}" for name in add] + [f"-{name}" for name in remove]
    return f"{' '.join(names)}, strength {STRENGTH if strength is None else strength:g}"


if __name__ == "__main__":
    sys.exit(run_main(main))
