"""The NumPy engine: every machine has it, and every GPU kernel is held against it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import philox
from kernels.cpu import (
    activations,
    augment,
    batch,
    batch_norm,
    conv2d,
    conv_transpose2d,
    fused,
    latent,
    linear,
    losses,
    optimizer,
    threads,
)  # fmt: skip
from kernels.engine import OPERATIONS, Engine, UpdateEntry

_MODULES = (activations, augment, batch, batch_norm, conv2d, conv_transpose2d, fused, latent, linear, losses, optimizer)


class CPUEngine(Engine):
    """NumPy arrays; BLAS for products; pieces on ``threads`` threads. The thread count is the process's, not the object's."""

    def __init__(self, precision: str, thread_count: int | None = None):
        self.name = "cpu"
        self.host_memory = True
        self.precision = precision
        self.dtype = self.wide = np.dtype(precision)
        self.threads = threads.configure(thread_count)

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        return np.empty(shape, self.dtype if dtype is None else dtype)

    def asarray(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.ascontiguousarray(array, self.dtype if dtype is None else dtype)

    def put(self, array: np.ndarray, values: Any) -> None:
        array[...] = values

    def place_images(self, images: np.ndarray) -> np.ndarray:
        return images

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu", "precision": self.precision, "threads": self.threads}

    def update_table(self, kind: str, entries: list[UpdateEntry]) -> list[UpdateEntry]:
        return optimizer.check_entries(kind, entries)

    def normal(self, out: np.ndarray, *, seed: int, step: Any, stream: int) -> None:
        number = int(step[0]) if isinstance(step, np.ndarray) else step
        out[...] = philox.normal(out.shape, seed=seed, step=number, stream=stream)

    def uniform_init(self, out: np.ndarray, bound: float, *, seed: int, index: int) -> None:
        flat = out.reshape(-1)

        def work(cut: tuple[int, int]) -> None:
            draw = philox.uniform(cut[1] - cut[0], seed=seed, step=index, stream=philox.STREAM_INIT, start=cut[0])
            flat[cut[0] : cut[1]] = bound * (2.0 * draw - 1.0)

        threads.parallel(work, threads.ranges(flat.size, 1 << 17))


for _name in OPERATIONS:
    _found = [module for module in _MODULES if hasattr(module, _name) and getattr(module, _name).__module__ == module.__name__]
    setattr(CPUEngine, _name, staticmethod(getattr(_found[0], _name)))
