"""Counter-based random numbers: a pure function of (seed, step, stream, index).

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is the seed; the counter is
(block, stream, step low, step high); a block gives four 32-bit words, and element ``i`` of a draw is word ``i % 4`` of
block ``i // 4``. Nothing is remembered between calls, so a resumed run draws what the uninterrupted run would have
drawn, and every engine draws the same integers.
"""

from __future__ import annotations

import math

import numpy as np

# One stream for each purpose, so that no two purposes ever share a number.
STREAM_EPS = 1  # ε of the reparametrisation
STREAM_PRIOR = 2  # z_p ~ N(0, I)
STREAM_SHUFFLE = 3  # order of the images in an epoch (step = epoch)
STREAM_FLIP = 4  # horizontal flips
STREAM_INIT = 5  # initial parameters (step = index of the parameter)
STREAM_FIGURE_EPS = 6  # ε of the reconstructions that are drawn
STREAM_FIGURE_PRIOR = 7  # z of the samples that are drawn
STREAM_DATA = 8  # the built-in data set
STREAM_LABELS = 9  # which images keep their labels (step = class)
STREAM_AUGMENT = 10  # how a training image is varied
STREAM_DIS_NOISE = 11  # noise on the images that Dis is shown

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl constants: golden ratio, sqrt(3) - 1
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: np.ndarray, key: tuple[int, int], rounds: int = 10) -> np.ndarray:
    """Ten rounds of Philox on each row of ``counter`` (uint32 ``[n, 4]``) → uint32 ``[n, 4]``."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = _M0 * c0, _M1 * c2  # 32 x 32 -> 64 bits: never overflows
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def uint32(shape: int | tuple[int, ...], *, seed: int, step: int, stream: int, start: int = 0) -> np.ndarray:
    """Uniform 32-bit integers of ``shape``, from element ``start`` (a multiple of 4) of the draw on.

    Raises:
        ValueError: a negative or too large seed, step or stream, or a start that is not a multiple of 4.
    """
    for name, value, bits in (("seed", seed, 64), ("step", step, 64), ("stream", stream, 32)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name}: got {value}, expected an integer in [0, 2^{bits})")
    if start < 0 or start % 4:
        raise ValueError(f"start: got {start}, expected a multiple of 4")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    n = math.prod(shape)
    counter = np.empty((-(-n // 4), 4), np.uint32)
    counter[:, 0] = np.arange(start // 4, start // 4 + len(counter))
    counter[:, 1] = stream
    counter[:, 2] = step & 0xFFFFFFFF
    counter[:, 3] = step >> 32
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:n].reshape(shape)


def normal(shape: int | tuple[int, ...], *, seed: int, step: int, stream: int, start: int = 0) -> np.ndarray:
    """N(0, 1) draws, float64, from element ``start`` of the draw on, by Box-Muller: words (a, b) of a block give the pair
    ``r cos(2πv), r sin(2πv)`` with ``r = sqrt(-2 ln u)``, ``u = (a + ½) / 2^32``, ``v = (b + ½) / 2^32``."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    before = start % 4
    n = math.prod(shape) + before
    words = uint32(n + n % 2, seed=seed, step=step, stream=stream, start=start - before)
    u = (words.astype(np.float64) + 0.5) / 2.0**32
    r, angle = np.sqrt(-2.0 * np.log(u[0::2])), 2.0 * np.pi * u[1::2]
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1).reshape(-1)[before:n].reshape(shape)


def uniform(shape: int | tuple[int, ...], *, seed: int, step: int, stream: int, start: int = 0) -> np.ndarray:
    """U(0, 1) draws, float64, never 0 or 1; ``start`` as in `uint32`."""
    return (uint32(shape, seed=seed, step=step, stream=stream, start=start).astype(np.float64) + 0.5) / 2.0**32


def permutation(n: int, *, seed: int, step: int, stream: int) -> np.ndarray:
    """A permutation of 0 … n-1 (int64): the stable order of n 64-bit keys."""
    words = uint32((n, 2), seed=seed, step=step, stream=stream).astype(np.uint64)
    return np.argsort((words[:, 0] << _SHIFT) | words[:, 1], kind="stable")
