"""What the explorer's page is told of a model, by the server or in a page of its own."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model, load_model


def text_of(array: np.ndarray) -> str:
    """Float32 numbers as base64, lowest byte first: the same bits in the page."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """What the page calls the runs: as much of the ends of their paths as differs, and a number where they are the same."""
    parts = [Path(path).resolve().parts if Path(path).exists() else (str(path),) for path in paths]
    length = 1
    while len({one[-length:] for one in parts}) < len(set(parts)):
        length += 1
    names = ["/".join(one[-length:]) for one in parts]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def load(path: str | Path, weights: str | None, **place: Any) -> tuple[Model, dict[str, np.ndarray]]:
    """(the model, its attribute vectors, {} if there are none). With vectors, ``weights`` None means those that they were made with.

    Raises `UserError` as `load_model` and `attribute_vectors.weights_of`.
    """
    file, vectors = checkpoint.find(path), {}
    if checkpoint.read_extra_names(file, attribute_vectors.NAMES):
        vectors, weights = attribute_vectors.load(file), attribute_vectors.weights_of(file, weights)
    return load_model(file, weights=weights, **place), vectors


def describe(model: Model, vectors: dict[str, np.ndarray]) -> dict[str, Any]:
    """A model and its attribute vectors, as JSON."""
    names = model.attribute_names
    return {
        "step": model.header.step, "size": model.image_shape[0], "channels": model.image_shape[2], "latent": model.latent,
        "system": model.system, "weights": model.weights, "encoder": model.has_encoder,
        "vectors": list(vectors), "directions": text_of(np.array(list(vectors.values()))),
        "condition": list(names), "examples": text_of(model._examples),
        "mean": text_of(model.mean_attributes() if names else np.empty(0)), "data": model.header.data_name,
    }  # fmt: skip
