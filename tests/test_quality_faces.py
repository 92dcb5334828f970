"""The stated measure of "diverse faces": its parts against plain computations, and sets of pictures that it must tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from test_quality import Pixels, images

from vaegan_kernels.measures import quality
from vaegan_kernels.measures.quality_faces import cells, coverage


def test_coverage_against_a_loop(rng):
    real, samples = rng.standard_normal((40, 7)) + 5, 0.8 * rng.standard_normal((30, 7)) + 5
    near = 0
    for k, one in enumerate(real):
        to_real = sorted(np.linalg.norm(other - one) for other in np.delete(real, k, axis=0))
        near += min(np.linalg.norm(sample - one) for sample in samples) < to_real[4]
    assert 0 < near < 40
    assert coverage(samples, real) == pytest.approx(near / 40)
    assert coverage(real, real) == 1.0
    assert coverage(real + 100, real) == 0.0
    assert coverage(np.repeat(real[:1], 30, axis=0), real) < 0.4  # one image, repeated


def test_cells_are_means_and_leave_out_what_does_not_fit(rng):
    x = rng.standard_normal((2, 34, 34, 3))
    found = cells(x)
    assert found.shape == (2, 8, 8, 3)
    assert found[1, 3, 7] == pytest.approx(x[1, 12:16, 28:32].mean(axis=(0, 1)))


def failures(rng, real, fresh):
    n = len(fresh)
    part_noise = fresh.copy()
    part_noise[: n // 4] = rng.uniform(-1, 1, part_noise[: n // 4].shape)
    return {
        "one": np.repeat(fresh[:1], n, axis=0) + 0.01 * rng.standard_normal(fresh.shape),
        "one with noise": np.clip(fresh[:1] + 0.4 * rng.standard_normal(fresh.shape), -1, 1),
        "one in tints": np.clip(fresh[:1] + 0.3 * rng.standard_normal((n, 1, 1, 3)), -1, 1),
        "five repeated": fresh[np.arange(n) % 5],
        "mean": real.mean(axis=0) + 0.05 * rng.standard_normal(fresh.shape),
        "noise": rng.uniform(-1, 1, fresh.shape),
        "a quarter noise": part_noise,
        "fog": np.broadcast_to(rng.uniform(-1, 1, (n, 1, 1, 3)), fresh.shape),
        "stripes": np.sign(np.sin(np.arange(32) * rng.uniform(0.5, 3, (n, 1))))[:, None, :, None] * rng.uniform(-1, 1, (n, 1, 1, 3))
        + np.zeros(fresh.shape),
    }


def test_diverse_faces_is_not_fooled(rng):
    """Images like the real ones pass; each way to fail does not."""
    real, fresh = images(rng, 128), images(rng, 64)
    passed = quality.diverse_faces(fresh, real, Pixels())
    assert passed["diverse_faces"] is True, passed
    assert passed["cell_diversity"] == pytest.approx(1, abs=0.1) and passed["sharpness"] == pytest.approx(1, abs=0.1)
    assert abs(passed["frechet"]) < 0.3 and passed["coverage"] > 0.8
    for name, samples in failures(rng, real, fresh).items():
        assert quality.diverse_faces(samples, real, Pixels())["diverse_faces"] is False, name


checkerboard = (-1.0) ** np.add.outer(np.arange(32), np.arange(32))[:, :, None]


@pytest.mark.parametrize(
    "limit, samples",
    [
        ("cell_diversity", lambda fresh: 0.3 * fresh + 0.7 * fresh.mean(axis=0)),
        ("sharpness", lambda fresh: np.clip(fresh + 0.5 * checkerboard, -1, 1)),
        ("frechet", lambda fresh: fresh[:, ::-1] * 0.5 + 0.5),
        ("coverage", lambda fresh: fresh[np.arange(len(fresh)) % 5]),
    ],
)
def test_each_number_is_beyond_its_limit_for_its_failure(rng, limit, samples):
    from vaegan_kernels.measures.quality_faces import COVERAGE, DIVERSITY, FRECHET, SHARPNESS

    real, fresh = images(rng, 128), images(rng, 64)
    found = quality.diverse_faces(samples(fresh), real, Pixels())
    low, high = {"cell_diversity": DIVERSITY, "sharpness": SHARPNESS, "frechet": (-1, FRECHET), "coverage": (COVERAGE, 1)}[limit]
    assert not low <= found[limit] <= high, found
    assert found["diverse_faces"] is False


def test_too_few_images_are_refused(rng):
    real, fresh = images(rng, 128), images(rng, 64)
    with pytest.raises(ValueError, match="at least 16"):
        quality.diverse_faces(fresh[:10], real, Pixels())
    with pytest.raises(ValueError, match="32 test images"):
        quality.diverse_faces(fresh, real[:30], Pixels())
