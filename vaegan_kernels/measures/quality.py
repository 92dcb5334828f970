"""How good a system is, without any download: measures of its reconstructions, its samples and its attribute vectors.

A regressor (`measures.regressor`), trained on the attributes of real images, is the judge of what images show. `measure` has all
of it. N images, S pixels a side, C channels, A attributes, L latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.measures.quality_faces import diverse_faces as diverse_faces
from vaegan_kernels.measures.quality_images import (
    as_float,
    colour_noise,
    frechet,
    mean_distance,
    mean_image_error,
    pixel_mse,
    ratio,
    sharpness,
    ssim,
)
from vaegan_kernels.measures.regressor import RegressorModel
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.errors import UserError

COUNT = 500  # images, and as many samples, at the most


def dis_l_distance(model: Model, a: Any, b: Any) -> float:
    """The learned metric between images a and b [N, S, S, C]: the root of the mean squared difference of ``model``'s Dis_l (running
    statistics), a mean over images. Distances in two models' Dis_l do not compare."""
    difference = np.asarray(model.features(a), np.float64) - model.features(b)
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def attribute_similarity(
    model: Model, regressor: RegressorModel, attributes: np.ndarray, *, samples: int = 10, seed: int = 0
) -> dict[str, float] | None:  # fmt: skip
    """Table 2 for one conditional model: what the regressor reads off images that were generated for ``attributes`` [N, A].

    Returns {"cosine": of the best of ``samples`` images an attribute vector, "mse": squared error summed over attributes, a mean over
    vectors and samples}; None for a model that is not conditional. Columns are the model's attributes.
    """
    if not model.attribute_names:
        return None
    columns = [regressor.attribute_names.index(name) for name in model.attribute_names]
    wanted = np.asarray(attributes, np.float64)
    best, errors = np.full(len(wanted), -1.0), []
    for k in range(samples):
        images = model.decode(model.prior(len(wanted), seed + k), attributes)
        seen = np.asarray(regressor.predict(images), np.float64)[:, columns]
        lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(wanted, axis=1)
        best = np.maximum(best, (seen * wanted).sum(axis=1) / np.maximum(lengths, 1e-12))
        errors.append(((seen - wanted) ** 2).sum(axis=1).mean())
    return {"cosine": float(best.mean()), "mse": float(np.mean(errors))}


