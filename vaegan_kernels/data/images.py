"""From an image file to a square of uint8 pixels.

Rules for any picture: EXIF rotation is applied; transparency is laid over white; grey becomes three equal channels, colour becomes
grey by luma where one channel is wanted; CMYK and palettes are converted; 16-bit values are divided by 257, other wide values are
stretched from their minimum and maximum; of an animation the first frame is taken; the centred square is cut out and resized with
Lanczos's filter, up or down. Pictures of more than `MAX_PIXELS` are refused unread.
"""

from __future__ import annotations

import math
from typing import IO

import numpy as np
from PIL import (  # the plug-ins named here register their formats
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFilter,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

# Formats as their contents say, whatever the file's name: none that would start another program. WebP may be missing from a Pillow.
FORMATS = tuple(name for name in ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF") if name in Image.OPEN)
EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
MAX_PIXELS = 178_956_970  # a guard against decompression bombs: twice Pillow's own warning level
# What Pillow is known to raise on broken files.
READ_ERRORS = (OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, AttributeError, EOFError, MemoryError, RuntimeError,
               OverflowError, ZeroDivisionError, NotImplementedError, Image.DecompressionBombError, Warning)  # fmt: skip


def open_image(stream: IO[bytes], smallest: int = 0) -> Image.Image:
    """Open a picture in its stored modes, upright. ``smallest``: a JPEG may be decoded reduced, down to this many pixels a side.

    Raises:
        one of READ_ERRORS: the file is no picture, is damaged or too large.
    """
    image = Image.open(stream, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    if smallest and image.mode in ("L", "RGB") and min(image.size) >= 2 * smallest:
        image.draft(image.mode, (smallest, smallest))
    image.load()
    return ImageOps.exif_transpose(image)


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """``image`` as mode RGB (3) or L (1), opaque, 8 bits a channel."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257 + 0.5).astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
        if image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535:  # how some Pillow versions open 16-bit PNG
            values = values / 257
        else:
            low, high = values.min(), values.max()
            values = (values - low) * (255.0 / (high - low)) if high > low else np.full_like(values, np.clip(low, 0, 255))
        image = Image.fromarray((values + 0.5).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image.alpha_composite(layer)
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def to_pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H,W,C] of an image of mode L or RGB."""
    pixels = np.asarray(image)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def read_square(stream: IO[bytes], image_size: int, channels: int) -> np.ndarray:
    """Any picture as uint8 [image_size,image_size,channels], by the rules above. Raises one of READ_ERRORS."""
    image = open_image(stream, smallest=3 * image_size)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = to_mode(image.crop((left, top, left + side, top + side)), channels)
    return to_pixels(image.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def read_celeba(stream: IO[bytes], image_size: int, channels: int) -> np.ndarray:
    """An aligned CelebA picture as uint8 [image_size,image_size,channels]: the paper's crop, smoothed, resized.

    The crop is rows 40:188, columns 15:163 of the official 218 x 178 pixels, scaled by width / 178; the smoothing a Gaussian of
    sigma = sqrt(crop / image_size) / 2 of the picture's own pixels; the resize bicubic. Raises one of READ_ERRORS, ValueError for a
    picture of another shape than 218 : 178.
    """
    image = to_mode(open_image(stream), channels)
    scale = image.width / 178.0
    if abs(image.height - 218.0 * scale) > max(1.0, 0.01 * image.height):
        raise ValueError(f"{image.width} x {image.height} pixels, expected 178 x 218 or a scaled copy of it")
    left, top, side = 15.0 * scale, 40.0 * scale, 148.0 * scale
    x, y = math.floor(left), math.floor(top)
    crop = image.crop((x, y, math.ceil(left + side), math.ceil(top + side)))
    crop = crop.filter(ImageFilter.GaussianBlur(math.sqrt(side / image_size) / 2))
    box = (left - x, top - y, left - x + side, top - y + side)
    return to_pixels(crop.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box))
