"""From an image file to a square of uint8 pixels.

Rules for any picture: EXIF rotation is applied; colours with a profile become sRGB; transparency is laid over white; grey becomes three
equal channels, colour becomes grey by luma where one channel is wanted; CMYK, LAB and palettes are converted; 16-bit values are divided by
257, other wide values are stretched from their minimum and maximum; of an animation the first frame is taken; the centred square is cut
out (``fit`` "pad": white is put beside the picture) and resized with Lanczos's filter, up or down. A JPEG whose last rows alone are missing
is read. Pictures of more than `MAX_PIXELS` are refused unread.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from vaegan_kernels.data.kinds import formats

MAX_PIXELS = 178_956_970  # a guard against decompression bombs: twice Pillow's own warning level
# What Pillow is known to raise on broken files.
READ_ERRORS = (OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, AttributeError, EOFError, MemoryError, RuntimeError,
               OverflowError, ZeroDivisionError, NotImplementedError, Image.DecompressionBombError, Warning)  # fmt: skip


#: Of a JPEG's rows, the share at its end that may be missing.
MISSING = 1 / 16


class Mended(np.ndarray):
    """Pixels of a JPEG that lacks its last bytes."""


def open_image(stream: IO[bytes], smallest: int = 0, check: Callable[[Image.Image], None] = lambda image: None) -> Image.Image:
    """Open a picture in its stored modes, upright. ``smallest``: a JPEG may be decoded reduced, down to this many pixels a side.
    ``check`` may refuse it before it is decoded.

    ``info["mended"]`` is set where it is a JPEG that lacks its last bytes.

    Raises:
        one of READ_ERRORS: the file is no picture, is damaged or too large.
    """
    image: Image.Image = Image.open(stream, formats=formats())
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    check(image)
    if smallest and image.mode in ("L", "RGB") and min(image.size) >= 2 * smallest:
        image.draft(image.mode, (smallest, smallest))
    try:
        image.load()
    except OSError:
        if image.format != "JPEG":
            raise
        image = _mended(stream)
    return ImageOps.exif_transpose(image)


def _mended(stream: IO[bytes]) -> Image.Image:
    """A JPEG that is cut off, if what is missing are few rows: the decoder fills the rest with one colour. Raises one of READ_ERRORS."""
    stream.seek(0)
    image = Image.open(io.BytesIO(stream.read() + b"\xff\xd9"), formats=("JPEG",))
    image.load()
    pixels = np.asarray(image).reshape(image.height, -1)
    varied = np.flatnonzero((pixels != np.tile(pixels[-1, -len(image.getbands()) :], image.width)).any(axis=1))
    if not len(varied) or image.height - 1 - varied[-1] > max(16, MISSING * image.height):
        raise OSError("the file is cut off")
    image.info["mended"] = True
    return image


def _told(image: Image.Image, pixels: np.ndarray) -> np.ndarray:
    """``pixels`` of ``image``, as `Mended` where it was."""
    return pixels.view(Mended) if "mended" in image.info else pixels


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes | None, mode: str) -> Any:
    """Pillow's transform from a colour profile (None: LAB without one) to sRGB; None where it is sRGB, or none for this mode."""
    try:
        from PIL import ImageCms
    except ImportError:
        return None
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        if profile and "srgb" in ImageCms.getProfileDescription(known).lower():
            return None
        return ImageCms.buildTransform(known, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, *READ_ERRORS):
        return None  # a damaged profile, or one of other colours


