"""Sums of partial results, packed weights and padded images in CUDA C on the emulated device, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, ROUNDED, Operations, draw, float64, same_bits
from gradcheck import assert_close

from kernels.cuda.products import packing, partials

EPS = 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(("shape", "splits"), [((1, 1), 1), ((3, 8), 5), ((7, 9), 3), ((5, 5, 3, 264), 8), ((3000,), 2)])
def test_split_reduce(rng, precision, shift, shape, splits):
    ops = Operations(precision)
    parts, bias = draw(rng, "float32", splits, *shape), draw(rng, "float32", shape[-1])
    for out in (ops.out(shape, shift=shift), ops.out(shape, FLOAT32, shift)):
        limit = ROUNDED[precision] if out.dtype == ops.dtype else 1e-6
        partials.split_reduce(ops.device, out, ops.put(parts, FLOAT32, shift))
        assert_close(float64(out), parts.sum(axis=0), limit)
        partials.split_reduce(ops.device, out, ops.put(parts, FLOAT32), ops.put(bias, FLOAT32, shift))
        assert_close(float64(out), parts.sum(axis=0) + bias, limit)


# phases, first tiles of the groups, column blocks, channels, rows of a tile (0 to this many)
REDUCTIONS = [
    (1, (0, 1), 1, 1, 3),
    (1, (0, 3, 4), 1, 24, 9),
    (4, (0, 2, 7), 1, 13, 5),
    (1, (0, 5), 4, 32, 4),
    (4, (0, 1, 2, 5), 2, 3, 6),
    (1, (0, 700), 1, 3, 2),
    (1, (0, 2), 1, 2056, 2),
]


def tiles_of(rng, phases, starts, k, channels, most, shift=0.0):
    """Rows of random tiles, by (group, tile in all phases, column block): arrays [rows, channels]; the first tile has no rows."""
    tiles, groups = starts[-1], len(starts) - 1
    found = {}
    for g in range(groups):
        for tile in range(starts[g], starts[g + 1]):
            for phase in range(phases):
                rows = int(rng.integers(1, most + 1))
                if (phase, tile) == (0, 0) and phases * (starts[1] - starts[0]) > 1:
                    rows = 0  # a phase without positions
                for j in range(k):
                    found[g, phase * tiles + tile, j] = shift + rng.standard_normal((rows, channels))
    return found


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize(("phases", "starts", "k", "channels", "most"), REDUCTIONS)
def test_bn_finalise(rng, phases, starts, k, channels, most, shift):
    ops, groups = Operations(), len(starts) - 1
    found = tiles_of(rng, phases, starts, k, channels, most, shift)
    partial = np.full((phases * starts[-1], 2, k * channels), np.nan)  # NaN stays where a tile has no rows
    counts = np.zeros(phases * starts[-1])
    for (_, tile, j), rows in found.items():
        counts[tile] = len(rows)
        if len(rows):
            columns = slice(j * channels, (j + 1) * channels)
            partial[tile, 0, columns] = rows.sum(axis=0)
            partial[tile, 1, columns] = ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
    mean, var = ops.out((groups, channels)), ops.out((groups, channels))
    partials.bn_finalise(ops.device, mean, var, ops.put(partial, shift=int(shift != 0.0)), ops.put(counts), starts, channels)
    whole = [np.concatenate([rows for (of, _, _), rows in found.items() if of == g]) for g in range(groups)]
    assert_close(float64(mean), np.stack([rows.mean(axis=0) for rows in whole]), 1e-6, "mean")
    expected = np.stack([rows.var(axis=0) for rows in whole])
    # A float32 sum of numbers near 1000 is off by up to 3e-5 · count, which moves the tile's mean against the others'.
    error = np.linalg.norm(float64(var) - expected) / max(1e-3, np.linalg.norm(expected))
    assert error < (1e-6 if shift == 0.0 else 2e-4)


@pytest.mark.parametrize(("phases", "starts", "k", "channels", "most"), REDUCTIONS)
def test_bn_sums_finalise(rng, phases, starts, k, channels, most):
    ops, groups, tiles = Operations(), len(starts) - 1, starts[-1]
    partial = rng.standard_normal((phases * tiles, 2, k * channels)).astype(np.float32).astype(np.float64)
    var = (0.3 + rng.random((groups, channels))).astype(np.float32).astype(np.float64)
    expected = np.zeros((2, groups, channels))
    for g in range(groups):
        for phase in range(phases):
            own = partial[phase * tiles + starts[g] : phase * tiles + starts[g + 1]]
            expected[:, g] += own.reshape(-1, 2, k, channels).sum(axis=(0, 2))
    alone = expected[:1].copy()
    expected[1] /= np.sqrt(var + EPS)
    sums, one, short = ops.out((2, groups, channels)), ops.out((1, groups, channels)), ops.out((1, groups, channels))
    partials.bn_sums_finalise(ops.device, sums, ops.put(partial), starts, channels, ops.put(var), EPS)
    assert_close(float64(sums), expected, 1e-6)
    partials.bn_sums_finalise(ops.device, one, ops.put(partial, shift=1), starts, channels, None, 0.0)
    partials.bn_sums_finalise(ops.device, short, ops.put(partial[:, :1]), starts, channels, None, 0.0)
    assert_close(float64(one), alone, 1e-6)
    assert one.tobytes() == short.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", [(1, 1), (1000, 3), (1001, 3), (77, 128), (3, 2056), (5, 300), (2600, 8)])
def test_column_sums(rng, precision, shift, shape):
    ops = Operations(precision)
    matrix, out = draw(rng, precision, *shape), ops.out(shape[1:], FLOAT32, shift)
    partials.column_sums(ops.device, out, ops.put(matrix, shift=shift))
    assert np.linalg.norm(float64(out) - matrix.sum(axis=0)) < 1e-6 * np.linalg.norm(matrix)


def test_thousands_of_terms_cost_no_digits(rng):
    """All of one sign, and one large term in front: a plain float32 sum would be off by more than 1e-5."""
    ops, tiles = Operations(), 40_000
    partial = (1.0 + rng.random((tiles, 2, 1))).astype(np.float32).astype(np.float64)
    partial[0] = 1e6
    sums = ops.out((1, 1, 1))
    partials.bn_sums_finalise(ops.device, sums, ops.put(partial), (0, tiles), 1, None, 0.0)
    assert_close(float64(sums)[0], partial.sum(axis=0)[:1], 1e-7)


def pack(w, mode, shape):
    """What `pack_weights` does, element by element."""
    kh, kw, ci, co = w.shape
    flat, dst = w.reshape(kh * kw, ci, co), np.zeros(shape)
    turned = flat[::-1].transpose(0, 2, 1)
    if mode in ("forward", "dgrad1"):
        source = flat if mode == "forward" else turned
        dst[:, : source.shape[1], : source.shape[2]] = source
    elif mode == "phases":
        for dh, dw in np.ndindex(3, 3):
            for ph, pw in np.ndindex(2, 2):
                h, v = 2 + ph - 2 * (dh - 1), 2 + pw - 2 * (dw - 1)
                if 0 <= h < 5 and 0 <= v < 5:
                    first = (ph * 2 + pw) * ci
                    dst[dh * 3 + dw, :co, first : first + ci] = w[h, v].T
    else:
        source = flat if mode == "image" else turned
        for tap, channel in np.ndindex(source.shape[:2]):
            dst[0, tap * 8 + channel, : source.shape[2]] = source[tap, channel]
    return dst


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("mode", "w_shape", "shape"),
    [
        ("forward", (5, 5, 3, 10), (25, 16, 16)),
        ("forward", (1, 1, 7, 3), (1, 7, 3)),
        ("forward", (3, 1, 2, 2), (3, 4, 8)),
        ("dgrad1", (5, 5, 3, 10), (25, 16, 16)),
        ("dgrad1", (3, 3, 9, 1), (9, 1, 9)),
        ("phases", (5, 5, 3, 10), (9, 16, 16)),
        ("phases", (5, 5, 4, 16), (9, 16, 16)),
        ("image", (5, 5, 3, 10), (1, 256, 16)),
        ("image", (3, 3, 8, 5), (1, 72, 5)),
        ("image_dgrad1", (5, 5, 10, 3), (1, 256, 16)),
        ("image_dgrad1", (1, 1, 2, 1), (1, 16, 8)),
    ],
)
def test_pack_weights(rng, precision, mode, w_shape, shape):
    ops = Operations(precision)
    w, dst = draw(rng, precision, *w_shape), ops.out(shape)
    packing.pack_weights(ops.device, dst, ops.put(w), mode=mode)
    assert np.array_equal(float64(dst), pack(w, mode, shape))


def test_the_phases_are_a_fractional_strided_convolution(rng):
    """A 3×3 convolution with the packed weights and a pixel shuffle = the data gradient of the 5×5 stride-2 convolution."""
    from kernels.cpu import conv2d

    n, h, ci, co = 2, 4, 3, 5
    w, dy = rng.standard_normal((5, 5, ci, co)), rng.standard_normal((n, h, h, co))
    dx = np.empty((n, 2 * h, 2 * h, ci))
    conv2d.conv2d_dgrad(dx, dy, w, stride=2)
    packed, y = pack(w, "phases", (9, co, 4 * ci)).reshape(3, 3, co, 4 * ci), np.empty((n, h, h, 4 * ci))
    conv2d.conv2d_forward(y, dy, packed, stride=1)
    shuffled = y.reshape(n, h, h, 2, 2, ci).transpose(0, 1, 3, 2, 4, 5).reshape(dx.shape)
    assert_close(shuffled, dx, 1e-12)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(
    ("shape", "border", "large"),
    [
        ((1, 1, 1, 1), 0, (1, 1, 1)),
        ((2, 5, 3, 3), 2, (9, 7, 8)),
        ((3, 4, 4, 3), 2, (9, 8, 8)),
        ((2, 3, 3, 5), 1, (5, 5, 5)),
        ((1, 30, 30, 8), 2, (34, 35, 8)),
    ],
)
def test_pad_images(rng, precision, shift, shape, border, large):
    ops = Operations(precision)
    src, dst = draw(rng, precision, *shape), ops.out((shape[0], *large), shift=shift)
    packing.pad_images(ops.device, dst, ops.put(src, shift=shift), border)
    expected = np.zeros(dst.shape)
    expected[:, border : border + shape[1], border : border + shape[2], : shape[3]] = src
    assert np.array_equal(float64(dst), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("shape", "channels"), [((1, 1), 1), ((7, 3), 16), ((2, 3, 5, 24), 32), ((300, 20), 32)])
def test_pad_channels(rng, precision, shape, channels):
    ops = Operations(precision)
    src, dst = draw(rng, precision, *shape), ops.out((*shape[:-1], channels))
    packing.pad_channels(ops.device, dst, ops.put(src))
    assert np.array_equal(float64(dst)[..., : shape[-1]], src) and not dst[..., shape[-1] :].any()


def test_the_order_of_threads_changes_no_bit(rng):
    matrix, parts = draw(rng, "float32", 3000, 40), draw(rng, "float32", 9, 2, 64)

    def run(seed):
        ops = Operations(seed=seed)
        out = [ops.out((40,)), ops.out((2, 1, 32)), ops.out((1, 32)), ops.out((1, 32)), ops.out((2, 64))]
        partials.column_sums(ops.device, out[0], ops.put(matrix))
        partials.bn_sums_finalise(ops.device, out[1], ops.put(parts), (0, 9), 32, ops.put(np.ones((1, 32))), EPS)
        partials.bn_finalise(ops.device, out[2], out[3], ops.put(parts), ops.put(np.full(9, 5.0)), (0, 9), 32)
        partials.split_reduce(ops.device, out[4], ops.put(parts))
        return out

    same_bits(run)


def test_partials_refuse():
    ops = Operations("bf16")
    dev, wide, narrow = ops.device, ops.out((3, 4), FLOAT32), ops.out((3, 4))
    w, partial, row = ops.out((5, 5, 3, 9)), ops.out((6, 2, 8), FLOAT32), ops.out((1, 4), FLOAT32)
    counts = ops.out((6,), FLOAT32)
    for call in (
        lambda: partials.split_reduce(dev, narrow, ops.out((2, 3, 5), FLOAT32)),
        lambda: partials.split_reduce(dev, narrow, ops.out((2, 3, 4))),
        lambda: partials.split_reduce(dev, wide, ops.out((2, 3, 4), FLOAT32), ops.out((3,), FLOAT32)),
        lambda: partials.split_reduce(dev, ops.out((3, 4), np.float64), ops.out((2, 3, 4), FLOAT32)),
        lambda: partials.bn_finalise(dev, row, row, partial, counts, (0, 4), 4),
        lambda: partials.bn_finalise(dev, row, row, partial, counts, (0, 3, 2), 4),
        lambda: partials.bn_finalise(dev, row, row, partial, counts[:5], (0, 6), 4),
        lambda: partials.bn_sums_finalise(dev, row, partial, (0, 6), 4, None, 0.0),
        lambda: partials.bn_sums_finalise(dev, ops.out((1, 1, 3), FLOAT32), partial, (0, 6), 3, None, 0.0),
        lambda: partials.column_sums(dev, ops.out((3,), FLOAT32), wide),
        lambda: packing.pack_weights(dev, ops.out((25, 16, 16)), w, mode="backward"),
        lambda: packing.pack_weights(dev, ops.out((25, 2, 16)), w, mode="forward"),
        lambda: packing.pack_weights(dev, ops.out((25, 16, 16), FLOAT32), w, mode="forward"),
        lambda: packing.pack_weights(dev, ops.out((9, 16, 16)), ops.out((3, 3, 3, 9)), mode="phases"),
        lambda: packing.pack_weights(dev, ops.out((1, 256, 16)), w, mode="image_dgrad1"),
        lambda: packing.pad_images(dev, ops.out((1, 5, 5, 8)), ops.out((1, 4, 4, 3)), 2),
        lambda: packing.pad_channels(dev, ops.out((3, 2)), narrow),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()
