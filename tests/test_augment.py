"""augment_batch on every engine against PyTorch's grid_sample and Python's colorsys; in training; the preview."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from app_case import TINY, assert_same_run, call, one_line, tree, write_tiny
from gradcheck import assert_close, poisoned, put, relative_error, tolerance
from PIL import Image

from kernels import philox
from kernels.augmentation import AUTHORS, DRAWS, Augmentation, draws, exponent
from vaegan_kernels import augment, train
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.resolve import resolve
from vaegan_kernels.shell.errors import UserError

STRONG = Augmentation(0.1, 0.1, 0.6, 0.3, 0.4, 0.3)
NONE = Augmentation()
ALONE = [NONE._replace(**{name: getattr(STRONG, name)}) for name in Augmentation._fields]


def affine(image, draw, strengths, mirrored):
    """[H, W, C] in [0, 1], float64: the image under the map, by grid_sample."""
    h, w, _ = image.shape
    scale, angle = 1 + strengths.scale * draw[2], strengths.rotation * draw[3]
    rows, columns = np.meshgrid(np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2, indexing="ij")
    columns = -columns if mirrored else columns
    y = (math.sin(angle) * columns + math.cos(angle) * rows) / scale + strengths.translation * h * draw[1]
    x = (math.cos(angle) * columns - math.sin(angle) * rows) / scale + strengths.translation * w * draw[0]
    grid = torch.tensor(np.stack([x / ((w - 1) / 2), y / ((h - 1) / 2)], axis=-1))[None]
    source = torch.tensor(image / 255.0).permute(2, 0, 1)[None]
    found = torch.nn.functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found[0].permute(1, 2, 0).numpy()


def recoloured(v, draw, strengths):
    """Pixel by pixel, with colorsys."""
    power, contrast = exponent(strengths.gamma, draw[4]), exponent(strengths.contrast, draw[5])
    out = np.empty_like(v)
    for place in np.ndindex(v.shape[:2]):
        if v.shape[2] == 1:
            out[place] = v[place] ** (power * contrast)
            continue
        hue, saturation, value = colorsys.rgb_to_hsv(*(v[place] ** power))
        hue = (hue + strengths.hue * draw[6]) % 1.0
        out[place] = colorsys.hsv_to_rgb(hue, saturation**contrast, value**contrast)
    return out


def expected_batch(images, order, step, per_epoch, n, seed, flip, strengths):
    """What augment_batch should give, [n, H, W, C] float64."""
    first = step % per_epoch * n
    normal = draws(n, seed=seed, step=step)
    words = philox.uint32((n,), seed=seed, step=step, stream=philox.STREAM_FLIP)
    found = []
    for i in range(n):
        v = affine(images[order[first + i]], normal[i], strengths, flip and words[i] % 2 == 1)
        found.append(2 * recoloured(v, normal[i], strengths) - 1)
    return np.stack(found)


def batch_of(engine, images, order, step, n, *, per_epoch=2, seed=7, flip=True, strengths=STRONG):
    x = poisoned(engine, n, *images.shape[1:])
    arrays = put(engine, images, np.uint8), put(engine, order, np.int32), put(engine, [step], np.int64)
    engine.augment_batch(x, *arrays, per_epoch=per_epoch, seed=seed, flip=flip, strengths=strengths)
    return engine.to_numpy(x)


@pytest.mark.parametrize("strengths", [AUTHORS, STRONG, *ALONE], ids=["authors", "strong", *Augmentation._fields])
@pytest.mark.parametrize(("shape", "n"), [((8, 8, 3), 3), ((9, 7, 3), 1), ((17, 17, 1), 2)])
def test_each_image_is_varied_as_the_formulas_say(engine, rng, strengths, shape, n):
    images = rng.integers(0, 256, (6, *shape), dtype=np.uint8)
    images[0, :2] = 0  # black, white and grey pixels have no hue
    images[1, :2], images[2, :2] = 255, 77
    order = rng.permutation(6)
    for step in (0, 3, 2**33 + 1):
        got = batch_of(engine, images, order, step, n, strengths=strengths)
        expected = expected_batch(images, order, step, 2, n, 7, True, strengths)
        limit = 1e-9 if engine.precision == "float64" else 10 * tolerance(engine.dtype)
        assert_close(got, expected, limit, f"step {step}")
        assert np.abs(got).max() <= 1 + 1e-6


@pytest.mark.parametrize("flip", [False, True])
def test_without_strength_it_is_gather_batch(engine, rng, flip):
    images, order = rng.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8), np.arange(8)
    got, wanted = batch_of(engine, images, order, 1, 4, flip=flip, strengths=NONE), poisoned(engine, 4, 6, 5, 3)
    arrays = put(engine, images, np.uint8), put(engine, order, np.int32), put(engine, [1], np.int64)
    engine.gather_batch(wanted, *arrays, per_epoch=2, seed=7, flip=flip)
    assert_close(got, engine.to_numpy(wanted), 10 * tolerance(engine.dtype))


def test_images_and_steps_differ(engine64):
    """The same image in every place of the batch, and in two steps."""
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    one, two = (batch_of(engine64, images, np.zeros(8, np.int64), step, 8, per_epoch=1) for step in (0, 1))
    flat = np.concatenate([one, two]).reshape(16, -1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    assert (distance[~np.eye(16, dtype=bool)] > 0.5).all()


def test_the_draws_are_what_they_should_be():
    """Means and deviations of the parameters over many images."""
    normal = draws(20000, seed=3, step=5)
    assert normal.shape == (20000, DRAWS)
    assert np.abs(normal.mean(axis=0)).max() < 0.03 and np.abs(normal.std(axis=0) - 1).max() < 0.03
    correlation = np.corrcoef(normal.T) - np.eye(DRAWS)
    assert np.abs(correlation).max() < 0.03
    powers = np.log(exponent(0.05, normal[:, 4])) * math.log(2)
    assert powers.mean() == pytest.approx(0.05**2, abs=2e-3) and powers.std() == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"strengths": NONE._replace(hue=-0.1)}, "hue"),
        ({"strengths": NONE._replace(scale=0.5)}, "scale"),
        ({"strengths": NONE._replace(gamma=math.nan)}, "gamma"),
        ({"per_epoch": 5}, "order"),
    ],
)
def test_refuses(engine, rng, change, wrong):
    images = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=wrong):
        batch_of(engine, images, np.arange(4), 0, 2, **change)
    with pytest.raises(ValueError, match="channels"):
        batch_of(engine, images[..., :2].copy(), np.arange(4), 0, 2)


# ---- training ----


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("augment") / "tiny.h5")


@pytest.mark.parametrize("model", ["vaegan", "vae"])
def test_a_run_is_resumed_to_the_same_bits(packed, tmp_path, model):
    flags = ("--data", packed, "--steps", 6, "--augment", "--augment-rotation", 0.3, "--model", model, *TINY)
    assert call(train.main, *flags, "--out", tmp_path / "whole") == 0
    assert call(train.main, *flags, "--out", tmp_path / "parts", "--stop-after", 3) == 0
    assert call(train.main, "--resume", tmp_path / "parts") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert call(train.main, *flags[:4], *flags[7:], "--out", tmp_path / "plain") == 0
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "whole", tmp_path / "plain")


def test_a_resumed_run_keeps_its_augmentation(packed, tmp_path, capsys):
    assert call(train.main, "--data", packed, "--steps", 4, "--stop-after", 2, "--augment", "--out", tmp_path / "run", *TINY) == 0
    assert call(train.main, "--resume", tmp_path / "run", "--no-augment") == 2
    assert "--augment: got False, but the run in" in one_line(capsys.readouterr().err)


def test_settings():
    assert resolve({}).augmentation is None
    assert resolve({"augment": True}).augmentation == pytest.approx(AUTHORS, abs=1e-6)
    assert resolve({"preset": "released"}).augment, "as the authors' code has it"
    assert Config.from_dict({"network": "small32"}).augmentation is None, "a configuration of before"
    with pytest.raises(UserError, match=r"^--augment-hue: only with --augment"):
        resolve({"augment_hue": 0.5})
    with pytest.raises(UserError, match=r"^--augment-scale: got 0.5"):
        resolve({"augment": True, "augment_scale": 0.5})


# ---- the preview ----


@pytest.mark.parametrize("channels", [1, 3])
def test_preview(tmp_path, monkeypatch, capsys, channels):
    monkeypatch.chdir(tmp_path)
    packed = write_tiny(tmp_path / "tiny.h5", channels=channels)
    assert call(augment.main, "--data", packed, "--rows", 2, "--columns", 3, "--augment-rotation", 1.5) == 0, capsys.readouterr().err
    assert "2 images of discs, 3 variations of each in augmented.png" in capsys.readouterr().out
    with Image.open("augmented.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > 4 * 96
    before = tree(tmp_path)
    assert call(augment.main, "--data", packed) == 2
    assert "augmented.png exists already" in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == before


def test_preview_shows_what_training_sees(engine32):
    """Column k is the batch of step k − 1 of a run with this seed, image by image."""
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    shown = augment.variations(images, 2, STRONG, seed=7, flip=True)
    assert relative_error(shown[:, 0], images / 127.5 - 1) < 1e-6
    for step in (0, 1):
        assert np.array_equal(shown[:, step + 1], batch_of(engine32, images, np.arange(3), step, 3, per_epoch=1))


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (("--rows", 0), "--rows: got 0"),
        (("--columns", 31), "--columns: got 31"),
        (("--augment-hue", "nan"), "--augment-hue: got nan"),
        (("--augment-scale", -1), "--augment-scale: got -1"),
        (("--data", "nowhere"), "nowhere: no such file or folder"),
        (("--out", "x.txt"), "--out: got x.txt"),
        (("--image-size", 50), "--image-size: got 50"),
        (("--seed", -1), "--seed: got -1"),
    ],
)
def test_preview_bad_input(flags, wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(augment.main, *flags) == 2
    assert wrong in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
