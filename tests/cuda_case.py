"""What the tests of the CUDA C kernels share: their operations on the emulated device, arrays at odd addresses, comparison of bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.engine import CUDAEngine

FLOAT32 = np.dtype(np.float32)
PRECISIONS = ("float32", "bf16")
#: Relative error of an output that was rounded once to bfloat16 (8 bits of significand: at most 2^-8 an element), or is float32.
ROUNDED = {"float32": 1e-6, "bf16": 2**-8}


class Operations(CUDAEngine):
    """The engine on a host device whose threads run in an order of ``seed``."""

    def __init__(self, precision: str = "float32", seed: int = 0):
        super().__init__(HostDevice(seed=1000 * seed), precision)

    def put(self, values: Any, dtype: Any = None, shift: int = 0) -> np.ndarray:
        """A device array with ``values``, of the engine's dtype unless another is given, ``shift`` elements behind an aligned address."""
        values = np.asarray(values)
        array = self.out(values.shape, dtype, shift)
        array[...] = values.astype(array.dtype)
        return array

    def out(self, shape: tuple[int, ...], dtype: Any = None, shift: int = 0) -> np.ndarray:
        """A poisoned device array: NaN bytes."""
        size = int(np.prod(shape, dtype=np.int64))
        return self.device.empty((size + shift,), self.dtype if dtype is None else dtype)[shift:].reshape(shape)


def float64(array: np.ndarray) -> np.ndarray:
    """The values of a device array, none of which may have been left unwritten."""
    values = np.asarray(array).astype(np.float64)
    assert not np.isnan(values).any(), f"{int(np.isnan(values).sum())} of {values.size} elements are NaN (unwritten?)"
    return values


def draw(rng: np.random.Generator, precision: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """N(shift, scale²) values that the engine's dtype holds exactly, in float64."""
    return (shift + scale * rng.standard_normal(shape)).astype(BFLOAT16 if precision == "bf16" else FLOAT32).astype(np.float64)


def same_bits(run: Callable[[int], Any], seeds: int = 3) -> None:
    """``run(seed)`` returns arrays; for every order of threads and blocks they must hold the same bytes."""
    first = [np.asarray(array).tobytes() for array in run(0)]
    for seed in range(1, seeds):
        again = [np.asarray(array).tobytes() for array in run(seed)]
        assert again == first, f"the order of the threads decides the result (seed {seed})"
