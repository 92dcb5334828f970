"""How good a model is against its data, in two numbers each with something to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np

COUNT = 256  # images, samples


def evaluate(model: Any, held_out: np.ndarray, train: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Reconstruction error and sample diversity.

    Args:
        model: a `vaegan_kernels.inference.Model`.
        held_out: uint8 [N, S, S, C], images not trained on (test images); the first 256 are used.
        train: uint8 [M, S, S, C], training images, for the mean image.

    Returns: mean squared pixel errors, pixels in [-1, 1]: ``reconstruction_mse`` (sampled z), ``reconstruction_mse_mean``
    (z = mu), ``mean_image_mse`` (predicting the mean training image for all), ``reconstruction_ratio`` (the first over the
    third); ``sample_diversity`` and ``data_diversity``, the mean distance between two samples and between two of
    ``held_out``, and ``diversity_ratio``.
    """
    real = held_out[:COUNT]
    x = real / 127.5 - 1.0
    mean_image = train[: 20 * COUNT].mean(axis=0) / 127.5 - 1.0
    result = {
        "reconstruction_mse": _mse(model.reconstruct(real, seed=seed), x),
        "reconstruction_mse_mean": _mse(model.reconstruct(real, mean=True), x),
        "mean_image_mse": _mse(np.broadcast_to(mean_image, x.shape), x),
    }
    result["reconstruction_ratio"] = result["reconstruction_mse"] / max(result["mean_image_mse"], 1e-12)
    samples = model.sample(max(2, len(real)), seed=seed)
    result["sample_diversity"] = mean_distance(samples)
    result["data_diversity"] = mean_distance(x)
    result["diversity_ratio"] = result["sample_diversity"] / max(result["data_diversity"], 1e-12)
    return {name: float(value) for name, value in result.items()}


def mean_distance(images: np.ndarray) -> float:
    """The mean Euclidean distance between two different images, each divided by the root of its number of pixels' values.

    So two images whose pixels differ by d everywhere are d apart, at any image size. 0 for fewer than two images.
    """
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    if len(flat) < 2:
        return 0.0
    flat = flat - flat.mean(axis=0)
    square = (flat**2).sum(axis=1)
    distances = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2 * flat @ flat.T, 0) / flat.shape[1])
    return float(distances[~np.eye(len(flat), dtype=bool)].mean())


def describe(result: dict[str, float]) -> list[str]:
    """The lines that are printed at the end of a run."""
    return [
        f"reconstruction error  {result['reconstruction_mse']:.4f}  (mean squared, sampled z; {result['reconstruction_ratio']:.0%} of the "
        f"mean image's {result['mean_image_mse']:.4f}; decoding mu: {result['reconstruction_mse_mean']:.4f})",
        f"sample diversity      {result['sample_diversity']:.3f}   (mean distance of two samples; {result['diversity_ratio']:.0%} of the "
        f"data's {result['data_diversity']:.3f})",
    ]


def _mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((np.asarray(a, np.float64) - b) ** 2))
