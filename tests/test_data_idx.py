"""MNIST's and Fashion-MNIST's idx files, gzipped or not: pixels, labels, names, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc

import numpy as np
import pytest
from app_case import call
from data_case import idx, load, refused, write_idx
from PIL import Image

from vaegan_kernels import pack, train
from vaegan_kernels.data import describe_source, read_packed

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("joint", ["-", "."])
def test_images_labels_and_splits(tmp_path, packed, joint):
    images, labels = write_idx(tmp_path / "mnist", packed=packed, joint=joint)
    data = load(tmp_path / "mnist", image_size=28, channels=1)
    assert np.array_equal(data.images[..., 0], images), "28 pixels need no resizing"
    assert data.labels.tolist() == labels.tolist()
    assert data.label_names == tuple("0123456789")
    assert data.splits.tolist() == [1 if i % 12 == 11 else 0 for i in range(48)] + [2] * 10
    assert data.name == "MNIST"
    assert describe_source(tmp_path / "mnist", 28) == ("MNIST", 58)


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
def test_fashion_is_told_by_the_folder(tmp_path, place):
    write_idx(tmp_path / place, packed=True)
    data = load(tmp_path / place.split("/")[0])
    assert (data.name, data.label_names) == ("Fashion-MNIST", FASHION)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_sizes_and_channels(tmp_path, size):
    images, _ = write_idx(tmp_path / "mnist")
    colour, grey = (load(tmp_path / "mnist", image_size=size, channels=channels).images for channels in (3, 1))
    assert colour.shape == (58, size, size, 3) and grey.shape == (58, size, size, 1)
    assert (colour == grey).all(), "three equal channels"
    expected = np.asarray(Image.fromarray(images[5]).resize((size, size), Image.Resampling.LANCZOS))
    assert np.array_equal(grey[5, ..., 0], expected)


def test_oblong_images_are_cropped(tmp_path):
    write_idx(tmp_path / "m")
    images = np.random.default_rng(8).integers(0, 256, (10, 20, 28), dtype=np.uint8)
    (tmp_path / "m" / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    data = load(tmp_path / "m", image_size=20, channels=1)
    assert np.array_equal(data.images[48:, ..., 0], images[:, :, 4:24])


def test_parts_that_are_there(tmp_path):
    images, labels = write_idx(tmp_path / "m")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / "m" / name).rename(tmp_path / name)
    data = load(tmp_path / "m", image_size=28, channels=1)
    assert data.splits.tolist() == [2] * 10
    assert data.labels.tolist() == labels[48:].tolist()
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "m" / "train-images-idx3-ubyte")
    assert load(tmp_path / "m").labels.tolist() == [-1] * 48 + labels[48:].tolist()
    (tmp_path / "m" / "t10k-labels-idx1-ubyte").unlink()
    assert load(tmp_path / "m").labels is None
    (tmp_path / "n").mkdir()
    (tmp_path / "train-labels-idx1-ubyte").rename(tmp_path / "n" / "train-labels-idx1-ubyte")
    refused(tmp_path / "n", "no image in this folder")
    refused(tmp_path / "n" / "train-labels-idx1-ubyte", "give the folder that holds it")


def test_plain_file_is_preferred_to_the_gzipped(tmp_path):
    images, _ = write_idx(tmp_path / "m")
    (tmp_path / "m" / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    assert np.array_equal(load(tmp_path / "m", image_size=28, channels=1).images[..., 0], images)


def test_more_than_ten_classes(tmp_path):
    write_idx(tmp_path / "fashion")
    (tmp_path / "fashion" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(10, 25, np.uint8)))
    data = load(tmp_path / "fashion")
    assert data.label_names == tuple(str(i) for i in range(26))


def small(count, height, width):
    return idx(np.zeros((count, height, width), np.uint8))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("images", b"", "begins with nothing, expected 00 00 08 03 and 3 sizes"),
        ("images", b"\x00\x00\x08", "begins with 00 00 08, expected"),
        ("images", small(48, 28, 28)[:10], "begins with 00 00 08 03, expected 00 00 08 03 and 3 sizes"),
        ("images", b"\x89PNG and so on, long enough", "begins with 89 50 4e 47"),
        ("images", bytes((0, 0, 13, 3)) + bytes(100), "begins with 00 00 0d 03"),
        ("images", idx(np.zeros(48, np.uint8)) + bytes(20), "begins with 00 00 08 01"),
        ("images", small(0, 28, 28), "says 0 images of 28 x 28"),
        ("images", small(9, 2, 28), "says 9 images of 2 x 28 pixels, expected 1 to 10000000 of 4 to 1024 pixels a side"),
        ("images", small(48, 28, 28)[:-5], "cut off|ends after 37627 of 37632 bytes"),
        ("images", small(48, 28, 28) + b"x", "not what its header says|continues after the 37632 bytes"),
        ("labels", small(48, 28, 28), "begins with 00 00 08 03, expected 00 00 08 01 and 1 size"),
        ("labels", idx(np.zeros(47, np.uint8)), "has 47 labels for 48 images"),
        ("labels", idx(np.zeros(48, np.uint8))[:-1], "cut off|ends after 47 of 48 bytes"),
    ],
)
def test_wrong_files(tmp_path, packed, name, content, expected):
    write_idx(tmp_path / "m", packed=packed)
    path = next((tmp_path / "m").glob(f"train-{name}-*"))
    path.write_bytes(gzip.compress(content) if packed else content)
    refused(tmp_path / "m", f"{path.name}: .*({expected}).*download")


def test_damaged_gzip(tmp_path):
    write_idx(tmp_path / "m", packed=True)
    path = tmp_path / "m" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-4], whole[:2000] + bytes(200) + whole[2200:], whole[:-8] + bytes(8)):
        path.write_bytes(content)
        refused(tmp_path / "m", "train-images-idx3-ubyte.gz: .*download it again")


def test_gzip_bombs_are_not_unpacked(tmp_path):
    """The header says how much there is: no more is read, and no header is believed that the file's size makes impossible."""
    write_idx(tmp_path / "m", packed=True)
    path = tmp_path / "m" / "train-images-idx3-ubyte.gz"
    bomb = gzip.compress(small(48, 28, 28) + bytes(60_000_000))
    claim = gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", 9_999_999, 1024, 1024) + bytes(1000))
    labels = gzip.compress(bytes((0, 0, 8, 1)) + struct.pack(">I", 2**32 - 1) + bytes(1000))
    for target, content, expected in (
        (path, bomb, "continues after the 37632 bytes that its header says"),
        (path, claim, "says 9999999 x 1024 x 1024, which cannot be in"),
        (tmp_path / "m" / "train-labels-idx1-ubyte.gz", labels, "has 4294967295 labels for 48 images"),
    ):
        kept = target.read_bytes()
        target.write_bytes(content)
        start = time.perf_counter()
        tracemalloc.start()
        refused(tmp_path / "m", expected)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000 and time.perf_counter() - start < 20
        target.write_bytes(kept)


def test_pack_and_train_with_grey_and_colour(tmp_path, capsys):
    images, labels = write_idx(tmp_path / "mnist", packed=True)
    out = tmp_path / "m.h5"
    assert pack.main([str(tmp_path / "mnist"), str(out), "--image-size", "32", "--channels", "1"]) == 0
    printed = capsys.readouterr().out
    assert "MNIST: 58 images" in printed
    assert f"labels      10 classes (0 {(labels == 0).sum()}, 1 {(labels == 1).sum()}," in printed
    data = read_packed(out)
    assert data.images.shape == (58, 32, 32, 1) and data.labels.tolist() == labels.tolist()
    for channels in (1, 3):
        code = call(
            train.main, "--data", tmp_path / "mnist", "--steps", "2", "--batch-size", "4", "--device", "cpu", "--image-channels", channels,
            "--out", tmp_path / f"run{channels}", "--no-animation",
        )  # fmt: skip
        assert code == 0
        assert "data: MNIST, 44 train, 4 validation, 10 test images" in capsys.readouterr().out
