"""Pictures: sizes, enlarged pixels, pairs, the animation, the curves; and the two numbers of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vaegan_kernels.evaluate import describe, evaluate, mean_distance
from vaegan_kernels.files import save_image
from vaegan_kernels.pictures import figures


@pytest.mark.parametrize(("size", "scale"), [(32, 3), (64, 2), (128, 1)])
def test_a_grid_shows_every_pixel_enlarged_by_a_whole_factor(size, scale, rng):
    images = rng.integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    picture = np.asarray(figures.grid(images, 3))
    tile, gap, margin = size * scale, figures.GAP, figures.MARGIN
    for i, image in enumerate(images):
        y, x = margin + (i // 3) * (tile + gap), margin + (i % 3) * (tile + gap)
        np.testing.assert_array_equal(picture[y : y + tile : scale, x : x + tile : scale], image)
        np.testing.assert_array_equal(picture[y + scale - 1 : y + tile : scale, x + scale - 1 : x + tile : scale], image)
    assert picture.shape == (2 * (tile + gap) - gap + 2 * margin, 3 * (tile + gap) - gap + 2 * margin, 3)


def test_to_uint8():
    values = np.array([-1.0, 1.0, 0.0, -3.0, 3.0]).reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(figures.to_uint8(values)[:, 0, 0], [[0] * 3, [255] * 3, [128] * 3, [0] * 3, [255] * 3])
    pixels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    np.testing.assert_array_equal(figures.to_uint8((pixels / 127.5 - 1).astype(np.float32)), figures.to_uint8(pixels))


@pytest.mark.parametrize(("count", "rows"), [(8, 2), (20, 4), (3, 2), (1, 2)])
def test_pairs_put_each_image_above_its_reconstruction(count, rows):
    originals = np.zeros((count, 32, 32, 1), np.uint8)
    others = np.ones((count, 32, 32, 1), np.float32)
    picture = np.asarray(figures.pairs(originals, others, 8, "Title", "note", "rebuilt"))
    column = picture[:, -figures.MARGIN - 2, 0]
    bands = np.diff(np.flatnonzero(np.diff(column.astype(int), prepend=250))).size
    assert (column == 0).sum() == rows // 2 * 96 and (column == 255).sum() == rows // 2 * 96 and bands >= rows


def test_animation(tmp_path, rng):
    figures.write_animation(tmp_path, tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists(), "no grids, no animation"
    for step in range(50):
        save_image(tmp_path / figures.step_name(step), Image.new("RGB", (40, 30), (5 * step, 0, 0)))
    (tmp_path / "step_x.png").write_text("not a grid")
    figures.write_animation(tmp_path, tmp_path / "a.gif", frames=7)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 7 and animation.size == (20, 15)
        animation.seek(6)
        assert animation.convert("RGB").getpixel((3, 3))[0] == pytest.approx(245, abs=3), "ends with the last grid"
        assert animation.info["duration"] > 1000


@pytest.mark.parametrize("generator", [True, False])
def test_curves(generator, tmp_path):
    lines = []
    for step in range(1, 40):
        line = {"step": step, "like": 100.0 / step, "prior": float(step), "gan_real": 0.6, "gan_generated": 0.7}
        lines.append(line | {"dec_update_rate": 1.0, "dis_update_rate": 0.5} | ({"generator": 0.8} if generator else {}))
    figures.write_curves(lines[:1], tmp_path / "curves.png", "t")
    assert not (tmp_path / "curves.png").exists(), "one line is no curve"
    figures.write_curves(lines, tmp_path / "curves.png", "small32 · quick", (0.68, 0.35))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000


def test_running_mean(rng):
    values = rng.standard_normal(300)
    smooth = figures.smooth(values)
    assert smooth.shape == values.shape and smooth.std() < values.std()
    assert smooth[150] == pytest.approx(values[145:156].mean())


def missing(result):
    return {name for name, value in result.items() if value is None}


class Echo:
    """A model that gives back what it is shown and draws from its images."""

    has_encoder = True

    def __init__(self, images):
        self.images = images / 127.5 - 1

    def reconstruct(self, images, *, mean=False, seed=0, attributes=None):
        return images / 127.5 - 1 + (0.5 if mean else 0.0)

    def sample(self, count, seed=0):
        return self.images[:count]


def test_evaluate(rng):
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    result = evaluate(Echo(images), images, images)
    assert result["reconstruction_mse"] == 0 and result["reconstruction_ratio"] == 0
    assert result["reconstruction_mse_mean"] == pytest.approx(0.25)
    assert result["mean_image_mse"] == pytest.approx((images / 127.5).var(axis=0).mean())
    assert result["diversity_ratio"] == pytest.approx(1)
    assert result["sharpness_ratio"] == pytest.approx(1) and result["colour_noise_ratio"] == pytest.approx(1)
    assert len(describe(result)) == 4


def test_what_cannot_be_had_is_not_measured(rng):
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    one = evaluate(Echo(images), images[:1], images[:1])  # its own mean image, no second image
    assert missing(one) == {"reconstruction_ratio", "data_diversity", "diversity_ratio"} and one["mean_image_mse"] < 1e-12
    assert all(value < 10 for value in one.values() if value is not None) and len(describe(one)) == 4
    assert [line.count("not measured") for line in describe(one)] == [1, 1, 0, 0]
    assert missing(evaluate(Echo(images), images, images[:0])) == {"mean_image_mse", "reconstruction_ratio"}
    flat = np.full_like(images, 90)
    same = evaluate(Echo(flat), flat, flat)  # of one colour, all alike
    assert missing(same) == {"reconstruction_ratio", "diversity_ratio", "sharpness_ratio", "colour_noise_ratio"}
    assert same["data_diversity"] == 0 and [line.count("not measured") for line in describe(same)] == [1, 1, 1, 1]
    grey = images[..., :1]
    for data in (grey, grey.repeat(3, axis=3)):
        result = evaluate(Echo(images[..., : data.shape[3]]), data, data)
        assert missing(result) == {"colour_noise_ratio"}


def test_mean_distance(rng):
    images = rng.standard_normal((6, 4, 4, 1))
    flat = images.reshape(6, -1)
    expected = [np.linalg.norm(flat[i] - flat[j]) / 4 for i in range(6) for j in range(6) if i != j]
    assert mean_distance(images) == pytest.approx(np.mean(expected))
    assert mean_distance(images[:1]) == 0
    assert mean_distance(np.stack([np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.3)])) == pytest.approx(0.3)
