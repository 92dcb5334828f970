"""The four output phases of a stride-2 transposed convolution (fractional-strided convolution).

Pixel h = 2i + a of the large image (phase a = 0 or 1) meets row i + t of the small one through kernel row
kh = a + p − 2t. So phase a has taps t in [ceil((a + p − K + 1) / 2), floor((a + p) / 2)]: for K = 5, three taps in phase
0 and two in phase 1; in two dimensions 9, 6, 6 and 4 of the 25 taps, and no multiplication by an inserted zero.

Of the two ranges one holds the other and one tap more, E. Call the shared taps S. Ordered

    E×S | S×S | S×E | E×E        (row taps × column taps)

the columns of one patch matrix over (S ∪ E)² serve all four phases, each as one run of columns: no phase copies patches of
its own.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.patches import Piece, padded_rows
from kernels.cpu.threads import scratch


def taps(kernel: int, phase: int) -> range:
    """Offsets t of the small image's rows that phase 0 or 1 of the large one reads; kernel row = phase + p − 2t."""
    pad = (kernel - 1) // 2
    return range(-((kernel - 1 - phase - pad) // 2), (phase + pad) // 2 + 1)


def _ordered(kernel: int) -> tuple[list[int], list[int], int]:
    """Shared taps S, the extra tap E, and the phase that has E."""
    both = taps(kernel, 0), taps(kernel, 1)
    larger = int(len(both[1]) > len(both[0]))
    shared = list(both[1 - larger])
    extra = [t for t in both[larger] if t not in shared]
    return shared, extra, larger


class Phases:
    """Taps and weights of the four phases for a kernel ``w [KH, KW, Ci, Co]``.

    Attributes:
        slots: the (row tap, column tap) of each column block of the patch matrix.
        products: (row phase, column phase, first slot, last slot, weights [Ci, (last - first) * Co]).
    """

    def __init__(self, w: np.ndarray):
        kh, kw, ci, co = w.shape
        rows, row_extra, row_large = _ordered(kh)
        cols, col_extra, col_large = _ordered(kw)
        blocks = [(row_extra, cols), (rows, cols), (rows, col_extra), (row_extra, col_extra)]
        self.slots = [(t, u) for a, b in blocks for t in a for u in b]
        ends = np.cumsum([0] + [len(a) * len(b) for a, b in blocks])
        self.top, self.left = -min(rows + row_extra), -min(cols + col_extra)
        self.height, self.width = len(rows) + len(row_extra), len(cols) + len(col_extra)
        self.products = []
        for row in (0, 1):
            for col in (0, 1):
                first = ends[0] if row == row_large else ends[1]  # with the extra row tap: from E×S on
                last = ends[3] if col == col_large else ends[2]  # with the extra column tap: to S×E, and E×E with both
                if row == row_large and col == col_large:
                    last = ends[4]
                matrix = np.empty((ci, last - first, co), w.dtype)
                for slot, (t, u) in enumerate(self.slots[first:last]):
                    matrix[:, slot] = w[row + kh // 2 - 2 * t, col + kw // 2 - 2 * u]
                self.products.append((row, col, int(first), int(last), matrix.reshape(ci, -1)))

    def columns(self, dy: np.ndarray, piece: Piece) -> np.ndarray:
        """The patch matrix of a piece of the small image: ``[pixels, len(slots) * Co]``."""
        n0, n1, r0, r1 = piece
        ow, co = dy.shape[2:]
        padded = padded_rows(dy, piece, self.top, r1 - r0 + self.height - 1, 1, self.left, ow + self.width - 1)
        out = scratch("columns", (n1 - n0, r1 - r0, ow, len(self.slots), co), dy.dtype)
        for slot, (t, u) in enumerate(self.slots):
            row, col = t + self.top, u + self.left
            out[:, :, :, slot] = padded[:, row : row + r1 - r0, col : col + ow]
        return out.reshape(-1, len(self.slots) * co)