def vector_accuracy(
    model: Model, regressor: RegressorModel, images: np.ndarray, attributes: np.ndarray, vectors: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Does adding an attribute's vector to z make the regressor see the attribute, and how far do the others move?

    For each attribute the images without it are rebuilt from a sampled z, once as it is and once with the vector added, strength 1.
    Attributes that have no vector, or that all of the images have, are left out.

    Args:
        images: uint8 [N, S, S, C]; attributes: [N, A], columns as ``regressor.attribute_names``; vectors: {name: [L]}.

    Returns: {"attributes": {name: {"seen_before", "seen": shares of images in which the regressor sees it (a score above 0), "moved":
    share in which it sees it now and did not before, "change": mean change of its score, "others": mean absolute change of the other
    scores}}, and the means of these five over the attributes}.
    """
    z = model.latents(images, seed=seed)
    before = np.asarray(regressor.predict(model.decode(z)), np.float64)
    rows: dict[str, dict[str, float]] = {}
    for column, name in enumerate(regressor.attribute_names):
        without = attributes[:, column] <= 0
        if name not in vectors or not without.any():
            continue
        after = np.asarray(regressor.predict(model.decode(z[without] + vectors[name])), np.float64)
        change = after - before[without]
        rows[name] = {
            "seen_before": float((before[without, column] > 0).mean()),
            "seen": float((after[:, column] > 0).mean()),
            "moved": float(((after[:, column] > 0) & (before[without, column] <= 0)).mean()),
            "change": float(change[:, column].mean()),
            "others": float(np.abs(np.delete(change, column, axis=1)).mean()) if change.shape[1] > 1 else 0.0,
        }
    keys = ("seen_before", "seen", "moved", "change", "others") if rows else ()
    means = {key: float(np.mean([row[key] for row in rows.values()])) for key in keys}
    return {**means, "attributes": rows}


def check_fit(model: Model, dataset: Dataset, regressor: RegressorModel) -> None:
    """Raise `UserError` if ``dataset`` or ``regressor`` cannot measure ``model``."""
    if regressor.image_shape != tuple(dataset.images.shape[1:]):
        raise UserError(
            f"regressor: it reads images of {regressor.image_shape}, these have {dataset.images.shape[1:]}; train one of that size"
        )
    for name in model.attribute_names:
        for what, names in (("data", dataset.attribute_names), ("regressor", regressor.attribute_names)):
            if name not in names:
                raise UserError(f"the model's condition has {name}, the {what} has not; give the {what} of the run")


def measure(
    model: Model, dataset: Dataset, regressor: RegressorModel, *, metric: Model | None = None,
    vectors: Mapping[str, np.ndarray] | None = None, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Every measure of one system on the test images (at most 500 of them); None where it lacks what it needs, or there are too few.

    Args:
        model: a `vaegan_kernels.runs.inference.Model`; dataset: a `vaegan_kernels.data.Dataset`; regressor: a `RegressorModel`.
        metric: the model in whose Dis_l distances are taken; None: the model's own, if it has a Dis.
        vectors: {attribute: [L]} for `vector_accuracy`; None: made from the training images, where there is an Enc.

    Returns: "rebuilt" (from a sampled z) and "rebuilt_mean" (z = μ), each {"mse", "ssim", "dis_l", "sharpness"}; "mean_image_mse";
    "sharpness", "colour_noise" and "pixel_diversity" (`mean_distance`) of samples, over those of real images, None where real images
    have none; "frechet" of samples, and "frechet_rebuilt" and "frechet_real" (as many training images: the floor, well above 0 where
    there are not many more images than features) beside it; "features", how many the regressor has;
    "attribute_similarity" (conditional models); "attribute_vectors" (`vector_accuracy`, not for conditional ones,
    nor where the data lacks an attribute of the regressor's). Raises `UserError` in one line for data or a regressor that does not fit.
    """
    from vaegan_kernels.pictures.artist import held_out

    test, train = held_out(dataset)[:COUNT], dataset.split("train")
    check_fit(model, dataset, regressor)
    real = dataset.images[test]
    known = dataset.attributes is not None and set(regressor.attribute_names) <= set(dataset.attribute_names)
    given = dataset.attributes_of(model.attribute_names)[test] if model.attribute_names else None
    metric = metric if metric is not None else model if model.has_discriminator else None
    seen = regressor.features(real)
    samples = model.sample(max(2, len(real)), seed=seed)
    result: dict[str, Any] = {
        "images": len(real),
        "features": seen.shape[1],
        "mean_image_mse": mean_image_error(dataset.images[train[:5120]], real),
        "rebuilt": None,
        "rebuilt_mean": None,
        "sharpness": sharpness(samples, real),
        "colour_noise": ratio(colour_noise(samples), colour_noise(real)),
        "pixel_diversity": ratio(mean_distance(samples), mean_distance(as_float(real))),
        "frechet": _distance(regressor.features(samples), seen),
        "frechet_rebuilt": None,
        "frechet_real": _distance(regressor.features(dataset.images[train[: len(real)]]), seen) if len(train) else None,
        "attribute_similarity": attribute_similarity(model, regressor, given, seed=seed) if given is not None else None,
        "attribute_vectors": None,
    }
    if model.has_encoder:
        for name, mean in (("rebuilt", False), ("rebuilt_mean", True)):
            rebuilt = model.reconstruct(real, mean=mean, seed=seed, attributes=given)
            result[name] = {
                "mse": pixel_mse(rebuilt, real),
                "ssim": ssim(rebuilt, real),
                "dis_l": dis_l_distance(metric, rebuilt, real) if metric is not None else None,
                "sharpness": sharpness(rebuilt, real),
            }
            if not mean:
                result["frechet_rebuilt"] = _distance(regressor.features(rebuilt), seen)
        if known and not model.attribute_names:
            labels = dataset.attributes_of(regressor.attribute_names)[test]
            vectors = _vectors(model, dataset) if vectors is None else vectors
            moved = vector_accuracy(model, regressor, real, labels, vectors, seed=seed)
            result["attribute_vectors"] = moved if moved["attributes"] else None
    return result


def _distance(a: np.ndarray, b: np.ndarray) -> float | None:
    return frechet(a, b) if min(len(a), len(b)) > 1 else None


def _vectors(model: Model, dataset: Dataset) -> dict[str, np.ndarray]:
    """Those of the training images; none where they cannot be made: no image, or all have the same attributes."""
    from vaegan_kernels.measures.attribute_vectors import compute

    try:
        made, names = compute(model, dataset)
    except UserError:
        return {}
    return dict(zip(names, made, strict=True))
