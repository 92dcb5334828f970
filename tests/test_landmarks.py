"""Alignment by 68 landmarks: the mean shape, the fit, where points land in the picture, and wrong files of landmarks."""

from __future__ import annotations

import os

import numpy as np
import pytest
from data_case import load, refused
from lfw_case import KEYS, base_shape, moved_shapes, values, write_faces, write_landmarks, write_lfw
from PIL import Image

from vaegan_kernels import pack
from vaegan_kernels.data import read_packed
from vaegan_kernels.data.formats.landmarks import mean_shape, read_landmarks, similarity
from vaegan_kernels.shell.errors import UserError


@pytest.mark.parametrize("size", [150, 64, 37])
def test_landmarks_land_on_the_mean_shape(tmp_path, size):
    """One dot a picture is drawn at a landmark; where it is in the result is measured, and must be that landmark of the mean shape."""
    shapes = list(moved_shapes(9))
    corner_based = [shape + (0.5 + 0.5j) for shape in shapes]
    errors, unaligned = [], []
    for point in (5, 20, 39, 47, 60):
        folder = tmp_path / str(point)
        landmarks = write_faces(folder, shapes, [point])
        data = load(folder, image_size=size, channels=1, landmarks=landmarks)
        mean = np.array([complex(*z) for z in data.preprocessing["mean_shape"]])
        assert np.abs(mean - mean_shape(np.stack(corner_based))).max() < 1e-3
        target = (mean[point] - (50 + 50j)) * size / 150
        y, x = np.mgrid[:size, :size] + 0.5
        for found, shape in zip(data.images[..., 0].astype(float), shapes, strict=True):
            found = np.where(found > 12, found, 0)
            errors.append(abs(complex((found * x).sum(), (found * y).sum()) / found.sum() - target) * 150 / size)
            unaligned.append(abs(shape[point] - mean[point]))
    assert max(errors) < 1.0, "in pixels of the picture"
    assert np.mean(errors) < 0.3
    assert np.mean(unaligned) > 10, "the test's faces need aligning"


def test_deformed_faces_are_fitted_with_least_squares():
    """Against Umeyama's formula by singular values; a mirrored shape is never fitted by a mirror."""
    shapes = list(moved_shapes(12, deformation=4.0))
    mean = mean_shape(np.stack(shapes))
    for shape in [*shapes, mean.conj()]:
        a, b, fit = similarity(shape, mean)
        x, y = (np.stack([z.real, z.imag], axis=1) for z in (shape, mean))
        cx, cy = x - x.mean(axis=0), y - y.mean(axis=0)
        u, s, vt = np.linalg.svd(cy.T @ cx)
        sign = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
        rotation = u @ sign @ vt
        scale = (s * np.diag(sign)).sum() / (cx**2).sum()
        shift = y.mean(axis=0) - scale * rotation @ x.mean(axis=0)
        assert np.allclose([[a.real, -a.imag], [a.imag, a.real]], scale * rotation)
        assert np.allclose([b.real, b.imag], shift)
        assert fit == pytest.approx(scale * np.sqrt((cx**2).sum() / (cy**2).sum()))
    assert all(similarity(shape, mean)[2] > 0.9 for shape in shapes)


def test_mean_shape_does_not_depend_on_poses():
    """The shapes' own rotations, scales and places move the mean shape as a whole only; noise averages out."""
    base = base_shape()
    mean = mean_shape(np.stack(list(moved_shapes(400, deformation=3.0))))
    a, _, fit = similarity(mean, base)
    assert fit > 0.9995
    assert abs(np.angle(a)) < 0.05, "it stands upright, as the faces do on average"
    centre = np.stack(list(moved_shapes(400, deformation=3.0))).mean()
    assert abs(mean.mean() - centre) < 1e-9


def test_upright_faces_come_out_as_without_landmarks(tmp_path):
    """Landmarks that need no moving give the centred crop, but for how it is resampled."""
    write_lfw(tmp_path, attributes=False)
    rng = np.random.default_rng(12)
    smooth = Image.fromarray(rng.integers(0, 256, (25, 25, 3), dtype=np.uint8)).resize((250, 250), Image.Resampling.BICUBIC)
    for person, number in KEYS:
        smooth.save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", quality=98)
    landmarks = write_landmarks(tmp_path / "l.txt", dict.fromkeys(KEYS, base_shape() + (125 + 125j)))
    for size in (32, 64, 128):
        plain, aligned = (load(tmp_path, image_size=size, landmarks=one).images.astype(int) for one in (None, landmarks))
        assert np.abs(plain - aligned).mean() < 1.0
        assert np.abs(plain - aligned).max() < 16


def test_fine_stripes_do_not_alias(tmp_path):
    """Stripes of two pixels turn grey at 32 pixels, aligned or not."""
    write_lfw(tmp_path, attributes=False)
    stripes = Image.fromarray(np.where(np.arange(250) % 2, 255, 0).astype(np.uint8)[None].repeat(250, 0)).convert("RGB")
    for person, number in KEYS:
        stripes.save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", quality=98)
    landmarks = write_landmarks(tmp_path / "l.txt", dict(zip(KEYS, moved_shapes(9), strict=True)))
    assert load(tmp_path, landmarks=landmarks).images.std() < 4


