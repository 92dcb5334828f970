"""What an attribute does to z, kept in the run's checkpoint for `edit` and `sample`.

The vector of an attribute is the mean of mu over the training images that have it minus the mean over those that do not (section 4.1.1
of the paper). An image has an attribute whose value is above 0. N images, A attributes, L latent numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.errors import UserError

VECTORS = "attribute_vectors/vectors"  # in a checkpoint: float32 [A, L]
NAMES = "attribute_vector_names"  # its root attribute: JSON list of the A names
WEIGHTS = "attribute_vector_weights"  # its root attribute: "average" or "raw", of the model that they were made with
COMMAND = "python -m vaegan_kernels.attribute_vectors"
BATCH = 256  # images encoded at once
Progress = Callable[[int, int], None]


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


def check_model(model: Model) -> None:
    """Raise `UserError` unless attribute vectors can be made of the model."""
    if not model.has_encoder:
        raise UserError(f"a model of the system {model.system} has no encoder, so images have no z and there are no attribute vectors")
    if model.attribute_names:
        raise UserError(
            "the model is conditional: its attributes are chosen with --attributes (sample, edit), it needs no attribute vectors"
        )


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


def cosines(vectors: np.ndarray) -> np.ndarray:
    """float64 [A, A]: the cosine between every two of ``vectors`` [A, L]; 0 where one has no length."""
    v = np.asarray(vectors, np.float64)
    v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
    return np.asarray(np.clip(v @ v.T, -1, 1))


def save(file: Path, found: Vectors, weights: str) -> None:
    """Put the vectors, made with a model's ``weights``, into its checkpoint."""
    checkpoint.write_extra(file, {VECTORS: found.vectors}, attributes(found.names, weights))


def attributes(names: Iterable[str], weights: str) -> dict[str, str]:
    """The root attributes of a checkpoint that has vectors called ``names``."""
    return {NAMES: json.dumps(list(names)), WEIGHTS: weights}


def weights_of(path: str | Path, asked: str | None = None) -> str:
    """The weights that the vectors of a checkpoint or run folder were made with: with others, z has another meaning.

    Raises `UserError` where others are ``asked`` for.
    """
    file = checkpoint.find(path)
    own = checkpoint.read_text(file, WEIGHTS) or "raw"  # before there were averages
    if asked not in (None, own):
        again = f"make them again with: {COMMAND} {path} --weights {asked}"
        raise UserError(f"--weights {asked}: the attribute vectors in {file} were made with --weights {own}; leave it out, or {again}")
    return own


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
