"""CelebA's official layout: crop, smoothing, wrong lists, splits honoured; and the real piece, where it lies beside the repository."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaegan_kernels.data import check_source, describe_source, load_dataset
from vaegan_kernels.shell.errors import UserError

PIECE = Path(__file__).resolve().parents[2] / "shared" / "data" / "celeba-9k"
NAMES = ["Bald", "Smiling", "Young"]


def write_celeba(folder, *, count=6, width=178, zipped=False, attributes=True, partition=True):
    """A CelebA folder of grey pictures: image i is of level 40 + 10 i, has attribute i % 3, and is of split (0, 0, 0, 0, 1, 2)[i]."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (width, round(218 * width / 178)), (40 + 10 * i,) * 3).save(images / f"{i + 1:06d}.jpg", quality=95)
    rows = [f"{i + 1:06d}.jpg {' '.join(' 1' if j == i % 3 else '-1' for j in range(3))}" for i in range(count)]
    if attributes:
        (folder / "list_attr_celeba.txt").write_text(f"{count}\n{' '.join(NAMES)} \n" + "\n".join(rows) + "\n")
    if partition:
        (folder / "list_eval_partition.txt").write_text("".join(f"{i + 1:06d}.jpg {(0, 0, 0, 0, 1, 2)[i % 6]}\n" for i in range(count)))
    if zipped:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as file:
            for path in sorted(images.iterdir()):
                file.write(path, f"img_align_celeba/{path.name}")
                path.unlink()
        images.rmdir()
    return folder


def load(folder, **options):
    return load_dataset(folder, **{"image_size": 32, "channels": 3, "cache_dir": False} | options)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("width", [178, 89])
def test_images_attributes_and_splits(tmp_path, zipped, width):
    data = load(write_celeba(tmp_path, zipped=zipped, width=width))
    assert np.abs(data.images.mean(axis=(1, 2, 3)) - (40 + 10 * np.arange(6))).max() < 2
    assert data.splits.tolist() == [0, 0, 0, 0, 1, 2]
    assert data.attribute_names == tuple(NAMES)
    assert data.attributes.tolist() == [[1 if j == i % 3 else -1 for j in range(3)] for i in range(6)]
    assert (data.name, data.skipped) == ("CelebA", 0)
    assert describe_source(tmp_path, 32) == ("CelebA folder", 6)


def test_official_sub_folders(tmp_path):
    write_celeba(tmp_path / "x")
    for name, place in (("img_align_celeba", "Img"), ("list_attr_celeba.txt", "Anno"), ("list_eval_partition.txt", "Eval")):
        (tmp_path / "y" / place).mkdir(parents=True)
        (tmp_path / "x" / name).rename(tmp_path / "y" / place / name)
    data = load(tmp_path / "y")
    assert (len(data), len(data.attribute_names), data.splits.tolist()) == (6, 3, [0, 0, 0, 0, 1, 2])


@pytest.mark.parametrize("width", [178, 89, 356])
def test_crop_is_scaled(tmp_path, width):
    """Everything outside the official crop is white: none of it may be seen but by the smoothing at the border."""
    scale = width / 178
    pixels = np.full((round(218 * scale), width, 3), 255, np.uint8)
    top, left, side = 40 * scale, 15 * scale, 148 * scale
    pixels[math.floor(top) : math.ceil(top + side), math.floor(left) : math.ceil(left + side)] = (10, 120, 60)
    folder = write_celeba(tmp_path, count=1, width=width)
    Image.fromarray(pixels).save(folder / "img_align_celeba" / "000001.jpg", quality=100, subsampling=0)
    (image,) = load(folder, image_size=64).images.astype(int)
    assert np.abs(image - (10, 120, 60)).max() < 30
    shifted = np.roll(pixels, -round(4 * scale), axis=1)
    Image.fromarray(shifted).save(folder / "img_align_celeba" / "000001.jpg", quality=100, subsampling=0)
    (image,) = load(folder, image_size=64).images.astype(int)
    assert image[:, -1].mean() > 200, "the crop is wider than it should be"


