"""The paper's 5x5 stride-2 convolution with 2.8 to 3.3 times fewer multiplications: Winograd's F(4, 3) on its four phases.

A stride-2 convolution is a sum over the four phases (even and odd rows and columns) of x, each with a stride-1 kernel of its
own: 3x3, 3x2, 2x3 and 2x2 of the 25 taps; its transpose (dgrad) has four output phases likewise (kernels.cpu.phases). Four
neighbouring outputs of a 3-tap correlation cost 6 multiplications instead of 12 (Winograd 1980; Lavin & Gray 2016), here at the points
0, ±√½, ±√2, ∞, with half the rounding error of the usual 0, ±1, ±2, ∞:

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]          d: 6 inputs, g: 3 taps, y: 4 outputs

and in two dimensions 36 instead of 144. ⊙ is summed over channels, so for each of the 36 points it is a matrix product over
[tiles, channels]; the transforms Bᵀ, G and Aᵀ are products too, with the Kronecker squares of these small matrices. A 2-tap
phase is a 3-tap one with a zero at the end (forward) or at the start (dgrad); its products at the point ∞ (or 0) vanish and
are left out. Order of the phases, so that those which remain are one run of channels: (1,0) (0,0) (0,1) (1,1).

In float32 the result is within a few 1e-6 of the exact one (relative norm), as against a few 1e-7 for im2col.

Axis letters as in kernels.cpu.conv2d; T tiles of 4x4 small-image pixels, P = 36 points.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.cpu.patches import Piece, padded_rows
from kernels.cpu.threads import add_product, parallel, ranges, scratch, thread_count

TILE, POINTS = 4, 36
PHASES = ((1, 0), (0, 0), (0, 1), (1, 1))
#: Tiles in a piece: enough rows for the products to repay BLAS for packing the weights, few enough for the caches.
PIECE_TILES = 128
#: wgrad keeps transformed inputs and errors of so many bytes at a time; beyond, sums are accumulated chunk by chunk.
CHUNK_BYTES = 48 << 20
#: Elements of transformed weights in a piece.
WEIGHTS = 1 << 18
#: A piece goes from one of these scratch buffers to the other and back: each holds what the step before last has done with.
PING, PONG = "winograd ping", "winograd pong"

_A, _B = 0.5**0.5, 2.0**0.5
_BT = np.array(
    [[1, 0, -2.5, 0, 1, 0], [0, -_B, -2, _A, 1, 0], [0, _B, -2, -_A, 1, 0], [0, -_A, -0.5, _B, 1, 0], [0, _A, -0.5, -_B, 1, 0],
     [0, 1, 0, -2.5, 0, 1]]
)  # fmt: skip
_G = np.array([[6, 0, 0], [-4, -4 * _A, -2], [-4, 4 * _A, -2], [1, _B, 2], [1, -_B, 2], [0, 0, 6]]) / 6
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, _A, -_A, _B, -_B, 0], [0, 0.5, 0.5, 2, 2, 0], [0, _A**3, -(_A**3), _B**3, -(_B**3), 1]])
_BB, _AA = np.kron(_BT, _BT), np.kron(_AT, _AT)


def suits(w: np.ndarray, stride: int, n: int, oh: int, ow: int, least: int = 128) -> bool:
    """Whether this way pays: 5x5, stride 2, channels that repay the tiles' transforms, ``least`` tiles that repay the weights'.

    Measured against im2col on two cores: twice as fast from 128 to 256 channels, a little faster at 32 to 128, slower below; forward and
    dgrad from 128 tiles on, wgrad, which transforms its weights only once, from 64.
    """
    kh, kw, ci, co = w.shape
    return (kh, kw, stride) == (5, 5, 2) and min(ci, co) >= 32 and ci * co >= 4096 and n * _tiles(oh) * _tiles(ow) >= least


def _tiles(size: int) -> int:
    return -(-size // TILE)


def _pieces(n: int, th: int, tw: int) -> list[Piece]:
    """(first image, last image, first tile row, last tile row), about PIECE_TILES tiles each, two or more a thread."""
    tiles = max(1, min(PIECE_TILES, n * th * tw // (2 * thread_count())))
    if th * tw <= tiles:
        return [(a, b, 0, th) for a, b in ranges(n, tiles // (th * tw))]
    return [(i, i + 1, a, b) for i in range(n) for a, b in ranges(th, tiles // tw)]


def _run(point: int, dead: int) -> slice:
    """The phases that take part at a point: at row ``dead`` only even row phases do, at column ``dead`` only even columns."""
    row, col = divmod(point, 6)
    if row == dead:
        return slice(1, 2 if col == dead else 3)
    return slice(0, 2 if col == dead else 4)


def _weights(w: np.ndarray, first_tap: int) -> np.ndarray:
    """G g Gᵀ for each phase: [P, 4, Ci, Co]. ``first_tap``: 0 for the forward's taps, 4 for dgrad's, which run backwards."""
    ci, co = w.shape[2:]
    out = scratch("winograd weights", (POINTS, 4, ci, co), w.dtype)

    def work(job: tuple[int, tuple[int, int]]) -> None:
        k, cut = job
        rows, cols, transform = _taps(k, first_tap)
        taps = w[rows, cols, slice(*cut)]
        out[:, k, slice(*cut)] = (transform.astype(w.dtype) @ taps.reshape(transform.shape[1], -1)).reshape(POINTS, -1, co)

    parallel(work, _jobs(ci, co))
    return out


def _jobs(ci: int, co: int) -> list[tuple[int, tuple[int, int]]]:
    """(phase, first and last input channel) for the transforms of weights: pieces whose copies stay small."""
    return [(k, cut) for k in range(4) for cut in ranges(ci, max(1, WEIGHTS // (POINTS * co)))]


def _taps(k: int, first_tap: int) -> tuple[slice, slice, np.ndarray]:
    """Kernel rows and columns of phase k, and their G ⊗ G [P, taps]."""
    slices, factors = [], []
    for odd in PHASES[k]:
        if first_tap == 0:
            slices.append(slice(odd, None, 2))
            factors.append(_G[:, : 3 - odd])
        else:
            slices.append(slice(first_tap - odd, None, -2))
            factors.append(_G[:, odd:])
    return slices[0], slices[1], np.kron(factors[0], factors[1])


def _input(x: np.ndarray, piece: Piece, tw: int, out: np.ndarray) -> None:
    """Bᵀ d B of a piece's tiles for every phase of the large image → out [P, T, 4, Ci], which may be in PONG."""
    n0, n1, t0, t1 = piece
    ci = x.shape[3]
    padded = padded_rows(x, piece, 2, 8 * (t1 - t0) + 4, 8, 2, 8 * tw + 4, PONG)
    sn, sh, sw, sc = padded.strides
    tiles = scratch(PING, (6, 6, n1 - n0, t1 - t0, tw, 4, ci), x.dtype)
    for k, (a, b) in enumerate(PHASES):
        strides = (2 * sh, 2 * sw, sn, 8 * sh, 8 * sw, sc)
        np.copyto(tiles[..., k, :], as_strided(padded[:, a:, b:], (6, 6, n1 - n0, t1 - t0, tw, ci), strides))
    np.matmul(_BB.astype(x.dtype), tiles.reshape(POINTS, -1), out=out.reshape(POINTS, -1))


