"""Random numbers as NumPy arrays; contract: `kernels.contract.random`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import philox
from kernels.cpu.threads import parallel, ranges


def normal(out: np.ndarray, *, seed: int, step: Any, stream: int, start: int = 0) -> None:
    number = int(step[0]) if isinstance(step, np.ndarray) else step
    out[...] = philox.normal(out.shape, seed=seed, step=number, stream=stream, start=start)


def uniform_init(out: np.ndarray, bound: float, *, seed: int, index: int) -> None:
    flat = out.reshape(-1)

    def work(cut: tuple[int, int]) -> None:
        draw = philox.uniform(cut[1] - cut[0], seed=seed, step=index, stream=philox.STREAM_INIT, start=cut[0])
        flat[cut[0] : cut[1]] = bound * (2.0 * draw - 1.0)

    parallel(work, ranges(flat.size, 1 << 17))
