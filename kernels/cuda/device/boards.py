"""What boards can do in a second, for the time model: one table of assumptions. The first timings on a GPU correct it.

Matrix rates are what large products are known to reach, not data sheets' peaks; memory rates what long copies reach. L2: reads of
operands by all multiprocessors at once, an assumption that large Triton products of 128 x 256 tiles without multicast imply.
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.cuda.device.chips import Chip

TERA = 1e12


class Board(NamedTuple):
    """Rates of one board.

    Attributes:
        name: as it is sold.
        sm: its chip's compiler number.
        multiprocessors: how many; another board of the same chip is scaled by its number.
        bf16, tf32, float32: operations a second of matrix products, float32 without tensor cores.
        bandwidth: bytes a second of its memory.
        l2: bytes a second from the L2 cache to all multiprocessors.
        l2_bytes: of that cache.
        clock: cycles a second under load.
        warps: that a multiprocessor holds.
    """

    name: str
    sm: int
    multiprocessors: int
    bf16: float
    tf32: float
    float32: float
    bandwidth: float
    l2: float
    l2_bytes: int
    clock: float
    warps: int

    def matrix(self, precision: str) -> float:
        """Operations a second in ``precision``; bf16 is float32 where there is none."""
        return {"bf16": self.bf16, "tf32": self.tf32, "float32": self.float32}[precision] or self.float32


BOARDS = {
    board.name: board
    for board in (
        Board("H100", 90, 132, 800 * TERA, 400 * TERA, 60 * TERA, 3.0 * TERA, 8.0 * TERA, 50 << 20, 1.7e9, 64),
        Board("H200", 90, 132, 800 * TERA, 400 * TERA, 60 * TERA, 4.3 * TERA, 8.0 * TERA, 50 << 20, 1.7e9, 64),
        Board("A100", 80, 108, 260 * TERA, 130 * TERA, 17 * TERA, 1.7 * TERA, 4.5 * TERA, 40 << 20, 1.4e9, 64),
        Board("RTX 4090", 89, 128, 160 * TERA, 80 * TERA, 65 * TERA, 0.92 * TERA, 5.0 * TERA, 72 << 20, 2.5e9, 48),
        Board("B200", 100, 148, 1600 * TERA, 800 * TERA, 65 * TERA, 7.0 * TERA, 12.0 * TERA, 126 << 20, 1.8e9, 64),
        Board("RTX 5090", 120, 170, 200 * TERA, 100 * TERA, 85 * TERA, 1.6 * TERA, 7.0 * TERA, 96 << 20, 2.4e9, 48),
        Board("RTX 3090", 86, 82, 70 * TERA, 35 * TERA, 30 * TERA, 0.85 * TERA, 2.5 * TERA, 6 << 20, 1.7e9, 48),
        Board("T4", 75, 40, 0.0, 0.0, 6.5 * TERA, 0.26 * TERA, 1.0 * TERA, 4 << 20, 1.2e9, 32),
    )
}

#: The boards for which `bench.ledger --model` has a column.
SHOWN = ("H100", "H200", "A100", "RTX 4090")


def board_of(chip: Chip) -> Board:
    """The board that stands for ``chip``: the newest that is not newer, its rates scaled to the chip's multiprocessors."""
    known = [board for board in BOARDS.values() if board.sm <= chip.sm]
    board = max(known, key=lambda b: (b.sm, -b.bandwidth)) if known else BOARDS["T4"]
    share = chip.multiprocessors / board.multiprocessors
    scaled = {rate: getattr(board, rate) * share for rate in ("bf16", "tf32", "float32", "bandwidth", "l2")}
    return board._replace(multiprocessors=chip.multiprocessors, **scaled)