def forward(y: np.ndarray, x: np.ndarray, w: np.ndarray) -> None:
    """y = conv(x, w), 5x5, stride 2. Shapes as in `kernels.cpu.conv2d.conv2d_forward`, already checked."""
    n, oh, ow, co = y.shape
    ci, tw = x.shape[3], _tiles(ow)
    weights = _weights(w, 0)

    def work(piece: Piece) -> None:
        n0, n1, t0, t1 = piece
        count = (n1 - n0) * (t1 - t0) * tw
        points = scratch(PONG, (POINTS, count, 4, ci), x.dtype)
        _input(x, piece, tw, points)
        products = scratch(PING, (POINTS, count, co), x.dtype)
        for p in range(POINTS):
            run = _run(p, 5)
            np.matmul(_matrix(points[p], run), weights[p, run].reshape(-1, co), out=products[p])
        outputs = scratch(PONG, (4, 4, n1 - n0, t1 - t0, tw, co), x.dtype)
        np.matmul(_AA.astype(x.dtype), products.reshape(POINTS, -1), out=outputs.reshape(16, -1))
        block = y[n0:n1, 4 * t0 : 4 * t1]
        for i in range(4):
            rows = block[:, i::4]
            for j in range(4):
                cols = rows[:, :, j::4]
                cols[...] = outputs[i, j, :, : cols.shape[1], : cols.shape[2]]

    parallel(work, _pieces(n, _tiles(oh), tw))


def _matrix(points: np.ndarray, run: slice) -> np.ndarray:
    """Channels of the phases ``run`` of one point: [T, (phases) · C], a view."""
    count, _, c = points.shape
    return points.reshape(count, -1)[:, run.start * c : run.stop * c]


