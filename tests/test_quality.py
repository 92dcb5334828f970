"""Measures of images and models against independent computations, and against pictures whose quality is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vaegan_kernels.measures import quality
from vaegan_kernels.measures.quality_images import colour_noise, frechet, laplacian_variance, pixel_mse, ratio, ssim
from vaegan_kernels.shell.errors import UserError


def images(rng, n=3, size=32, channels=3):
    coarse = rng.uniform(-1, 1, (n, size // 8, size // 8, channels)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + 0.2 * rng.standard_normal(coarse.shape), -1, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_against_a_convolution(rng, channels):
    a, b = images(rng, channels=channels), images(rng, channels=channels)
    g = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    kernel = (g[:, None] * g[None, :] / (g.sum() ** 2)).expand(channels, 1, 11, 11)
    x, y = (torch.tensor(v).permute(0, 3, 1, 2) for v in (a, b))

    def blur(v):
        return F.conv2d(v, kernel, groups=channels)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim(a, b) == pytest.approx(float(expected), rel=1e-9)
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, np.clip(a + 0.1, -1, 1)) > ssim(a, np.clip(a + 0.5 * rng.standard_normal(a.shape), -1, 1))


def test_bytes_and_floats_are_the_same_images(rng):
    pixels = rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    other = images(rng, 4)
    assert pixel_mse(pixels, other) == pytest.approx(np.mean((pixels / 127.5 - 1 - other) ** 2))
    assert ssim(pixels, other) == pytest.approx(ssim(pixels / 127.5 - 1, other))
    assert pixel_mse(pixels, pixels / 127.5 - 1) < 1e-20


def test_sharpness_is_the_variance_of_the_laplacian(rng):
    a = images(rng, 5)
    stencil = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)[None, None]
    grey = torch.tensor(a.mean(axis=3))[:, None]
    expected = F.conv2d(grey, stencil).reshape(5, -1).var(dim=1, unbiased=False).mean()
    assert laplacian_variance(a) == pytest.approx(float(expected), rel=1e-9)
    blurred = (a + np.roll(a, 1, 1) + np.roll(a, 1, 2)) / 3
    assert quality.sharpness(a, np.full_like(a, 0.3)) is None
    assert quality.sharpness(blurred, a) < 0.7 < quality.sharpness(a, a) == pytest.approx(1.0)


def test_colour_noise_of_a_checkerboard_by_hand():
    """±1 in turn: of nine neighbours five have a pixel's own sign, so their mean is a ninth of it and eight ninths are left."""
    board = (-1.0) ** np.add.outer(np.arange(9), np.arange(9))
    image = np.stack([0.3 * board, -0.3 * board, 0 * board], axis=2)[None]  # the mean over channels is 0: all of it is colour
    assert colour_noise(image) == pytest.approx(2 / 3 * (0.3 * 8 / 9) ** 2)
    twice = np.concatenate([image, 0 * image])
    assert colour_noise(twice) == pytest.approx(colour_noise(image) / 2)  # a mean over images
    red = np.stack([0.3 * board, 0 * board, 0 * board], axis=2)[None]  # colour is (2, -1, -1) thirds of it
    assert colour_noise(red) == pytest.approx(6 / 27 * (0.3 * 8 / 9) ** 2)


def test_colour_noise_against_a_convolution_and_what_it_does_not_see(rng):
    a = images(rng, 5)
    colour = torch.tensor(a - a.mean(axis=3, keepdims=True)).permute(0, 3, 1, 2)
    left = colour[:, :, 1:-1, 1:-1] - F.avg_pool2d(colour, 3, stride=1)
    assert colour_noise(a) == pytest.approx(float((left**2).mean()), rel=1e-9)
    grey = rng.standard_normal((*a.shape[:3], 1))
    assert colour_noise(a + grey) == pytest.approx(colour_noise(a), rel=1e-9)
    slope = np.linspace(-1, 1, 32)[:, None] * np.array([1.0, -2.0, 0.5])  # colour that changes evenly is no noise
    assert colour_noise(a + slope) == pytest.approx(colour_noise(a), rel=1e-9)
    noisy = a + 0.3 * rng.standard_normal(a.shape)  # of its variance two thirds are colour, of which 8/9 are left
    assert colour_noise(noisy) == pytest.approx(colour_noise(a) + 0.09 * 2 / 3 * 8 / 9, rel=0.1)
    one = rng.integers(0, 256, (4, 32, 32, 1)).astype(np.uint8)
    for grey in (one, one.repeat(3, axis=3)):
        assert ratio(colour_noise(a), colour_noise(grey)) is None  # none to compare with, not a huge number


def test_frechet_distance(rng):
    """Of Gaussians whose distance is known: |Δμ|² + Σ (σ − τ)² for covariances with one set of axes."""
    n, f = 200_000, 4
    axes = np.linalg.qr(rng.standard_normal((f, f)))[0]
    s, t, shift = np.array([1.0, 2.0, 0.5, 0.1]), np.array([2.0, 1.0, 0.5, 0.3]), rng.standard_normal(f)
    a = rng.standard_normal((n, f)) * s @ axes
    b = rng.standard_normal((n, f)) * t @ axes + shift
    assert frechet(a, b) == pytest.approx(np.sum(shift**2) + np.sum((s - t) ** 2), rel=0.02)
    assert frechet(a, a) < 1e-9
    few = rng.standard_normal((5, 12))  # fewer samples than dimensions: singular covariances
    assert np.isfinite(frechet(few, few + 1)) and frechet(few, few + 1) == pytest.approx(12, rel=1e-6)
    assert frechet(a[:50], b[:80]) == pytest.approx(frechet(b[:80], a[:50]), rel=1e-6)


