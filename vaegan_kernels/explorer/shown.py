"""A run as the explorer shows it: its model, what can be done with z, the map of its data, what its training has written.

Axes: N images, S pixels a side, C channels, L latent numbers, A attributes of a conditional model, V attribute vectors.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.explorer import about
from vaegan_kernels.explorer.training import Training
from vaegan_kernels.explorer.worker import Worker
from vaegan_kernels.pictures.figures import to_uint8
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.run_data import data_of
from vaegan_kernels.shell.errors import UserError

ON_THE_MAP = 1500  # images at the most
BATCH = 250  # of them are encoded at once, between what others ask for


class Shown:
    """A run. Whatever computes is called on the worker's thread; ``file``, ``training`` and the map are read on any."""

    def __init__(self, path: str, worker: Worker, *, data: str | None, weights: str | None, place: dict[str, Any]) -> None:
        self.path, self.worker, self.data, self.weights, self.place = path, worker, data, weights, place
        training = Training(Path(path)) if Path(path).is_dir() else None
        self.training = training if training and training.begun else None
        self.name = about.names_of([path])[0]
        self.model: Model | None = None
        self.vectors: dict[str, np.ndarray] = {}
        self.version = 0  # goes up with each checkpoint that was read
        self.problem = ""  # with the last one, in one line
        self._seen: tuple[int, int] | None = None  # of the checkpoint that was read last: when it was written, its size
        self._refused: UserError | None = None  # why that could not be read
        self._map: dict[str, Any] | None = None
        self._points: tuple[np.ndarray, ...] = ()  # of the map: images [N, S, S, C], mu [N, L], attributes [N, A]
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the checkpoint if it is another than was read last. Raises `UserError`, also for a run that has saved none yet."""
        file = checkpoint.find(self.path)
        state = file.stat()
        if self._seen == (state.st_mtime_ns, state.st_size):
            if self._refused is not None:
                raise self._refused
            return
        self._seen, self._refused = (state.st_mtime_ns, state.st_size), None
        try:
            self.model, self.vectors = about.load(file, self.weights, **self.place)
        except UserError as error:
            self._refused = error
            raise
        self.version += 1
        with self._lock:
            self._map = None  # it was of another mu

    def follow(self) -> None:
        """`load`, where a run in training may have saved anew; a problem is kept, not raised."""
        try:
            self.load()
            self.problem = ""
        except UserError as error:
            young = self.training is not None and self._seen is None  # a run that has saved nothing so far
            self.problem = "no checkpoint yet" if young else str(error)

    def about(self) -> dict[str, Any]:
        """What the page must know of it: JSON."""
        found = {"name": self.name, "version": self.version, "training": self.training is not None, "problem": self.problem}
        return found if self.model is None else found | about.describe(self.model, self.vectors)

    def known(self) -> Model:
        """The model. Raises `UserError` while there is none."""
        if self.model is None:
            raise UserError(self.problem or "no checkpoint yet")
        return self.model

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Images uint8 [N, S, S, 3] of z with attributes behind it, float32 [N, L + A]. Raises ValueError as `Model.decode`."""
        model = self.known()
        return to_uint8(model.decode(rows[:, : model.latent], rows[:, model.latent :] if model.attribute_names else None))

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(uint8 [S, S, 3], mu float32 [L], the mean attributes [A] that a conditional model was given) of ``image``, uint8 [S, S, C].

        Raises `UserError` for a model without an encoder, ValueError for an image of another model.
        """
        model = self.known()
        mean = model.mean_attributes() if model.attribute_names else np.empty(0, np.float32)
        mu = model.encode(image[None], mean[None] if len(mean) else None)[0][0]
        return to_uint8(image[None])[0], np.asarray(mu, np.float32), mean

    def map(self) -> dict[str, Any]:
        """The map of the data, as JSON: ``done`` (0 to 1), an ``error``, or x, y [N] and the ``attributes``, {name: [N] of 0 and 1}.

        The first call begins to make it, beside what else is asked for.
        """
        with self._lock:
            if self._map is None:
                self._map = {"done": 0.0}
                threading.Thread(target=self._draw_map, args=(self._map, self.known()), name="map", daemon=True).start()
            return self._map

    def point(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(uint8 [S, S, 3], mu float32 [L], attributes [A]) of an image on the map. Raises `UserError` for one that is not there."""
        with self._lock:
            points = self._points if self._map is not None and "x" in self._map else ()
        count = len(points[0]) if points else 0
        if not 0 <= index < count:
            raise UserError(f"index: got {index}, the map has {count} images")
        images, mu, given = points
        return to_uint8(images[index : index + 1])[0], mu[index], given[index]

    def _draw_map(self, state: dict[str, Any], model: Model) -> None:
        points: tuple[np.ndarray, ...] = ()
        try:
            found, points = self._mapped(state, model)
        except Exception as error:
            found = {"error": " ".join(str(error).split()) or type(error).__name__}
        with self._lock:
            if self._map is state:  # else another checkpoint was read meanwhile
                self._map, self._points = found, points

    def _mapped(self, state: dict[str, Any], model: Model) -> tuple[dict[str, Any], tuple[np.ndarray, ...]]:
        if not model.has_encoder:
            raise UserError(f"a model of the system {model.system} has no encoder, so images have no place on a map")
        dataset = data_of(model, self.data, quiet=True, limit=ON_THE_MAP)
        absent = [name for name in model.attribute_names if name not in dataset.attribute_names]
        if absent:
            raise UserError(f"{dataset.name} has no attribute {absent[0]!r}, which the model is given; --data takes other images")
        given = dataset.attributes_of(model.attribute_names)  # [N, 0] where the model takes none
        parts = []
        for start in range(0, len(dataset), BATCH):
            rows = slice(start, start + BATCH)
            encoded = lambda rows=rows: model.encode(dataset.images[rows], given[rows] if given.shape[1] else None)  # noqa: E731
            parts.append(self.worker.call(encoded)[0])
            state["done"] = min(1.0, (start + BATCH) / len(dataset))
        mu = np.concatenate(parts).astype(np.float32)
        x, y = principal(mu).T
        values = np.empty((len(mu), 0)) if dataset.attributes is None else dataset.attributes
        columns = {name: (values[:, k] > 0).astype(int).tolist() for k, name in enumerate(dataset.attribute_names)}
        found = {"x": x.round(4).tolist(), "y": y.round(4).tolist(), "attributes": columns, "data": dataset.name}
        return found, (np.asarray(dataset.images), mu, given)


def principal(mu: np.ndarray) -> np.ndarray:
    """float64 [N, 2]: ``mu`` [N, L] along its two principal components; zeros where there is but one number or image."""
    centred = mu.astype(np.float64) - mu.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    found = centred @ directions.T
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
