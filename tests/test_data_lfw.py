"""LFW: attributes and people's splits matched by name, archives, alignment by landmarks, wrong lists and landmarks."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from app_case import call
from data_case import load, refused, tar_of
from PIL import Image

from vaegan_kernels import pack, train
from vaegan_kernels.data import attribute_names, describe_source, read_packed
from vaegan_kernels.data.landmarks import mean_shape, read_landmarks, similarity
from vaegan_kernels.errors import UserError

PEOPLE = {"Ann_Smith": 3, "Bo_Li": 1, "Cy_van_der_Berg": 2, "Di_O'Hara": 1, "El_Ng": 2}
NAMES = ["Male", "Black Hair", "5 o' Clock Shadow"]
KEYS = [(person, i) for person in sorted(PEOPLE) for i in range(1, PEOPLE[person] + 1)]


def level(person, number):
    return 30 + 40 * sorted(PEOPLE).index(person) + 10 * number


def write_lfw(parent, name="lfw", *, attributes=True, dev=True, sets=False, side=250):
    """A folder with LFW's pictures, each of one grey level in its middle and white outside of it, and its lists."""
    for person, number in KEYS:
        folder = parent / name / person
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((side, side, 3), 255, np.uint8)
        edge = side // 5
        pixels[edge : side - edge, edge : side - edge] = level(person, number)
        Image.fromarray(pixels).save(folder / f"{person}_{number:04d}.jpg", quality=95)
    if attributes:
        rows = [
            f"{person.replace('_', ' ')}\t{number}\t" + "\t".join(f"{v:.6f}" for v in values(person, number)) for person, number in KEYS
        ]
        header = ["# made for a test", "#\t" + "\t".join(["person", "imagenum", *NAMES])]
        (parent / "lfw_attributes.txt").write_text("\n".join([*header, *rows]) + "\n")
    if dev:
        (parent / "peopleDevTrain.txt").write_text("3\nAnn_Smith\t3\nBo_Li\t1\nCy_van_der_Berg\t2\n")
        (parent / "peopleDevTest.txt").write_text("2\nDi_O'Hara\t1\nEl_Ng\t2\n")
    if sets:
        (parent / "people.txt").write_text("3\n3\nAnn_Smith\t3\nBo_Li\t1\nCy_van_der_Berg\t2\n1\nDi_O'Hara\t1\n1\nEl_Ng\t2\n")
    return parent


def values(person, number):
    return [math.sin(level(person, number) + i) for i in range(3)]


@pytest.mark.parametrize("name", ["lfw", "lfw_funneled", "lfw-deepfunneled"])
@pytest.mark.parametrize("packing", ["folder", "people's folder", "archive", "parent of archive"])
def test_images_attributes_and_splits(tmp_path, name, packing):
    write_lfw(tmp_path, name)
    source = {"folder": tmp_path, "people's folder": tmp_path / name}.get(packing)
    if source is None:
        (tmp_path / "out").mkdir()
        archive = tar_of(tmp_path / name, tmp_path / "out" / f"{name}.tgz")
        for path in tmp_path.glob("*.txt"):
            path.rename(tmp_path / "out" / path.name)
        source = archive if packing == "archive" else archive.parent
    data = load(source)
    assert np.abs(data.images.mean(axis=(1, 2, 3)) - [level(*key) for key in KEYS]).max() < 2, "the crop is the middle 150 pixels"
    assert data.attributes.dtype == np.float32
    assert np.allclose(data.attributes, [values(*key) for key in KEYS], atol=1e-6)
    assert data.attribute_names == tuple(NAMES) == attribute_names(source)
    assert (data.splits[:6] < 2).all() and data.splits[6:].tolist() == [2, 2, 2]
    assert (data.name, data.skipped, data.left_out) == ("LFW", 0, {})
    assert describe_source(source, 32) == ("LFW", 9)


