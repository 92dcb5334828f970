"""The regressor: a network, almost Enc, that reads the attributes of a face off its image (section 4.2).

It judges what the systems generate: attributes of samples, the effect of attribute vectors, and with its features Fréchet distances.
N images, A attributes, U units of the FC layer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.networks import network as network_spec
from models.regressor import Regressor
from models.supervised import INFERENCE_IMAGES
from vaegan_kernels.files import check_writable, nearest_existing, write_atomically
from vaegan_kernels.pictures.artist import held_out
from vaegan_kernels.runs import checkpoint, regressor_file
from vaegan_kernels.runs.regressor_file import Header
from vaegan_kernels.runs.supervised import RATE, Schedule, train_steps
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import open_engine
from vaegan_kernels.shell.errors import UserError

STEPS, BATCH = 2000, 32
PIECE = 16 * INFERENCE_IMAGES  # test images that are looked at together: there may be more of them than memory
SAVE_EVERY = 500


class RegressorModel:
    """A trained regressor. Attributes: ``header``, ``attribute_names``, ``image_shape`` (S, S, C)."""

    def __init__(self, network: Regressor, header: Header) -> None:
        self.network, self.header = network, header
        self.attribute_names = header.attribute_names
        self.image_shape = (network.spec.image_size, network.spec.image_size, network.spec.channels)

    def predict(self, images: Any) -> np.ndarray:
        """[N, A]: the attributes of ``images`` [N, S, S, C], uint8 or float in [-1, 1]. Raises ValueError for a wrong shape."""
        return self.network.predict(self._images(images))

    def features(self, images: Any) -> np.ndarray:
        """[N, U]: the FC layer's units after their ReLU."""
        return self.network.features(self._images(images))

    def _images(self, images: Any) -> np.ndarray:
        array = np.asarray(images)
        if array.shape[1:] != self.image_shape:
            raise ValueError(f"images: got shape {array.shape}, expected [N, {', '.join(map(str, self.image_shape))}]: the regressor's")
        wide = self.network.engine.wide
        return np.ascontiguousarray(array.astype(wide) / 127.5 - 1 if array.dtype == np.uint8 else array, wide)


def load_regressor(path: str | Path, *, device: str = "cpu", **place: Any) -> RegressorModel:
    """The regressor in ``path``. ``place``: engine, threads and say, as of `load_model`.

    Raises `UserError` in one line for a file that is missing, damaged, foreign, or not trained to its end.
    """
    path = Path(path)
    header = regressor_file.read_header(path)
    if header.step < header.steps:
        raise UserError(f"{path}: trained for {header.step} of {header.steps} steps; run the command that made it again to resume")
    network = _network(header, device, **place)
    state = {name: network.engine.to_numpy(array) for name, array in network.state_arrays().items()}
    used = {name: array for name, array in state.items() if not name.startswith("optimizer/")}
    network.load_state({**state, **checkpoint.read_arrays(path, used, cast=True, partly=True)})
    return RegressorModel(network, header)


