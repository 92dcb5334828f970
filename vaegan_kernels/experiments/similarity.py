"""The numbers of Table 2: how far the attributes that a regressor sees are from those that were asked for. N images, A attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaegan_kernels.experiments.tables import markdown, spread

PAPER = {  # LFW, 73 real-valued attributes: cosine similarity, mean squared error
    "test set": ("0.9193", "14.20"),
    "VAE": ("0.9030", "27.59 ± 1.42"),
    "GAN": ("0.8892", "27.89 ± 3.07"),
    "VAE/GAN": ("0.9114", "22.39 ± 1.16"),
}


def squared_errors(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [N]: squared differences of two [N, A], summed over the attributes."""
    return np.asarray(((np.asarray(predicted, np.float64) - targets) ** 2).sum(axis=1))


def cosine_rows(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [N]: the cosine between the rows of two [N, A]; 0 where one has no length."""
    a, b = np.asarray(predicted, np.float64), np.asarray(targets, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))


def described(names: Sequence[str], row: np.ndarray, most: int = 12) -> str:
    """The attributes of ``row`` [A] that are present (above 0), in the data's order; of more than ``most`` the largest values."""
    present = np.flatnonzero(np.asarray(row) > 0)
    if len(present) > most and len(np.unique(np.asarray(row)[present])) > 1:  # real-valued
        present = np.sort(present[np.argsort(-np.asarray(row)[present], kind="stable")[:most]])
    return ", ".join(names[int(k)].replace("_", " ") for k in present) or "none"


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]], repeats: int) -> str:
    """Markdown: a line for each of ``rows`` beside the paper's numbers, and what must be known to read it.

    A row is a system's models, each with its numbers of ``repeats`` runs of samples: ± is the deviation over the models' means, or over
    the runs of a single one.
    """
    lines = [
        [
            name,
            spread([model["cosine"] for model in models], 4),
            spread(of_models([model["mse"][:repeats] for model in models]), 4),
            spread(of_models([model["other_mse"][:repeats] for model in models]), 4),
            *PAPER.get(name, ("–", "–")),
        ]
        for name, models in rows.items()
    ]
    header = ["", "cosine, best", "squared error", "against another's attributes", "paper's cosine (LFW)", "paper's squared error (LFW)"]
    most = max(map(len, rows.values()))
    over = f"{most} models, each the mean of {repeats} runs of samples" if most > 1 else f"{repeats} runs of samples"
    return markdown(header, lines) + (
        f"\n\n± is over {over}. "
        "The paper's numbers are of other data, LFW's 73 real-valued attributes, and cannot be compared with these in size. "
        "*Training mean* is the mean attributes of the training images for every test image: what can be had without looking. "
        "*Against another's attributes*: the error of the same samples against the attributes of another test image; where it is no "
        "larger, samples do not listen to what they are given."
    )


def of_models(runs: Sequence[Sequence[float]]) -> Sequence[float]:
    """The means of several models' runs; of one model its runs."""
    return runs[0] if len(runs) == 1 else [sum(values) / len(values) for values in runs]