def test_official_number_of_attributes(tmp_path):
    write_lfw(tmp_path)
    rng = np.random.default_rng(9)
    names = [f"Attribute {i}" for i in range(73)]
    numbers = rng.normal(size=(9, 73))
    rows = [f"{p.replace('_', ' ')}\t{i}\t" + "\t".join(map(str, row)) for (p, i), row in zip(KEYS, numbers.tolist(), strict=True)]
    text = "\n".join(["# two lines of comments", "#\tperson\timagenum\t" + "\t".join(names), *reversed(rows)])
    (tmp_path / "lfw_attributes.txt").write_text(text)
    data = load(tmp_path)
    assert data.attributes.shape == (9, 73)
    assert np.allclose(data.attributes, numbers, atol=1e-6)


@pytest.mark.parametrize(("size", "channels"), [(64, 3), (128, 1)])
def test_sizes_and_channels(tmp_path, size, channels):
    assert load(write_lfw(tmp_path), image_size=size, channels=channels).images.shape == (9, size, size, channels)


def test_crop_is_the_middle_and_nothing_else(tmp_path):
    write_lfw(tmp_path)
    pixels = np.full((250, 250, 3), 255, np.uint8)
    pixels[50:200, 50:200] = 40
    for person, number in KEYS:
        Image.fromarray(pixels).save(tmp_path / "lfw" / person / f"{person}_{number:04d}.png")
        (tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg").unlink()
    image = load(tmp_path, image_size=64).images[0].astype(int)
    assert abs(image[2:-2, 2:-2] - 40).max() <= 1
    shifted = np.roll(pixels, 4, axis=1)
    Image.fromarray(shifted).save(tmp_path / "lfw" / "Ann_Smith" / "Ann_Smith_0001.png")
    assert load(tmp_path, image_size=64).images[0, :, 0].mean() > 200


def test_scaled_pictures_and_others(tmp_path):
    data = load(write_lfw(tmp_path, side=125))
    assert np.abs(data.images.mean(axis=(1, 2, 3)) - [level(*key) for key in KEYS]).max() < 3
    Image.new("RGB", (250, 200)).save(tmp_path / "lfw" / "Bo_Li" / "Bo_Li_0001.jpg")
    (tmp_path / "lfw" / "El_Ng" / "El_Ng_0002.jpg").write_bytes(b"no picture")
    data = load(tmp_path)
    assert (len(data), data.skipped) == (7, 2)
    assert np.allclose(data.attributes, [values(*key) for key in KEYS if key not in (("Bo_Li", 1), ("El_Ng", 2))], atol=1e-6)
    for path in (tmp_path / "lfw").rglob("*.jpg"):
        path.write_bytes(b"no picture")
    refused(tmp_path, "none of the 9 pictures can be read as LFW's of 250 x 250 pixels")


def test_pictures_without_a_row_are_left_out_and_counted(tmp_path, capsys):
    write_lfw(tmp_path)
    path = tmp_path / "lfw_attributes.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("Cy van der Berg\t2")))
    data = load(tmp_path)
    assert data.left_out == {"no row in lfw_attributes.txt": 1}
    assert np.allclose(data.attributes, [values(*key) for key in KEYS if key != ("Cy_van_der_Berg", 2)], atol=1e-6)
    assert pack.main([str(tmp_path), str(tmp_path / "out.h5"), "--image-size", "32"]) == 0
    assert "left out    1 with no row in lfw_attributes.txt" in capsys.readouterr().out
    again = read_packed(tmp_path / "out.h5")
    assert again.left_out == data.left_out and np.array_equal(again.attributes, data.attributes)
    assert (
        call(train.main, "--data", tmp_path / "out.h5", "--steps", "2", "--batch-size", "4", "--device", "cpu", "--out", tmp_path / "r")
        == 0
    )
    assert "1 with no row in lfw_attributes.txt left out" in capsys.readouterr().out


def test_people_txt_and_hashes(tmp_path):
    write_lfw(tmp_path, dev=False, sets=True, attributes=False)
    data = load(tmp_path)
    assert data.splits.tolist() == [0] * 6 + [1] + [2] * 2
    assert data.attributes is None and data.attribute_names == ()
    (tmp_path / "people.txt").unlink()
    splits = load(tmp_path).splits
    assert set(splits) == {0, 1, 2}
    for person in PEOPLE:
        assert len({int(split) for split, key in zip(splits, KEYS, strict=True) if key[0] == person}) == 1, "a person in two splits"


def test_one_of_the_two_development_lists(tmp_path):
    both = load(write_lfw(tmp_path)).splits.tolist()
    for name in ("peopleDevTrain.txt", "peopleDevTest.txt"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).unlink()
        assert load(tmp_path).splits.tolist() == both
        (tmp_path / name).write_text(text)


def test_a_tenth_of_the_training_people_is_for_validation():
    from vaegan_kernels.data.lfw_lists import _train_or_validation

    share = np.mean([_train_or_validation(f"Person_{i}") for i in range(4000)])
    assert 0.08 < share < 0.12


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("lfw_attributes.txt", lambda t: t.replace("#\tperson", "#\tname"), "line 3: no line before it has the names"),
        ("lfw_attributes.txt", lambda t: t.replace("Black Hair", "Male"), "line 3: no line before it has the names, each once"),
        ("lfw_attributes.txt", lambda t: t.replace("Bo Li\t1\t", "Bo Li\t1\t0.5\t"), r"line 6 \(Bo Li\): got 6 columns, expected 5"),
        ("lfw_attributes.txt", lambda t: t.replace("Bo Li\t1", "Bo Li\tone"), r"line 6 \(Bo Li\): got the picture's number 'one'"),
        ("lfw_attributes.txt", lambda t: t.replace("Bo Li\t1\t", "Bo Li\t1\tx"), r"line 6 \(Bo Li\): has a value that is no number"),
        ("lfw_attributes.txt", lambda t: t + "Bo Li\t1\t1\t2\tnan\n", r"line 12 \(Bo Li\): has a value that is no number"),
        ("lfw_attributes.txt", lambda t: t + "Bo Li\t1\t1\t2\t3\n", "line 12: Bo Li, 1 is listed twice"),
        ("lfw_attributes.txt", lambda t: t.replace("\t", ","), "line 3"),
        ("lfw_attributes.txt", lambda t: "", "has no row"),
        (
            "lfw_attributes.txt",
            lambda t: "\n".join(t.splitlines()[:2]) + "\nZoe Q\t1\t1\t2\t3",
            "none of the 9 pictures can be used: no row",
        ),
        ("peopleDevTrain.txt", lambda t: t.replace("3\n", "many\n", 1), "line 1: got 'many', expected the number of people"),
        ("peopleDevTrain.txt", lambda t: "4" + t[1:], "line 1: says 4 people, but 3 follow"),
        ("peopleDevTrain.txt", lambda t: "2" + t[1:], "line 4: got 'Cy_van_der_Berg.*expected the end"),
        ("peopleDevTrain.txt", lambda t: t.replace("\t1", ""), "line 3: got 'Bo_Li', expected a person's name and how many"),
        ("peopleDevTest.txt", lambda t: t.replace("El_Ng", "Bo_Li"), "Bo_Li is listed twice; a person must not be in two splits"),
        ("peopleDevTest.txt", lambda t: t.replace("El_Ng", "Zoe"), "no row for El_Ng; use the complete lists"),
        ("people.txt", lambda t: "1" + t[1:], "line 1: got '1', expected the number of sets"),
        ("people.txt", lambda t: "4" + t[1:], "line 10: got '', expected the number of people"),
        ("people.txt", lambda t: "2" + t[1:], "line 8: got '1', expected the end"),
    ],
)
def test_wrong_lists_name_file_line_and_expectation(tmp_path, name, change, expected):
    write_lfw(tmp_path, dev=name != "people.txt", sets=name == "people.txt")
    (tmp_path / name).write_text(change((tmp_path / name).read_text()))
    refused(tmp_path, f"{name}.*{expected}")