def train_regressor(
    dataset: Any, *, out: str | Path, network: str = Config.network, steps: int = STEPS, batch_size: int = BATCH,
    learning_rate: float = RATE, seed: int = 0, encoder_units: int | None = None, device: str = "auto", quiet: bool = False, **place: Any,
) -> Path:  # fmt: skip
    """Train on the training images of ``dataset`` until ``out`` is complete; resume what it holds, return at once if nothing is left.
    ``place``: engine, threads and say, as of `load_model`.

    Returns ``out``; the report on the test images is in it, and in a .json beside it. Raises `UserError` for data without attributes and
    for a file of other settings; SystemExit, saved, for Ctrl-C.
    """
    out = Path(out)
    if dataset.attributes is None or not len(dataset.attribute_names):
        raise UserError(f"{dataset.name}: the images have no attributes; a regressor needs data with attributes, such as CelebA's")
    train = dataset.split("train")
    if batch_size > len(train):
        raise UserError(f"--batch-size: got {batch_size}, but the training split has only {len(train)} images; use a smaller batch")
    channels = dataset.images.shape[3]
    header = Header(
        network, channels, dataset.attribute_names, steps, batch_size, float(learning_rate), seed, dataset.fingerprint, dataset.name,
        encoder_units,
    )  # fmt: skip
    if network_spec(network).image_size != dataset.images.shape[1]:
        raise UserError(f"--network: {network} is for images of {network_spec(network).image_size} pixels, got {dataset.images.shape[1]}")
    kept = None
    if out.exists():
        kept = regressor_file.read_header(out)
        for name, value in header.asked().items():
            if kept.asked()[name] != value and name != "data_name":
                raise UserError(f"{out}: the regressor there has {name} {kept.asked()[name]}, asked for is {value}; give another file")
        if kept.step == steps and kept.report:
            if not out.with_suffix(".json").exists():
                write_report(out, kept.report)
            return out
    check_writable(nearest_existing(out.parent), probe=True, flag="--out", wanted=out)
    model = _network(header, device, **place)
    if kept is not None:
        model.load_state(checkpoint.read_arrays(out, model.state_arrays()))
    _train(model, dataset, train, header, out, kept.step if kept else 0, quiet)
    report = test_report(RegressorModel(model, header), dataset)
    _save(out, model, dataclasses.replace(header, step=steps, report=report))
    write_report(out, report)
    return out


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Write the report beside ``out`` as .json."""
    text = json.dumps(report, indent=2) + "\n"
    write_atomically(out.with_suffix(".json"), lambda file: file.write(text.encode()))


def _network(
    header: Header, device: str, *, engine: str = "auto", threads: int | None = None, say: Callable[[str], None] | None = None
) -> Regressor:
    opened, _ = open_engine(Config(device=device, engine=engine, threads=threads), say)
    spec = network_spec(header.network, channels=header.channels, encoder_units=header.encoder_units)
    return Regressor(opened, spec, len(header.attribute_names), seed=header.seed)


def _save(out: Path, model: Regressor, header: Header) -> None:
    regressor_file.save(out, {name: model.engine.to_numpy(array) for name, array in model.state_arrays().items()}, header)


def _train(model: Regressor, dataset: Any, train: np.ndarray, header: Header, out: Path, step: int, quiet: bool) -> None:
    train_steps(
        model, dataset.images, dataset.attributes_of(header.attribute_names), train,
        Schedule(header.steps, header.batch_size, header.learning_rate, header.seed), what="the regressor",
        save=lambda done: _save(out, model, dataclasses.replace(header, step=done)), every=SAVE_EVERY, step=step, quiet=quiet,
        stopped=lambda done: f"saved at step {done} of {header.steps} in {out}; run the same command again to resume",
    )  # fmt: skip


def test_report(model: RegressorModel, dataset: Any) -> dict[str, Any]:
    """How well each attribute is read off images that were not trained on: {"images", "mse", "accuracy", …, "attributes": {name: …}}.

    An image has an attribute whose value is above 0. Balanced accuracy is the mean of the shares of images with it and of images without
    it that are recognised: 0.5 for a constant answer, however rare the attribute. mse is summed over attributes, a mean over images.
    """
    test = held_out(dataset)
    wanted = dataset.attributes_of(model.attribute_names)[test].astype(np.float64)
    pieces = [model.predict(dataset.images[test[start : start + PIECE]]) for start in range(0, len(test), PIECE)]
    seen = np.concatenate(pieces).astype(np.float64)
    rows = {name: scores(seen[:, i], wanted[:, i]) for i, name in enumerate(model.attribute_names)}
    means = {key: float(np.mean([row[key] for row in rows.values() if row[key] is not None] or [0.0])) for key in SCORES}
    return {"images": len(test), "mse": float(((seen - wanted) ** 2).sum(axis=1).mean()), **means, "attributes": rows}


test_report.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest's

SCORES = ("accuracy", "balanced_accuracy", "correlation")


def scores(seen: np.ndarray, wanted: np.ndarray) -> dict[str, float | None]:
    """Of one attribute, [N] predicted and [N] true. None where the true values leave a number undefined."""
    right, has = (seen > 0) == (wanted > 0), wanted > 0
    varied = wanted.std() > 0 and seen.std() > 0
    return {
        "share": float(has.mean()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((right[has].mean() + right[~has].mean()) / 2) if 0 < has.sum() < len(has) else None,
        "correlation": float(np.corrcoef(seen, wanted)[0, 1]) if varied else None,
    }
