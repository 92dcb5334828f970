"""Do samples show diverse faces? The stated measure of the stability experiment, and how its limits were chosen."""

from __future__ import annotations

from typing import Any

import numpy as np

from vaegan_kernels.measures.quality_images import as_float, frechet, laplacian_variance, mean_distance

DIVERSITY = (0.5, 1.5)  # of cells, over that of real images
SHARPNESS = (0.3, 2.0)  # over that of real images
FRECHET = 0.6  # at most; 0: as near as other real images, 1: as far as scrambled ones
COVERAGE = 0.4  # at least
CELLS, NEIGHBOURS, FEWEST = 8, 5, 16


def diverse_faces(samples: Any, test_images: Any, regressor: Any) -> dict[str, Any]:
    """Whether samples are diverse faces.

    n = min(samples, half of the test images) samples are held against n real images; the other half of the test images gives the scale.
    Features are the regressor's FC units. Returns {"diverse_faces": True if all four numbers lie within their limits, and the numbers}:

    - ``cell_diversity``, 0.5 to 1.5: `mean_distance` of 8 x 8 cells' means, over that of real images. In cells noise averages out, so one
      face with noise on it is one face.
    - ``sharpness``, 0.3 to 2: variance of the Laplacian over that of real images: below it fog, above it noise, stripes, saturation.
    - ``frechet``, at most 0.6: the Fréchet distance of the features from real images', on a scale on which other real images are at 0 and
      real images whose pixels were moved about at random are at 1.
    - ``coverage``, at least 0.4 (Naeem et al. 2020): the share of real images that have a sample nearer (in features) than their fifth
      neighbour among real images. A few faces, each repeated, leave most real ones uncovered.

    The limits come from 500 CelebA test images of 32 pixels (n = 250), a regressor of 2,000 steps, and 20 trained models whose samples were
    looked at one by one. Of the eight that were judged to be diverse faces, some of them only just, all pass, with diversity 0.65 to 0.97,
    sharpness 0.70 to 0.91, distance 0.26 to 0.56, coverage 0.42 to 0.67. The other twelve do not: one face with a pattern (diversity 0.41
    to 0.47), a ghost of two faces (distance 0.90, coverage 0.34), like faces behind a grid (0.84, 0.24), saturated patterns between faces
    (sharpness 4.1), the fog of a VAE (sharpness 0.07), stripes of a GAN (diversity 0.4). Real faces: 1.0, 1.0, 0.0, 0.97. Failures that
    were made: one face or the mean face, with noise or without (diversity up to 0.20), in random tints (distance above 0.8), moved about
    (coverage 0.16); 20 faces, each repeated (coverage 0.31); noise, stripes, faces of which a quarter is noise (sharpness above 6); plain
    colours, Gaussian draws on 50 eigenfaces (sharpness up to 0.21); coloured squares (distance 1.25); real faces upside down (0.79).

    It lets through draws on 100 eigenfaces and more, halves of two faces put together, and sets half of which are plain colours or one
    face: it judges a set, not each image. The scale is the regressor's: runs that are compared need one regressor. Beside a limit, where
    another choice of test images can turn the verdict, look at the samples.

    Raises ValueError for fewer than 16 samples or 32 test images.
    """
    samples, real = as_float(samples), as_float(test_images)
    n = min(len(samples), len(real) // 2)
    if n < FEWEST:
        raise ValueError(
            f"samples: got {len(samples)} and {len(real)} test images, expected at least {FEWEST} samples and {2 * FEWEST} test images"
        )
    samples, real, others = samples[:n], real[:n], real[n : 2 * n]
    scrambled = np.random.default_rng(0).permuted(others.reshape(n, -1, others.shape[3]), axis=1).reshape(others.shape)
    shown, seen = _features(regressor, samples), _features(regressor, real)
    near, far = frechet(_features(regressor, others), seen), frechet(_features(regressor, scrambled), seen)
    result = {
        "cell_diversity": mean_distance(cells(samples)) / max(mean_distance(cells(real)), 1e-12),
        "sharpness": laplacian_variance(samples) / max(laplacian_variance(real), 1e-12),
        "frechet": (frechet(shown, seen) - near) / max(far - near, 1e-12),
        "coverage": coverage(shown, seen),
    }
    within = (
        DIVERSITY[0] <= result["cell_diversity"] <= DIVERSITY[1]
        and SHARPNESS[0] <= result["sharpness"] <= SHARPNESS[1]
        and result["frechet"] <= FRECHET
        and result["coverage"] >= COVERAGE
    )
    return {"diverse_faces": bool(within), **result}


def cells(images: np.ndarray) -> np.ndarray:
    """The means [N, 8, 8, C] of 8 x 8 cells of images [N, S, S, C], S >= 8; what is left over at the right and the bottom is left out."""
    n, size, _, channels = images.shape
    wide = size // CELLS
    inner = images[:, : CELLS * wide, : CELLS * wide]
    return np.asarray(inner.reshape(n, CELLS, wide, CELLS, wide, channels).mean(axis=(2, 4)))


def coverage(a: np.ndarray, b: np.ndarray, neighbours: int = NEIGHBOURS) -> float:
    """The share of b [M, F] that have a point of a [N, F] nearer than their ``neighbours``-th nearest in b (Naeem et al. 2020, eq. 5)."""
    radius = np.sort(_squared_distances(b, b), axis=1)[:, min(neighbours, len(b) - 1)]  # column 0 is the point itself
    return float((_squared_distances(b, a).min(axis=1) < radius).mean())


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    centre = b.mean(axis=0)  # so that less is lost to rounding where all lie far from the origin
    a, b = a - centre, b - centre
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T, 0)


def _features(regressor: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(regressor.features(images), np.float64)
