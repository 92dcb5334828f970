"""How good a system is, without any download: measures of its reconstructions, its samples and its attribute vectors.

A regressor (`vaegan_kernels.regressor`), trained on the attributes of real images, is the judge of what images show. `measure` has all
of it. N images, S pixels a side, C channels, A attributes, L latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vaegan_kernels.evaluate import mean_distance
from vaegan_kernels.quality_images import as_float, frechet, laplacian_variance, pixel_mse, ssim

COUNT = 500  # images, and as many samples, at the most
NEAR, FAR, FACES, FEATURES = 0.5, 1.5, 0.5, 0.5  # the limits of `diverse_faces`


def dis_l_distance(model: Any, a: Any, b: Any) -> float:
    """The learned metric between images a and b [N, S, S, C]: the root of the mean squared difference of ``model``'s Dis_l (running
    statistics), a mean over images. Distances in two models' Dis_l do not compare."""
    difference = np.asarray(model.features(a), np.float64) - model.features(b)
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def sharpness(images: Any, real: Any) -> float:
    """`laplacian_variance` over that of real images: below 1 blurred, above 1 noisy."""
    return laplacian_variance(images) / max(laplacian_variance(real), 1e-12)


def attribute_similarity(
    model: Any, regressor: Any, attributes: np.ndarray, *, samples: int = 10, seed: int = 0
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
    model: Any, regressor: Any, images: np.ndarray, attributes: np.ndarray, vectors: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Does adding an attribute's vector to z make the regressor see the attribute, and how far do the others move?

    For each attribute the images without it are rebuilt from a sampled z, once as it is and once with the vector added, strength 1.

    Args:
        images: uint8 [N, S, S, C]; attributes: [N, A], columns as ``regressor.attribute_names``; vectors: {name: [L]}.

    Returns: {"attributes": {name: {"seen_before", "seen": shares of images in which the regressor sees it (a score above 0), "change":
    mean change of its score, "others": mean absolute change of the other scores}}, and the means of these four over the attributes}.
    """
    from kernels import philox

    mu, logvar = model.encode(images)
    z = mu + np.exp(0.5 * logvar) * philox.normal(mu.shape, seed=seed, step=0, stream=philox.STREAM_FIGURE_EPS)
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
            "change": float(change[:, column].mean()),
            "others": float(np.abs(np.delete(change, column, axis=1)).mean()) if change.shape[1] > 1 else 0.0,
        }
    means = (
        {key: float(np.mean([row[key] for row in rows.values()])) for key in ("seen_before", "seen", "change", "others")} if rows else {}
    )
    return {**means, "attributes": rows}


def diverse_faces(samples: Any, test_images: Any, regressor: Any) -> dict[str, Any]:
    """Whether samples are diverse faces: the stated measure of the stability experiment. n = min(samples, half of the test images).

    Returns {"diverse_faces": True or False, and the numbers behind it, each beside its limit in words}:

    - ``pixel_diversity``: `mean_distance` of samples over that of real images, from 0.5 to 1.5. One face, or nearly one: 0; noise or
      saturated patterns: above.
    - ``feature_diversity``: the same of the regressor's features, at least 0.5: patterns that differ in pixels may all look alike to a
      network that looks for faces.
    - ``frechet_ratio``: the Fréchet distance of the samples' features from real ones, over that of the same samples of a *failure*:
      real images whose pixels were moved about at random. At most 0.5. Real images against other real ones give 0.02 to 0.05.
    """
    samples, real = as_float(samples), as_float(test_images)
    n = min(len(samples), len(real) // 2)
    if n < 16:
        raise ValueError(f"samples: got {len(samples)} and {len(real)} test images, expected at least 16 and 32")
    samples, real, others = samples[:n], real[:n], real[n : 2 * n]
    scrambled = np.random.default_rng(0).permuted(others.reshape(n, -1, others.shape[3]), axis=1).reshape(others.shape)
    shown, seen = np.asarray(regressor.features(samples), np.float64), np.asarray(regressor.features(real), np.float64)
    failure = frechet(np.asarray(regressor.features(scrambled), np.float64), seen)
    result = {
        "pixel_diversity": mean_distance(samples) / max(mean_distance(real), 1e-12),
        "feature_diversity": mean_distance(shown) / max(mean_distance(seen), 1e-12),
        "frechet_ratio": frechet(shown, seen) / max(failure, 1e-12),
    }
    within = NEAR <= result["pixel_diversity"] <= FAR and result["feature_diversity"] >= FEATURES and result["frechet_ratio"] <= FACES
    return {"diverse_faces": bool(within), **result}


def measure(
    model: Any, dataset: Any, regressor: Any, *, metric: Any = None, vectors: Mapping[str, np.ndarray] | None = None, seed: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Every measure of one system on the test images (at most 500 of them), None where the system lacks what it needs.

    Args:
        model: a `vaegan_kernels.inference.Model`; dataset: a `vaegan_kernels.data.Dataset`; regressor: a `RegressorModel`.
        metric: the model in whose Dis_l distances are taken; None: the model's own, if it has a Dis.
        vectors: {attribute: [L]} for `vector_accuracy`; None: made from the training images, where there is an Enc.

    Returns: "rebuilt" (from a sampled z) and "rebuilt_mean" (z = μ), each {"mse", "ssim", "dis_l", "sharpness"}; "mean_image_mse";
    "sharpness" of samples; "frechet" of samples, and "frechet_rebuilt", "frechet_real" (as many training images) beside it;
    "pixel_diversity"; "attribute_similarity" (conditional models); "attribute_vectors" (`vector_accuracy`, not for conditional ones).
    """
    from vaegan_kernels.artist import held_out

    test, train = held_out(dataset)[:COUNT], dataset.split("train")
    real = dataset.images[test]
    known = dataset.attributes is not None
    given = dataset.attributes_of(model.attribute_names)[test] if model.attribute_names else None
    metric = metric if metric is not None else model if model.has_discriminator else None
    seen = regressor.features(real)
    samples = model.sample(len(real), seed=seed)
    result: dict[str, Any] = {
        "images": len(real),
        "mean_image_mse": pixel_mse(np.broadcast_to(dataset.images[train[:5120]].mean(axis=0) / 127.5 - 1, real.shape), real),
        "rebuilt": None,
        "rebuilt_mean": None,
        "sharpness": sharpness(samples, real),
        "pixel_diversity": mean_distance(samples) / max(mean_distance(as_float(real)), 1e-12),
        "frechet": frechet(regressor.features(samples), seen),
        "frechet_rebuilt": None,
        "frechet_real": frechet(regressor.features(dataset.images[train[: len(real)]]), seen),
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
                result["frechet_rebuilt"] = frechet(regressor.features(rebuilt), seen)
        if known and not model.attribute_names:
            if vectors is None:
                from vaegan_kernels.attribute_vectors import compute

                made, names = compute(model, dataset)
                vectors = dict(zip(names, made, strict=True))
            labels = dataset.attributes_of(regressor.attribute_names)[test]
            result["attribute_vectors"] = vector_accuracy(model, regressor, real, labels, vectors, seed=seed)
    return result
