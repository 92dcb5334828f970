"""A batch of training images, each varied: contract and formulas at `kernels.contract.batch.Batch.augment_batch`."""

from __future__ import annotations

import math

import numpy as np

from kernels.augmentation import Augmentation, draws, exponent
from kernels.contract.batch import batch_of
from kernels.cpu.batch import mirrored
from kernels.cpu.threads import parallel


def augment_batch(
    x: np.ndarray, images: np.ndarray, order: np.ndarray, counter: np.ndarray,
    *, per_epoch: int, seed: int, flip: bool, strengths: Augmentation, first: int = 0,
) -> None:  # fmt: skip
    indices, step = batch_of(order, counter, per_epoch, len(x)), int(counter[0])
    normal = draws(len(x), seed=seed, step=step, first=first)
    flips = mirrored(len(x), seed=seed, step=step, first=first) & flip
    rows, columns = (np.arange(extent) - (extent - 1) / 2 for extent in x.shape[1:3])

    def work(i: int) -> None:
        image = moved(images[indices[i]], normal[i], strengths, rows, columns[::-1] if flips[i] else columns, x.dtype)
        recolour(image, normal[i], strengths)
        image *= 2
        np.subtract(image, 1, out=x[i])

    parallel(work, range(len(x)))


def moved(
    image: np.ndarray, draw: np.ndarray, strengths: Augmentation, rows: np.ndarray, columns: np.ndarray, dtype: np.dtype
) -> np.ndarray:  # fmt: skip
    """[H, W, C] of ``dtype`` in [0, 1]: the uint8 ``image`` under the map; ``rows``, ``columns``: pixels from the centre."""
    h, w, c = image.shape
    scale, angle = 1 + strengths.scale * draw[2], strengths.rotation * draw[3]
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    dy, dx = rows[:, None], columns[None]
    y = cos * dy + sin * dx + (h - 1) / 2 + strengths.translation * h * draw[1]
    x = cos * dx - sin * dy + (w - 1) / 2 + strengths.translation * w * draw[0]
    np.clip(y, 0, h - 1, out=y)
    np.clip(x, 0, w - 1, out=x)
    top, left = np.floor(y), np.floor(x)
    y, x = (y - top)[..., None].astype(dtype), (x - left)[..., None].astype(dtype)
    first = (top * w + left).astype(np.intp)
    right, down = left < w - 1, np.where(top < h - 1, w, 0)
    flat = image.reshape(-1, c)
    a, b = flat[first].astype(dtype), flat[first + right].astype(dtype)
    a += (b - a) * x
    b, d = flat[first + down].astype(dtype), flat[first + down + right].astype(dtype)
    b += (d - b) * x
    b -= a
    b *= y
    a += b
    a /= 255
    return a


def recolour(v: np.ndarray, draw: np.ndarray, strengths: Augmentation) -> None:
    """Gamma, contrast and hue of an image [H, W, C] in [0, 1], in place."""
    grey = v.shape[2] == 1
    power = exponent(strengths.gamma, draw[4]) if strengths.gamma else 1.0
    contrast = exponent(strengths.contrast, draw[5]) if strengths.contrast else 1.0
    power *= contrast if grey else 1.0
    if power != 1:
        np.power(v, v.dtype.type(power), out=v)
    if grey or not (strengths.contrast or strengths.hue):
        return
    hue, saturation, value = to_hsv(v)
    if strengths.contrast:
        saturation, value = np.power(saturation, v.dtype.type(contrast)), np.power(value, v.dtype.type(contrast))
    hue += 6 * strengths.hue * draw[6]
    for channel, offset in enumerate((5, 3, 1)):
        k = np.mod(hue + offset, 6)
        v[..., channel] = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def to_hsv(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in sixths of the circle, saturation and value, each [H, W]; hue and saturation of a grey pixel are 0."""
    r, g, b = (v[..., i] for i in range(3))
    value = v.max(axis=2)
    span = value - v.min(axis=2)
    divisor = np.where(span > 0, span, 1)
    hue = np.where(value == r, (g - b) / divisor, np.where(value == g, (b - r) / divisor + 2, (r - g) / divisor + 4))
    return np.where(span > 0, hue, 0), span / np.where(value > 0, value, 1), value
