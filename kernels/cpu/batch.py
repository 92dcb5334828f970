"""Batches gathered from a data set, and the counters of a training step; contract: `kernels.contract.batch`."""

from __future__ import annotations

import numpy as np

from kernels import philox
from kernels.contract.batch import batch_of
from kernels.cpu.threads import parallel, ranges


def gather_images(x: np.ndarray, images: np.ndarray, indices: np.ndarray, flips: np.ndarray | None = None) -> None:
    def work(cut: tuple[int, int]) -> None:
        for i in range(*cut):
            source = images[indices[i]]
            np.divide(source[:, ::-1] if flips is not None and flips[i] else source, 127.5, out=x[i], casting="unsafe")
        x[cut[0] : cut[1]] -= 1

    parallel(work, ranges(len(x), 8))


def gather_batch(
    x: np.ndarray, images: np.ndarray, order: np.ndarray, counter: np.ndarray, *, per_epoch: int, seed: int, flip: bool, first: int = 0
) -> None:
    flips = mirrored(len(x), seed=seed, step=int(counter[0]), first=first) if flip else None
    gather_images(x, images, batch_of(order, counter, per_epoch, len(x)), flips)


def mirrored(n: int, *, seed: int, step: int, first: int) -> np.ndarray:
    """bool [n]: whether images ``first`` to first + n of the step's batch are mirrored."""
    before = first % 4  # of the same block of words
    words = philox.uint32(before + n, seed=seed, step=step, stream=philox.STREAM_FLIP, start=first - before)
    return (words[before:] & 1).astype(bool)


def gather_rows(out: np.ndarray, rows: np.ndarray, order: np.ndarray, counter: np.ndarray, *, per_epoch: int) -> None:
    np.take(rows, batch_of(order, counter, per_epoch, len(out)), axis=0, out=out)


def look_up_rate(lr: np.ndarray, rates: np.ndarray, counter: np.ndarray) -> None:
    lr[0] = rates[min(int(counter[0]), len(rates) - 1)]


def advance(counter: np.ndarray) -> None:
    counter[0] += 1