def test_shapes_that_do_not_fit_are_named(rng):
    a = images(rng)
    for call in (lambda: ssim(a, a[:2]), lambda: pixel_mse(a, a[..., :1])):
        with pytest.raises(ValueError, match="images: got shapes"):
            call()
    with pytest.raises(ValueError, match="at least 11"):
        ssim(a[:, :8, :8], a[:, :8, :8])
    with pytest.raises(ValueError, match="features: got shapes"):
        frechet(rng.standard_normal((3, 2)), rng.standard_normal((3, 4)))


class Pixels:
    """A judge of "bright" and "red" that needs no training; its features are 4 x 4 means of the pixels, and how rough each is."""

    attribute_names = ("bright", "red")

    def predict(self, x):
        x = quality.as_float(x)
        return np.stack([x.mean(axis=(1, 2, 3)), x[..., 0].mean(axis=(1, 2)) - x[..., 1:].mean(axis=(1, 2, 3))], axis=1) * 3

    def features(self, x):
        cells = quality.as_float(x).reshape(len(x), 4, 8, 4, 8, 3)
        return np.concatenate([cells.mean(axis=(2, 4)).reshape(len(x), -1), cells.std(axis=(2, 4)).reshape(len(x), -1)], axis=1)


class Painter:
    """A model that paints one colour: z and the attributes go to the channels."""

    attribute_names: tuple[str, ...] = ()
    has_encoder, has_discriminator, latent = True, False, 3

    def latents(self, x, seed):
        return quality.as_float(x).mean(axis=(1, 2))

    def decode(self, z, attributes=None):
        colour = np.asarray(z, np.float64) * (0.01 if attributes is not None else 1.0)
        if attributes is not None:
            colour = colour + attributes[:, :1] / 3 + attributes[:, 1:] / 3 * np.array([1, -0.5, -0.5])
        return np.clip(np.broadcast_to(colour[:, None, None, :], (len(z), 32, 32, 3)), -1, 1)

    def prior(self, count, seed):
        return np.random.default_rng(seed).standard_normal((count, 3))


def test_vector_accuracy_tells_a_vector_that_works_from_one_that_does_not(rng):
    x = ((images(rng, 40) * 0.3 - 0.5 + 1) * 127.5).astype(np.uint8)
    labels = np.where(Pixels().predict(x) > 0, 1.0, -1.0)
    vectors = {"bright": np.full(3, 1.0), "red": np.zeros(3)}
    found = quality.vector_accuracy(Painter(), Pixels(), x, labels, vectors)
    bright, red = found["attributes"]["bright"], found["attributes"]["red"]
    assert bright["seen_before"] < 0.1 and bright["seen"] > 0.9 and bright["change"] > 2 and bright["others"] < 0.2
    assert red["change"] == 0 and red["seen"] == red["seen_before"]
    assert found["seen"] == pytest.approx((bright["seen"] + red["seen"]) / 2)
    assert bright["moved"] == pytest.approx(bright["seen"] - bright["seen_before"]) and red["moved"] == 0
    none = quality.vector_accuracy(Painter(), Pixels(), x, labels, {})
    assert none == {"attributes": {}}


def test_data_and_a_regressor_that_do_not_fit_are_refused_in_one_line(rng):
    data = SimpleNamespace(name="mine", images=np.zeros((4, 32, 32, 3), np.uint8), attribute_names=("bright",))
    judge = SimpleNamespace(image_shape=(32, 32, 3), attribute_names=("bright", "red"))
    plain = SimpleNamespace(attribute_names=())
    quality.check_fit(plain, data, judge)
    for model, regressor, words in (
        (plain, SimpleNamespace(**{**vars(judge), "image_shape": (64, 64, 3)}), "train one of that size"),
        (SimpleNamespace(attribute_names=("red",)), judge, "condition has red, the data has not"),
        (SimpleNamespace(attribute_names=("bright",)), SimpleNamespace(image_shape=(32, 32, 3), attribute_names=("red",)),
         "condition has bright, the regressor has not"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            quality.check_fit(model, data, regressor)
        assert "\n" not in str(caught.value)


def test_attribute_similarity_of_a_model_that_listens(rng):
    wanted = rng.choice([-1.0, 1.0], (30, 2))
    listens, deaf = Painter(), Painter()
    listens.attribute_names = deaf.attribute_names = ("bright", "red")
    deaf.decode = lambda z, attributes: Painter().decode(z * 0.3)
    good, bad = (quality.attribute_similarity(model, Pixels(), wanted, samples=3) for model in (listens, deaf))
    assert good["cosine"] > 0.9 > bad["cosine"] and good["mse"] < 1.5 < bad["mse"]
    assert quality.attribute_similarity(Painter(), Pixels(), wanted) is None
    one = quality.attribute_similarity(deaf, Pixels(), wanted, samples=1)
    assert bad["cosine"] > one["cosine"]  # the best of more