def _in_srgb(image: Image.Image) -> Image.Image:
    """``image`` with its colours in sRGB: of the profile that it brings, of LAB. Alpha stays."""
    profile = image.info.get("icc_profile")
    if not profile and image.mode != "LAB":
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    colours = {"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode)
    transform = _to_srgb(profile or None, colours)
    if transform is None:
        return image
    changed: Image.Image = transform.apply(image.convert(colours) if colours != image.mode else image)
    if colours != image.mode:
        changed.putalpha(image.getchannel("A"))
    return changed


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """``image`` as mode RGB (3) or L (1), opaque, 8 bits a channel, in sRGB."""
    mode = "L" if channels == 1 else "RGB"
    image = _in_srgb(image)
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        image = _of_16_bits(image)
    elif image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
        if image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535:  # how some Pillow versions open 16-bit PNG
            image = _of_16_bits(image)
        else:
            low, high = values.min(), values.max()
            values = (values - low) * (255.0 / (high - low)) if high > low else np.full_like(values, np.clip(low, 0, 255))
            image = Image.fromarray((values + 0.5).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image.alpha_composite(layer)
        image = image.convert("RGB")
    if image.mode in ("YCbCr", "HSV", "LAB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Grey values up to 65535 as 8 bits; the one that is marked as transparent is white."""
    values = np.asarray(image).astype(np.float32)
    pixels = (values / 257 + 0.5).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        pixels[values == clear] = 255
    return Image.fromarray(pixels)


def to_pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H,W,C] of an image of mode L or RGB."""
    pixels = np.asarray(image)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def read_square(stream: IO[bytes], image_size: int, channels: int, fit: str = "crop") -> np.ndarray:
    """Any picture as uint8 [image_size,image_size,channels], by the rules above; ``fit`` one of `dataset.FITS`.

    Raises one of READ_ERRORS.
    """
    image = open_image(stream, smallest=3 * image_size)
    return _told(image, _square(image, image_size, channels) if fit == "crop" else _padded(image, image_size, channels))


def square_of_array(pixels: np.ndarray, image_size: int, channels: int) -> np.ndarray:
    """uint8 [H,W,1 or 3] as uint8 [image_size,image_size,channels], by the rules above."""
    return _square(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), image_size, channels)


def _padded(image: Image.Image, image_size: int, channels: int) -> np.ndarray:
    """The whole picture, as large as fits the square, white beside it."""
    scale = image_size / max(image.size)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    small = to_mode(image, channels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    page = Image.new(small.mode, (image_size, image_size), "white")
    page.paste(small, ((image_size - size[0]) // 2, (image_size - size[1]) // 2))
    return to_pixels(page)


def _square(image: Image.Image, image_size: int, channels: int) -> np.ndarray:
    side = min(image.size)
    return _resized(image, (image.width - side) // 2, (image.height - side) // 2, side, image_size, channels)


def read_crop(
    stream: IO[bytes], crop: tuple[float, float, float], image_size: int, channels: int,
    check: Callable[[Image.Image], None] = lambda image: None,
) -> np.ndarray:  # fmt: skip
    """A square of any picture as uint8 [image_size,image_size,channels]: the whole one is what `read_square` reads.

    Args:
        crop: its left and upper edge, and its side (0 to 1], in units of the picture's shorter side; moved inside where it is not.
        check: as of `open_image`.

    Raises one of READ_ERRORS, ValueError for numbers that are no square.
    """
    left, top, part = crop
    if not (0 < part <= 1 and math.isfinite(left) and math.isfinite(top)):
        raise ValueError(f"crop: got {left:g}, {top:g}, {part:g}, expected left, top and a side from 0 to 1")
    image = open_image(stream, math.ceil(3 * image_size / part), check)
    shorter = min(image.size)
    side = max(1, round(part * shorter))
    x, y = (min(max(round(at * shorter), 0), length - side) for at, length in zip((left, top), image.size, strict=True))
    return _resized(image, x, y, side, image_size, channels)


def _resized(image: Image.Image, left: int, top: int, side: int, image_size: int, channels: int) -> np.ndarray:
    image = to_mode(image.crop((left, top, left + side, top + side)), channels)
    return to_pixels(image.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def read_preview(stream: IO[bytes], longest: int, check: Callable[[Image.Image], None]) -> Image.Image:
    """Any picture as RGB, its longer side at most ``longest`` pixels; ``check`` as of `open_image`. Raises one of READ_ERRORS."""
    image = to_mode(open_image(stream, longest, check), 3)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def read_celeba(stream: IO[bytes], image_size: int, channels: int) -> np.ndarray:
    """An aligned CelebA picture as uint8 [image_size,image_size,channels]: the paper's crop, smoothed, resized.

    The crop is rows 40:188, columns 15:163 of the official 218 x 178 pixels, scaled by width / 178; the smoothing a Gaussian of
    sigma = sqrt(crop / image_size) / 2 of the picture's own pixels; the resize bicubic. Raises one of READ_ERRORS, ValueError for a
    picture of another shape than 218 : 178.
    """
    opened = open_image(stream)
    image = to_mode(opened, channels)
    scale = image.width / 178.0
    if abs(image.height - 218.0 * scale) > max(1.0, 0.01 * image.height):
        raise ValueError(f"{image.width} x {image.height} pixels, expected 178 x 218 or a scaled copy of it")
    return _told(opened, _smoothed_crop(image, 15.0 * scale, 40.0 * scale, 148.0 * scale, image_size))


def read_lfw(stream: IO[bytes], image_size: int, channels: int, similarity: tuple[complex, complex] | None = None) -> np.ndarray:
    """A picture of LFW as uint8 [image_size,image_size,channels]: the middle 150 x 150 of its 250 x 250 pixels, smoothed, resized.

    Smoothing and resize are those of `read_celeba`. With ``similarity`` = (a, b) the picture is moved first: its point z = x + iy comes to
    a z + b (both from the corner of the corner pixel). Picture and crop are then one affine map, at least as fine as the picture's own
    pixels, and the map's result is reduced: each pixel is interpolated once. Beyond its border a picture continues as at its border.
    Raises one of READ_ERRORS, ValueError for a picture of other sides than 250 (without ``similarity`` a scaled square is good too).
    """
    opened = open_image(stream)
    image = to_mode(opened, channels)
    if image.width != image.height or (similarity is not None and image.width != 250):
        raise ValueError(f"{image.width} x {image.height} pixels, expected 250 x 250")
    scale = image.width / 250.0
    if similarity is None:
        return _told(opened, _smoothed_crop(image, 50.0 * scale, 50.0 * scale, 150.0 * scale, image_size))
    a, b = similarity
    side = 150.0 / abs(a)  # of the crop in the picture's own pixels
    finer = max(1, math.ceil(side / image_size))
    step, start = 150.0 / (image_size * finer) / a, (50.0 + 50.0j - b) / a
    corners = [start + step * image_size * finer * corner for corner in (0, 1, 1j, 1 + 1j)]
    margin = max(0.0, *(max(-z.real, -z.imag, z.real - 250.0, z.imag - 250.0) for z in corners))
    if margin > 0:
        pixels, wide = to_pixels(image), min(math.ceil(margin) + 2, 1000)
        pixels = np.pad(pixels, ((wide, wide), (wide, wide), (0, 0)), mode="edge")
        image, start = Image.fromarray(pixels[..., 0] if channels == 1 else pixels), start + wide * (1 + 1j)
    image = image.filter(ImageFilter.GaussianBlur(math.sqrt(side / image_size) / 2))
    matrix = (step.real, -step.imag, start.real, step.imag, step.real, start.imag)
    moved = image.transform((image_size * finer,) * 2, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return _told(opened, to_pixels(moved.resize((image_size, image_size), Image.Resampling.BICUBIC)))


def _smoothed_crop(image: Image.Image, left: float, top: float, side: float, image_size: int) -> np.ndarray:
    """A square of ``image``, smoothed by a Gaussian of sigma = sqrt(side / image_size) / 2 pixels and resized, bicubic."""
    x, y = math.floor(left), math.floor(top)
    crop = image.crop((x, y, math.ceil(left + side), math.ceil(top + side)))
    crop = crop.filter(ImageFilter.GaussianBlur(math.sqrt(side / image_size) / 2))
    box = (left - x, top - y, left - x + side, top - y + side)
    return to_pixels(crop.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box))