def test_binary_list_and_no_pictures(tmp_path):
    write_lfw(tmp_path / "a")
    (tmp_path / "a" / "lfw_attributes.txt").write_bytes(b"\xff\xfe\x00")
    refused(tmp_path / "a", "lfw_attributes.txt: is no text file")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "people.txt").write_text("x")
    (tmp_path / "a" / "people.txt").rename(tmp_path / "b" / "people.txt")
    refused(tmp_path / "b", "has lists of LFW but no pictures")
    write_lfw(tmp_path / "c")
    write_lfw(tmp_path / "c", "lfw-deepfunneled")
    refused(tmp_path / "c", r"holds LFW more than once \(lfw, lfw-deepfunneled\); give one of them")
    assert len(load(tmp_path / "c" / "lfw-deepfunneled")) == 9


def test_truncated_archive(tmp_path):
    write_lfw(tmp_path, attributes=False)
    archive = tar_of(tmp_path / "lfw", tmp_path / "lfw.tgz")
    (tmp_path / "x").mkdir()
    archive = archive.rename(tmp_path / "x" / "lfw.tgz")
    whole = archive.read_bytes()
    for size in (0, 40, len(whole) // 2):
        archive.write_bytes(whole[:size])
        refused(archive, "lfw.tgz: cannot be read, is it cut off.*download it again")


def test_other_folders_of_people_stay_folders_of_images(tmp_path):
    """A layout like LFW's under another name is any folder of images: it is not cropped to its middle."""
    write_lfw(tmp_path, "animals", attributes=False, dev=False)
    assert describe_source(tmp_path, 32) == ("image folder", 9)
    assert describe_source(tmp_path / "animals", 32) == ("image folder", 9)


# Alignment. A face's 68 landmarks are a base shape, a little deformed, under a known rotation, scale and shift.


def base_shape():
    """complex [68] around 0, of a size that fits the crop: an oval of 40 points, and inner points of no symmetry."""
    rng = np.random.default_rng(10)
    oval = [complex(45 * math.cos(t), 55 * math.sin(t)) for t in np.linspace(0.3, 2.9, 40)]
    return np.array(oval + (rng.uniform(-35, 35, 28) + 1j * rng.uniform(-45, 30, 28)).tolist())


def draw_points(shape, marked, side=250):
    """A picture with a soft dot, sigma 2 pixels, at each of the points ``marked`` of ``shape`` (pixel centres at whole numbers)."""
    y, x = np.mgrid[:side, :side]
    dots = [np.exp(-((x - shape[i].real) ** 2 + (y - shape[i].imag) ** 2) / 8) for i in marked]
    return Image.fromarray((255 * np.clip(sum(dots), 0, 1)).astype(np.uint8)).convert("RGB")


def moved_shapes(count, deformation=0.0):
    rng = np.random.default_rng(11)
    for _ in range(count):
        turn = rng.uniform(0.75, 1.25) * np.exp(1j * rng.uniform(-0.5, 0.5))
        noise = deformation * (rng.normal(size=68) + 1j * rng.normal(size=68))
        yield turn * (base_shape() + noise) + complex(*rng.uniform(105, 145, 2))


def write_landmarks(path, rows, joint=" ", header="", name=lambda p, i: f"{p}_{i:04d}.jpg"):
    lines = [joint.join([name(p, i), *(f"{v:.4f}" for z in shape for v in (z.real, z.imag))]) for (p, i), shape in rows.items()]
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def write_faces(tmp_path, shapes, marked):
    write_lfw(tmp_path, attributes=False)
    for (person, number), shape in zip(KEYS, shapes, strict=True):
        draw_points(shape, marked).save(tmp_path / "lfw" / person / f"{person}_{number:04d}.jpg", quality=98)
    return write_landmarks(tmp_path / "landmarks.txt", dict(zip(KEYS, shapes, strict=True)))


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