def test_beyond_the_border_the_picture_goes_on(tmp_path):
    write_lfw(tmp_path, attributes=False)
    for person, number in KEYS:
        Image.new("RGB", (250, 250), (180, 90, 40)).save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", quality=98)
    shapes = [shape + (100 if i == 0 else -20) for i, shape in enumerate(moved_shapes(9))]
    landmarks = write_landmarks(tmp_path / "l.txt", dict(zip(KEYS, shapes, strict=True)))
    images = load(tmp_path, landmarks=landmarks).images.astype(int)
    assert np.abs(images - (180, 90, 40)).max() <= 4


@pytest.mark.parametrize(
    ("joint", "header", "name"),
    [
        (",", "image_name," + ",".join(f"{a}{i}" for i in range(68) for a in "xy") + "\n", lambda p, i: f"{p}_{i:04d}.jpg"),
        (" ", "# made by hand\n\n", lambda p, i: f"lfw/{p}/{p}_{i:04d}.png"),
        ("\t", "", lambda p, i: f"{p}_{i:04d}"),
        (", ", "", lambda p, i: f"lfw\\{p}\\{p}_{i:04d}.jpg"),
    ],
)
def test_spellings_of_the_landmarks_file(tmp_path, joint, header, name):
    shapes = dict(zip(KEYS, moved_shapes(9), strict=True))
    found = read_landmarks(write_landmarks(tmp_path / "l.txt", shapes, joint, header, name))
    assert sorted(found) == sorted(f"{p}_{i:04d}" for p, i in KEYS)
    for (p, i), shape in shapes.items():
        assert np.abs(found[f"{p}_{i:04d}"] - (0.5 + 0.5j) - shape).max() < 1e-3


def test_pictures_without_landmarks_are_left_out(tmp_path, capsys):
    shapes = dict(zip(KEYS, moved_shapes(9), strict=True))
    write_lfw(tmp_path)
    del shapes["Bo_Li", 1]
    shapes["El_Ng", 1] = shapes["El_Ng", 1].conj() + 250j  # mirrored: no face
    landmarks = write_landmarks(tmp_path / "l.txt", shapes)
    assert pack.main([str(tmp_path), str(tmp_path / "o.h5"), "--image-size", "32", "--landmarks", str(landmarks)]) == 0
    printed = capsys.readouterr().out
    assert "left out    1 with no landmarks" in printed
    assert "left out    1 with landmarks that fit no face" in printed
    data = read_packed(tmp_path / "o.h5")
    assert np.allclose(data.attributes, [values(*key) for key in KEYS if key not in (("Bo_Li", 1), ("El_Ng", 1))], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: "", "is empty"),
        (lambda t: t.replace("\n", " 1.0\n", 1), r"line 1 \(Ann_Smith_0001.jpg\): got 137 numbers, expected 136"),
        (
            lambda t: t.replace("\nAnn_Smith_0002.jpg ", "\nAnn_Smith_0002.jpg x"),
            r"line 2 \(Ann_Smith_0002.jpg\): has something else than num",
        ),
        (lambda t: t.replace("\nAnn_Smith_0002.jpg ", "\nAnn_Smith_0002.jpg nan "), "line 2 .*got 137"),
        (lambda t: "a_0001 " + "nan " * 136, "line 1 .*has a landmark that is no place in a picture"),
        (lambda t: "a_0001 " + "1e9 " * 136, "line 1 .*has a landmark that is no place in a picture"),
        (lambda t: "a_0001 " + "7 " * 136, "line 1 .*all landmarks are in one place"),
        (lambda t: t.replace("Ann_Smith_0002", "Ann_Smith_0001"), "line 2: Ann_Smith_0001.jpg is listed twice"),
        (lambda t: t.replace("_000", "_100"), "none of the 9 pictures can be used: no landmarks"),
        (lambda t: "x" * 200_000, "line 1"),
    ],
)
def test_wrong_landmarks(tmp_path, change, expected):
    write_lfw(tmp_path)
    path = write_landmarks(tmp_path / "l.txt", dict(zip(KEYS, moved_shapes(9), strict=True)))
    path.write_text(change(path.read_text()))
    refused(tmp_path, f"l.txt.*{expected}", landmarks=path)


def test_landmarks_that_cannot_be_used(tmp_path):
    write_lfw(tmp_path)
    refused(tmp_path, "nowhere.txt: cannot be read", landmarks=tmp_path / "nowhere.txt")
    (tmp_path / "l.txt").write_bytes(os.urandom(50) + b"\xff\xfe")
    refused(tmp_path, "l.txt: is no text file", landmarks=tmp_path / "l.txt")
    refused(None, "--landmarks: only pictures of LFW are aligned, the source is faces", landmarks=tmp_path / "l.txt")
    with pytest.raises(UserError, match="--landmarks: only pictures of LFW"):
        pack.main(["faces", str(tmp_path / "o.h5"), "--landmarks", str(tmp_path / "l.txt")])
    landmarks = write_landmarks(tmp_path / "k.txt", dict(zip(KEYS, moved_shapes(9), strict=True)))
    write_lfw(tmp_path, side=200)
    refused(tmp_path, "none of the 9 pictures can be read as LFW's of 250 x 250 pixels$", landmarks=landmarks)