def dgrad(dx: np.ndarray, dy: np.ndarray, w: np.ndarray) -> None:
    """dx = ∂L/∂x. Shapes as in `kernels.cpu.conv2d.conv2d_dgrad`, already checked."""
    n, oh, ow, co = dy.shape
    h, width, ci = dx.shape[1:]
    tw = _tiles(ow)
    weights = _weights(w, 4)

    def work(piece: Piece) -> None:
        n0, n1, t0, t1 = piece
        count = (n1 - n0) * (t1 - t0) * tw
        padded = padded_rows(dy, piece, 1, 4 * (t1 - t0) + 2, 4, 1, 4 * tw + 2, PONG)
        sn, sh, sw, sc = padded.strides
        tiles = scratch(PING, (6, 6, n1 - n0, t1 - t0, tw, co), dy.dtype)
        np.copyto(tiles, as_strided(padded, tiles.shape, (sh, sw, sn, 4 * sh, 4 * sw, sc)))
        points = scratch(PONG, (POINTS, count, co), dy.dtype)
        np.matmul(_BB.astype(dy.dtype), tiles.reshape(POINTS, -1), out=points.reshape(POINTS, -1))
        products = scratch(PING, (POINTS, count, 4, ci), dy.dtype)
        for p in range(POINTS):
            run = _run(p, 0)
            if run != slice(0, 4):
                products[p] = 0
            np.matmul(points[p], weights[p, run].reshape(-1, co).T, out=_matrix(products[p], run))
        outputs = scratch(PONG, (4, 4, n1 - n0, t1 - t0, tw, 4, ci), dy.dtype)
        np.matmul(_AA.astype(dy.dtype), products.reshape(POINTS, -1), out=outputs.reshape(16, -1))
        block = dx[n0:n1, 8 * t0 : min(8 * t1, h)]
        for i in range(4):
            for j in range(4):
                for k, (a, b) in enumerate(PHASES):
                    pixels = block[:, 2 * i + a :: 8, 2 * j + b :: 8]
                    pixels[...] = outputs[i, j, :, : pixels.shape[1], : pixels.shape[2], k]

    parallel(work, _pieces(n, _tiles(oh), tw))


def wgrad(dw: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """dw = ∂L/∂w = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A dy Aᵀ)] G. Shapes as in `kernels.cpu.conv2d.conv2d_wgrad`, already checked."""
    n, oh, ow, co = dy.shape
    ci, th, tw = x.shape[3], _tiles(oh), _tiles(ow)
    total = scratch("winograd weights", (POINTS, 4, ci, co), dw.dtype)
    chunk = max(1, CHUNK_BYTES // (POINTS * (4 * ci + co) * th * tw * x.itemsize))  # images
    for n0, n1 in ranges(n, chunk):
        _wgrad_chunk(total, x[n0:n1], dy[n0:n1], th, tw, first=n0 == 0)

    def finish(job: tuple[int, tuple[int, int]]) -> None:
        k, cut = job
        rows, cols, transform = _taps(k, 0)
        part = dw[rows, cols, slice(*cut)]
        part[...] = (transform.T.astype(dw.dtype) @ total[:, k, slice(*cut)].reshape(POINTS, -1)).reshape(part.shape)

    parallel(finish, _jobs(ci, co))


def _wgrad_chunk(total: np.ndarray, x: np.ndarray, dy: np.ndarray, th: int, tw: int, *, first: bool) -> None:
    """One product over all tiles of some images for each point, added to ``total`` [P, 4, Ci, Co] (or written, the first)."""
    n, ci, co = len(x), x.shape[3], dy.shape[3]
    count = POINTS * n * th * tw
    both = scratch("winograd chunk", (count * (4 * ci + co),), x.dtype)
    points = both[: count * 4 * ci].reshape(POINTS, -1, 4, ci)
    errors = both[count * 4 * ci :].reshape(POINTS, -1, co)

    def transform(piece: Piece) -> None:
        n0, n1, t0, t1 = piece
        start = (n0 * th + t0) * tw
        here = slice(start, start + (n1 - n0) * (t1 - t0) * tw)
        own = scratch(PONG, (POINTS, here.stop - start, 4, ci), x.dtype)
        _input(x, piece, tw, own)
        points[:, here] = own
        tiles = scratch(PING, (4, 4, n1 - n0, t1 - t0, tw, co), x.dtype)
        block = dy[n0:n1, 4 * t0 : 4 * t1]
        for i in range(4):
            for j in range(4):
                pixels = block[:, i::4, j::4]
                if pixels.shape[1:3] != tiles.shape[3:5]:  # the last tiles reach beyond the image: no error there
                    tiles[i, j] = 0
                tiles[i, j, :, : pixels.shape[1], : pixels.shape[2]] = pixels
        own = scratch(PONG, (POINTS, here.stop - start, co), x.dtype)
        np.matmul(_AA.T.astype(x.dtype), tiles.reshape(16, -1), out=own.reshape(POINTS, -1))
        errors[:, here] = own

    parallel(transform, _pieces(n, th, tw))

    def product(p: int) -> None:
        run = _run(p, 5)
        if first and run != slice(0, 4):
            total[p] = 0
        add_product(total[p, run].reshape(-1, co), _matrix(points[p], run).T, errors[p], first=first)

    parallel(product, range(POINTS))
