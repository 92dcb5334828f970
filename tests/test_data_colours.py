"""Pictures' colours: profiles become sRGB, odd modes, 16-bit grey with a transparent value; JPEGs that lack their last bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from vaegan_kernels.data import load_dataset
from vaegan_kernels.data.images import Mended, open_image, read_celeba, read_square, to_mode
from vaegan_kernels.pack import main as pack

P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))  # Display P3's red, green, blue for D50
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
GAMMA = 2.19921875


def profile(space=b"RGB ", primaries=P3, name=b"of a test"):
    """An ICC profile of version 2: three primaries, or grey, and one gamma."""

    def fixed(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(GAMMA * 256))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(1 + 78),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
    }
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {letter + b"XYZ": b"XYZ \0\0\0\0" + fixed(*p) for letter, p in zip((b"r", b"g", b"b"), primaries, strict=True)}
        tags |= {letter + b"TRC": curve for letter in (b"r", b"g", b"b")}
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", 0x02100000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp" + bytes(28)
    head += fixed(0.9642, 1, 0.8249)
    return (head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body)[: place + len(body)]


def in_srgb(values):
    """What colours of `profile`'s P3 are in sRGB, 0 to 255, by its definition."""
    xyz = (np.asarray(values) / 255.0) ** GAMMA @ np.array(P3)
    linear = np.clip(xyz @ np.linalg.inv(np.array(SRGB)), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def stored(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    stream.seek(0)
    return stream


def read(stream, channels=3, size=16):
    return read_square(stream, size, channels).astype(float)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_colour_profile_becomes_srgb(kind):
    colour = (200, 90, 40)
    options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    found = read(stored(Image.new("RGB", (32, 32), colour), kind, icc_profile=profile(), **options)).mean(axis=(0, 1))
    assert np.abs(found - in_srgb(colour)).max() < 3 and np.abs(in_srgb(colour) - colour).max() > 12
    assert np.abs(read(stored(Image.new("RGB", (32, 32), colour), kind, **options)).mean(axis=(0, 1)) - colour).max() < 3


def test_profiles_beside_transparency_and_palettes():
    colour, white = (200, 90, 40), (255, 255, 255)
    image = Image.new("RGBA", (32, 32), (*colour, 255))
    image.paste((*colour, 0), (16, 0, 32, 32))
    for one in (image, image.quantize(8, method=Image.Quantize.FASTOCTREE)):
        found = read(stored(one, icc_profile=profile()))
        assert np.abs(found[8, 2] - in_srgb(colour)).max() < 4 and np.abs(found[8, 13] - white).max() < 3, one.mode


def test_a_grey_profile_and_one_channel():
    found = read(stored(Image.new("L", (32, 32), 100), icc_profile=profile(b"GRAY")), channels=1).mean()
    linear = (100 / 255) ** GAMMA
    assert abs(found - 255 * (1.055 * linear ** (1 / 2.4) - 0.055)) < 2
    grey = read(stored(Image.new("RGB", (32, 32), (200, 90, 40)), icc_profile=profile()), channels=1).mean()
    assert abs(grey - in_srgb((200, 90, 40)) @ (0.299, 0.587, 0.114)) < 2


@pytest.mark.parametrize("icc", [b"no profile", b"", profile(b"GRAY"), profile()[:200], profile(name=b"sRGB IEC61966-2.1")])
def test_a_damaged_or_foreign_profile_is_passed_over(icc):
    assert np.abs(read(stored(Image.new("RGB", (32, 32), (200, 90, 40)), icc_profile=icc)) - (200, 90, 40)).max() == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["LAB", "YCbCr", "CMYK"])
def test_tiff_of_other_colours(mode, channels):
    colour = (200, 90, 40)
    image = Image.new("RGB", (32, 32), colour)
    if mode == "LAB":
        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    else:
        image = image.convert(mode)
    found = read(stored(image, "TIFF"), channels).mean(axis=(0, 1))
    assert np.abs(found - (colour if channels == 3 else np.dot(colour, (0.299, 0.587, 0.114)))).max() < 4


def png_of_16_bits(values, clear):
    """A grey PNG of 16 bits with one transparent value."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + np.asarray(row, ">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(">H", clear)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_with_a_transparent_value(channels):
    values = np.full((32, 32), 20000)
    values[:, 16:] = 1000
    found = read(png_of_16_bits(values, 1000), channels)
    assert np.abs(found[8, 2] - 20000 / 257).max() < 3 and np.abs(found[8, 13] - 255).max() < 3


# ---- files that are cut off ----


def noise(size=(64, 64), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_bytes(progressive):
    whole = stored(noise(), "JPEG", quality=90, progressive=progressive).getvalue()
    expected = read(io.BytesIO(whole))
    for lost in (20, 100):  # without the last two alone nothing is missing
        pixels = read_square(io.BytesIO(whole[:-lost]), 16, 3)
        assert isinstance(pixels, Mended) and np.abs(pixels.astype(float) - expected)[:12].mean() < 6, lost
    assert not isinstance(read_square(io.BytesIO(whole), 16, 3), Mended)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.8])
def test_a_jpeg_without_much_of_its_rows_is_refused(part):
    whole = stored(noise((256, 256)), "JPEG", quality=90).getvalue()
    with pytest.raises(OSError):
        open_image(io.BytesIO(whole[: int(part * len(whole))]))


def test_mended_pictures_are_counted(tmp_path, capsys):
    for i in range(4):
        path = tmp_path / "photos" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stored(noise(seed=i), "JPEG").getvalue()[: None if i else -20])
    data = load_dataset(tmp_path / "photos", image_size=16, channels=3, cache_dir=False)
    assert (len(data), data.skipped, data.cut) == (4, 0, 1)
    assert pack([str(tmp_path / "photos"), str(tmp_path / "out.h5"), "--image-size", "16"]) == 0
    assert "cut off     1 that lack their last bytes, and were read" in capsys.readouterr().out
    celeba = stored(noise((178, 218)), "JPEG").getvalue()[:-20]
    assert isinstance(read_celeba(io.BytesIO(celeba), 16, 3), Mended)


def test_modes_stay_what_they_were():
    assert to_mode(Image.new("RGB", (4, 4)), 3).mode == "RGB" and to_mode(Image.new("LA", (4, 4)), 1).mode == "L"


# ---- pictures that are no squares ----


@pytest.mark.parametrize("size, channels", [((60, 30), 3), ((30, 60), 1)])
def test_pad_keeps_the_whole_picture(size, channels):
    image = Image.new("RGB", size, (40, 40, 40))
    found = read_square(stored(image), 16, channels, "pad")[:, :, 0]
    found = found if size[0] > size[1] else found.T
    assert (found[:4] == 255).all() and (found[12:] == 255).all() and np.abs(found[4:12].astype(int) - 40).max() <= 1
    assert (read_square(stored(image), 16, channels, "crop") < 50).all()


def test_fit_goes_along_with_a_run(tmp_path, capsys):
    """From train or from a packed file into the run's settings, and from there to what is rebuilt."""
    import json

    from app_case import TINY, call

    from vaegan_kernels import load_model, train
    from vaegan_kernels.data import check_source
    from vaegan_kernels.reconstruct import read_image
    from vaegan_kernels.shell.errors import UserError

    for i in range(6):
        path = tmp_path / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 30), (40, 40, 40)).save(path)
    assert call(pack, tmp_path / "photos", tmp_path / "p.h5", "--image-size", 32, "--fit", "pad") == 0
    one = load_dataset(tmp_path / "photos", image_size=32, channels=3, cache_dir=False, fit="pad")
    assert one.fit == "pad" and one.fingerprint == load_dataset(tmp_path / "p.h5", image_size=32, channels=3).fingerprint
    for data, flags in ((tmp_path / "p.h5", ()), (tmp_path / "photos", ("--fit", "pad"))):
        out = tmp_path / f"run {data.name}"
        flags = (*TINY, "--batch-size", 2, "--steps", 2, "--threads", 1, *flags)
        assert call(train.main, "--data", data, "--out", out, "--stop-after", 1, *flags) == 0
        assert call(train.main, "--resume", out) == 0
        assert json.loads((out / "config.json").read_text())["fit"] == "pad"
        assert (read_image(tmp_path / "photos" / "0.png", load_model(out, threads=1))[:7] == 255).all()
    (tmp_path / "img_align_celeba").mkdir()
    Image.new("RGB", (178, 218)).save(tmp_path / "img_align_celeba" / "000001.jpg")
    with pytest.raises(UserError, match="--fit pad: for a folder of images alone; the source is CelebA folder"):
        check_source(tmp_path, image_size=32, channels=3, fit="pad")
