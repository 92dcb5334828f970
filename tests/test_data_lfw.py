"""LFW: pictures, attributes and people's splits matched by name, archives, wrong lists."""

from __future__ import annotations

import numpy as np
import pytest
from app_case import call
from data_case import load, refused, tar_of
from lfw_case import KEYS, NAMES, PEOPLE, level, values, write_lfw
from PIL import Image

from vaegan_kernels import pack, train
from vaegan_kernels.data import attribute_names, describe_source, read_packed


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
    flags = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--out", tmp_path / "run")
    assert call(train.main, "--data", tmp_path / "out.h5", *flags) == 0
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
    from vaegan_kernels.data.formats.lfw_lists import _train_or_validation

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
    (tmp_path / "b" / "people.txt").write_text("of no meaning alone")
    refused(tmp_path / "b", "no image in this folder")
    (tmp_path / "a" / "peopleDevTest.txt").rename(tmp_path / "b" / "peopleDevTest.txt")
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
