"""Any folder of pictures: each odd kind of picture by its stated rule, broken ones counted, splits that stay."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vaegan_kernels.data import check_source, describe_source, load_dataset
from vaegan_kernels.data.dataset import hashed_splits, limited
from vaegan_kernels.shell.errors import UserError

RED, BLUE, WHITE = (200, 30, 40), (20, 40, 220), (255, 255, 255)


def load(folder, **options):
    return load_dataset(folder, **{"image_size": 16, "channels": 3, "cache_dir": False} | options)


def one(folder, **options):
    """The only image of a folder, float [S,S,C]."""
    (image,) = load(folder, **options).images
    return image.astype(float)


def halves(size=(40, 40), mode="RGB"):
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def near(pixel, color, by=12):
    return np.abs(np.asarray(pixel) - np.asarray(color)).max() <= by


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "gif", "webp", "tif"])
def test_formats(tmp_path, suffix):
    halves().save(tmp_path / f"a.{suffix}")
    image = one(tmp_path)
    assert near(image[8, 3], RED, 40)
    assert near(image[8, 12], BLUE, 40)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: left becomes top
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = one(tmp_path)
    assert near(image[3, 8], RED)
    assert near(image[12, 8], BLUE)


def test_transparency_is_laid_over_white(tmp_path):
    for place, mode in enumerate(("RGBA", "LA", "P")):
        image = halves().convert("RGBA")
        image.putalpha(Image.new("L", image.size, 0))
        image.paste((*RED, 255), (0, 0, 20, 40))
        path = tmp_path / mode / f"{place}.png"
        path.parent.mkdir()
        if mode == "P":
            flat = halves().quantize(4)
            flat.info["transparency"] = flat.getpixel((39, 20))
            flat.save(path, transparency=flat.getpixel((39, 20)))
        else:
            image.convert(mode).save(path)
        assert near(one(path.parent)[8, 13], WHITE, 2), mode


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("1", "png"), ("CMYK", "jpg"), ("YCbCr", "jpg"), ("P", "gif")])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(tmp_path, mode, suffix, channels):
    Image.new("RGB", (20, 20), WHITE).convert(mode).save(tmp_path / f"a.{suffix}")
    image = one(tmp_path, channels=channels)
    assert image.shape == (16, 16, channels)
    assert image.min() > 245


def test_grey_of_colour_and_colour_of_grey(tmp_path):
    Image.new("RGB", (20, 20), RED).save(tmp_path / "a.png")
    luma = 0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]
    assert abs(one(tmp_path, channels=1).mean() - luma) < 1
    Image.new("L", (20, 20), 90).save(tmp_path / "a.png")
    assert (one(tmp_path, channels=3) == 90).all()


def test_sixteen_bits(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 64), (64, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = one(tmp_path, channels=1)[8, :, 0]
    assert np.abs(image - np.linspace(4, 251, 16)).max() < 8


@pytest.mark.parametrize("size", [(90, 30), (30, 90)])
def test_centred_square_of_non_square(tmp_path, size):
    image = Image.new("RGB", size, WHITE)
    image.paste(RED, ((size[0] - 30) // 2, (size[1] - 30) // 2, (size[0] + 30) // 2, (size[1] + 30) // 2))
    image.save(tmp_path / "a.png")
    assert near(one(tmp_path), RED, 2)


def test_small_enlarged_and_fine_pattern_averaged(tmp_path):
    Image.new("RGB", (1, 1), BLUE).save(tmp_path / "a.png")
    assert near(one(tmp_path), BLUE, 1)
    board = (np.indices((640, 640)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    assert np.abs(one(tmp_path, channels=1) - 127.5).max() < 4, "aliased"


def test_nested_hidden_and_foreign_files(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("a.png", "b/c/d.JPG", ".e.png", ".hidden/f.png"):
        halves().save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    os.mkfifo(tmp_path / "pipe.png")
    data = load(tmp_path)
    assert (len(data), data.skipped) == (2, 0)
    assert describe_source(tmp_path, 16) == ("image folder", 2)


def bomb(width, height):
    """A PNG that says it is width x height pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_broken_pictures_are_skipped_and_counted(tmp_path):
    for i in range(5):
        halves().save(tmp_path / f"good{i}.png")
    whole = (tmp_path / "good0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    halves().save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(bomb(60000, 60000))
    (tmp_path / "warned.png").write_bytes(bomb(11000, 11000))
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    data = load(tmp_path)
    assert (len(data), data.skipped) == (5, 7)
    check_source(tmp_path, image_size=16, channels=3)


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(UserError, match="no image in this folder"):
        check_source(tmp_path, image_size=16, channels=3)
    with pytest.raises(UserError, match="no image in this folder"):
        load(tmp_path)
    (tmp_path / "a.jpg").write_text("no picture")
    for call in (lambda: check_source(tmp_path, image_size=16, channels=3), lambda: load(tmp_path)):
        with pytest.raises(UserError, match="none of the 1 image files can be read"):
            call()


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000])
def test_paths_that_are_not_there(tmp_path, name):
    with pytest.raises(UserError) as error:
        check_source(f"{tmp_path}/{name}", image_size=16, channels=3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.zip", "a.txt", "a.png"])
def test_file_of_the_wrong_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(UserError, match="is a file of no known kind"):
        check_source(tmp_path / name, image_size=16, channels=3)


def test_splits_do_not_move_when_images_are_added():
    names = [f"{i}.png" for i in range(2000)]
    splits = hashed_splits(names)
    assert np.array_equal(hashed_splits(names[:1000]), splits[:1000])
    share = [(splits == code).mean() for code in range(3)]
    assert np.allclose(share, [0.9, 0.05, 0.05], atol=0.02)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_small_folders_have_every_split(n):
    for trial in range(50):
        splits = hashed_splits([f"{trial}/{i}" for i in range(n)])
        if n >= 3:
            assert set(splits) == {0, 1, 2}


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 99, 100, 500])
def test_limit_keeps_splits_in_proportion(limit):
    splits = np.array([0] * 90 + [1] * 4 + [2] * 6, np.uint8)
    chosen = limited(splits, limit)
    assert len(chosen) == len(set(chosen)) == min(limit, 100)
    if limit >= 3:
        assert set(splits[chosen]) == {0, 1, 2}


def test_cache_follows_the_folder(tmp_path):
    folder, cache = tmp_path / "pictures", tmp_path / "cache"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (20, 20), (40 * i, 0, 0)).save(folder / f"{i}.png")
    calls = []
    options = {"cache_dir": cache, "progress": lambda done, total: calls.append(done)}
    first = load(folder, **options)
    assert load(folder, **options).fingerprint == first.fingerprint
    assert calls == [4]
    Image.new("RGB", (20, 20), WHITE).save(folder / "4.png")
    assert len(load(folder, **options)) == 5
    assert calls == [4, 5]
    assert len(list(cache.iterdir())) == 1, "the older entry stays"
