"""Measures of images that need no download: pixel error, SSIM, sharpness, colour noise, the Fréchet distance of feature sets.

Images are [N, S, S, C], uint8 or float in [-1, 1]; S pixels a side, C channels. Everything is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WINDOW, SIGMA, K1, K2, RANGE = 11, 1.5, 0.01, 0.03, 2.0  # of SSIM; pixels lie in [-1, 1]
NOTHING = 1e-6  # what is no more than this is no scale: rounding to 8 bits alone leaves more in any image that is not flat


def as_float(images: Any) -> np.ndarray:
    """float64 in [-1, 1]."""
    array = np.asarray(images)
    return array / 127.5 - 1.0 if array.dtype == np.uint8 else array.astype(np.float64)


def pixel_mse(a: Any, b: Any) -> float:
    """The mean squared difference of pixels in [-1, 1]. Raises ValueError for shapes that differ."""
    _check_same(a, b)
    return float(np.mean((as_float(a) - as_float(b)) ** 2))


def ssim(a: Any, b: Any) -> float:
    """Mean structural similarity (Wang et al. 2004, eq. 13): 1 for equal images.

    Gaussian window of 11 x 11 pixels, σ = 1.5, K1 = 0.01, K2 = 0.03, range 2; only windows that lie inside the image; the mean over
    windows, channels and images. Raises ValueError for shapes that differ or images smaller than the window.
    """
    _check_same(a, b)
    size = np.shape(a)[1]
    if size < WINDOW:
        raise ValueError(f"images: got {size} pixels a side, expected at least {WINDOW}")
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    weights /= weights.sum()
    band = np.stack([np.pad(weights, (i, size - WINDOW - i)) for i in range(size - WINDOW + 1)])  # [windows, S]

    def blur(images: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("ip,npqc,jq->nijc", band, images, band, optimize=True))

    x, y = as_float(a), as_float(b)
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


def laplacian_variance(images: Any) -> float:
    """Sharpness: the variance over the pixels of the Laplacian (the four neighbours minus four times the pixel, inside the image) of the
    mean over channels; the mean over images. Noise is sharp too: read it beside a Fréchet distance."""
    grey = as_float(images).mean(axis=3)
    inner = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * grey[:, 1:-1, 1:-1]
    return float(inner.reshape(len(inner), -1).var(axis=1).mean())


def sharpness(images: Any, real: Any) -> float | None:
    """`laplacian_variance` over that of real images: below 1 blurred, above 1 noisy. None where real images are flat."""
    return ratio(laplacian_variance(images), laplacian_variance(real))


def colour_noise(images: Any) -> float:
    """Specks of colour: the mean square of what a 3 x 3 mean leaves of colour (a channel minus the mean over channels), over the pixels
    that have all eight neighbours, channels and images. Grey noise adds nothing; grey images have 0."""
    x = as_float(images)
    colour = x - x.mean(axis=3, keepdims=True)
    rows = colour[:, :-2] + colour[:, 1:-1] + colour[:, 2:]
    mean = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
    return float(np.mean((colour[:, 1:-1, 1:-1] - mean) ** 2))


def ratio(value: float, scale: float | None) -> float | None:
    """``value`` over ``scale``; None where there is none, or it is 0 but for rounding, so that there is nothing to compare with."""
    return value / scale if scale is not None and scale > NOTHING else None


def mean_image_error(train: np.ndarray, real: np.ndarray) -> float | None:
    """The `pixel_mse` of answering with the mean of the training images for each of ``real``; None where there is no training image."""
    if not len(train):
        return None
    wide = np.int64 if train.dtype == np.uint8 else np.float64  # all of them as float64 would take eight times the room
    mean = train.sum(axis=0, dtype=wide) / len(train)
    return pixel_mse(np.broadcast_to(mean / 127.5 - 1 if train.dtype == np.uint8 else mean, real.shape), real)


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


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two Gaussians fitted to features a [N, F] and b [M, F] (Heusel et al. 2017, on features of our own):

        |μa − μb|² + tr(Ca + Cb − 2 (Ca^½ Cb Ca^½)^½)

    Symmetric roots by eigenvalues, those below 0 from rounding taken as 0. With N or M not far above F it is too large by an amount that
    depends on N and M: compare only distances of equal counts, and with that of two sets of real images.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features: got shapes {a.shape} and {b.shape}, expected [N, F] and [M, F] with N, M >= 2")
    ca, cb = np.cov(a, rowvar=False).reshape(a.shape[1], -1), np.cov(b, rowvar=False).reshape(a.shape[1], -1)
    values, vectors = np.linalg.eigh(ca)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cb @ root), 0)).sum()
    return float(max(0.0, np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(ca) + np.trace(cb) - 2 * cross))


def _check_same(a: Any, b: Any) -> None:
    if np.shape(a) != np.shape(b) or np.ndim(a) != 4:
        raise ValueError(f"images: got shapes {np.shape(a)} and {np.shape(b)}, expected one shape [N, S, S, C]")
