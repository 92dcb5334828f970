"""Sums in pieces: partial sums in the working dtype over a piece, combined in float64 in a fixed order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.cpu.threads import parallel, piece_size, ranges


def row_pieces(rows: int, columns: int) -> list[tuple[int, int]]:
    """Row ranges of a [rows, columns] matrix, of `piece_size` elements."""
    return ranges(rows, piece_size(rows * columns) // max(1, columns))


def widen(matrix: np.ndarray) -> np.ndarray:
    """[rows, C] seen as [rows / f, f·C]: NumPy's inner loops over few channels are short, and slow for it."""
    rows, c = matrix.shape
    f = 1
    while f * c < 512 and rows % (2 * f) == 0:
        f *= 2
    return matrix.reshape(rows // f, f * c)


def repeated(vector: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """A vector of channels [C] repeated to the row length of `widen`'s result."""
    return vector[None].repeat(wide.shape[1] // len(vector), axis=0).reshape(-1)


def add_row(matrix: np.ndarray, vector: np.ndarray) -> None:
    """matrix [rows, C] += vector [C]."""
    wide = widen(matrix)
    wide += repeated(vector, wide)


def sum_rows(matrix: np.ndarray) -> np.ndarray:
    """Column sums of a small [rows, C] matrix, in its own dtype → float64 [C]."""
    wide = np.add.reduce(widen(matrix), axis=0)
    return wide.reshape(-1, matrix.shape[1]).sum(axis=0, dtype=np.float64)


def sum_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Column sums of a · b, element by element, of small [rows, C] matrices → float64 [C]; the products are not stored."""
    wide = np.einsum("ij,ij->j", widen(a), widen(b))
    return wide.reshape(-1, a.shape[1]).sum(axis=0, dtype=np.float64)


def column_sums(out: np.ndarray, matrix: np.ndarray) -> None:
    """out[c] = Σ_rows matrix[row, c], in parallel. out [C], matrix [rows, C]."""
    cuts = row_pieces(*matrix.shape)
    parts = np.empty((len(cuts), matrix.shape[1]))

    def work(i: int) -> None:
        parts[i] = sum_rows(matrix[slice(*cuts[i])])

    parallel(work, range(len(cuts)))
    out[...] = parts.sum(axis=0)


def total(term: Callable[..., float], *arrays: np.ndarray) -> float:
    """Σ over matching flat pieces of ``term(piece, …)``, in parallel, added in order."""
    flat = [a.reshape(-1) for a in arrays]
    cuts = ranges(flat[0].size, piece_size(flat[0].size))
    parts = np.empty(len(cuts))

    def work(i: int) -> None:
        parts[i] = term(*(a[slice(*cuts[i])] for a in flat))

    parallel(work, range(len(cuts)))
    return float(parts.sum())