def test_smoothing_is_the_gaussian_of_the_paper(tmp_path):
    """Against a Gaussian and an exact resize written here, on noise."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (218, 178), dtype=np.uint8)
    folder = write_celeba(tmp_path, count=1)
    Image.fromarray(pixels).save(folder / "img_align_celeba" / "000001.png")
    (folder / "img_align_celeba" / "000001.jpg").unlink()
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (folder / name).unlink()
    (image,) = load(folder, image_size=64, channels=1).images.astype(float)
    crop = pixels[40:188, 15:163].astype(float)
    sigma = math.sqrt(148 / 64) / 2
    taps = np.exp(-0.5 * (np.arange(-6, 7) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(crop, [(6, 6) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        crop = sum(t * np.take(padded, range(i, i + 148), axis=axis) for i, t in enumerate(taps))
    expected = np.asarray(Image.fromarray(crop.astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(image[..., 0] - expected).mean() < 1.5


def test_no_lists(tmp_path):
    data = load(write_celeba(tmp_path, attributes=False, partition=False))
    assert data.attributes is None
    assert data.attribute_names == ()
    assert set(data.splits) == {0, 1, 2}


def test_rows_without_image_are_left_out(tmp_path):
    folder = write_celeba(tmp_path)
    (folder / "img_align_celeba" / "000002.jpg").unlink()
    data = load(folder)
    assert data.splits.tolist() == [0, 0, 0, 1, 2]
    assert data.attributes[1].tolist() == [-1, -1, 1]


def edit(line, new):
    def change(lines):
        return lines[: line - 1] + ([new] if new is not None else []) + lines[line:]

    return change


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("list_attr_celeba.txt", edit(1, "many"), "line 1: got 'many', expected the number of images"),
        ("list_attr_celeba.txt", edit(1, "7"), "says 7 images, but 6 rows follow"),
        ("list_attr_celeba.txt", edit(2, "Bald Bald Young"), "line 2.*each once"),
        ("list_attr_celeba.txt", edit(2, None), "line 2"),
        ("list_attr_celeba.txt", edit(4, "000002.jpg 1 0 -1"), r"line 4 \(000002.jpg\): got the value '0', expected 1 or -1"),
        ("list_attr_celeba.txt", edit(4, "000002.jpg 1 -1"), r"line 4 .*got 2 values, expected 3"),
        ("list_attr_celeba.txt", edit(4, "000001.jpg 1 -1 1"), "line 4: 000001.jpg is listed twice"),
        ("list_attr_celeba.txt", edit(4, "999999.jpg 1 -1 1"), "has no row for 000002.jpg"),
        ("list_attr_celeba.txt", lambda lines: [], "line 1: got ''"),
        ("list_eval_partition.txt", edit(3, "000003.jpg 3"), "line 3: got '000003.jpg 3', expected an image name and 0"),
        ("list_eval_partition.txt", edit(3, "000003.jpg"), "line 3"),
        ("list_eval_partition.txt", edit(3, None), "has no row for 000003.jpg"),
    ],
)
def test_wrong_lists_name_file_line_and_expectation(tmp_path, name, change, expected):
    path = write_celeba(tmp_path) / name
    path.write_text("\n".join(change(path.read_text().splitlines())))
    for call in (lambda: check_source(tmp_path, image_size=32, channels=3), lambda: load(tmp_path)):
        with pytest.raises(UserError, match=expected) as error:
            call()
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_binary_list(tmp_path):
    (write_celeba(tmp_path) / "list_attr_celeba.txt").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(UserError, match="is no text file"):
        check_source(tmp_path, image_size=32, channels=3)


def test_corrupt_members_and_other_shapes_are_skipped(tmp_path):
    folder = write_celeba(tmp_path, zipped=True)
    content = bytearray((folder / "img_align_celeba.zip").read_bytes())
    place = content.find(b"img_align_celeba/000003.jpg") + 60
    content[place : place + 40] = bytes(40)  # the checksum no longer holds
    (folder / "img_align_celeba.zip").write_bytes(content)
    data = load(folder)
    assert (len(data), data.skipped) == (5, 1)
    assert data.attributes[2].tolist() == [1, -1, -1], "attributes must stay with their image"


def test_zip_cut_off_and_folder_without_images(tmp_path):
    folder = write_celeba(tmp_path / "a", zipped=True)
    archive = folder / "img_align_celeba.zip"
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match="is no whole zip file"):
        check_source(folder, image_size=32, channels=3)
    archive.unlink()
    with pytest.raises(UserError, match="has CelebA's lists, but no img_align_celeba.zip and no folder"):
        check_source(folder, image_size=32, channels=3)


def test_pictures_that_are_not_aligned(tmp_path):
    folder = write_celeba(tmp_path)
    for path in (folder / "img_align_celeba").iterdir():
        Image.new("RGB", (200, 200)).save(path)
    with pytest.raises(UserError, match="178 x 218"):
        check_source(folder, image_size=32, channels=3)


@pytest.mark.skipif(not PIECE.is_dir(), reason=f"needs the piece of CelebA at ../shared/data/{PIECE.name} beside the repository")
def test_real_piece():
    check_source(PIECE, image_size=64, channels=3)
    data = load(PIECE, image_size=64, limit=64, workers=1)
    assert data.images.shape == (64, 64, 64, 3)
    assert data.skipped == 0
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [57, 4, 3]
    assert len(data.attribute_names) == 40
    young = data.attributes[:, data.attribute_names.index("Young")]
    assert (young > 0).mean() > 0.5
    assert 80 < data.images.mean() < 160
