"""What the launchers of CUDA C kernels share: block counts, the channels of a block, checks, and small arrays kept on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from kernels.contract.checks import check_float
from kernels.contract.operation import Array
from kernels.cuda.device.base import Device

THREADS = 256  # of a block, in every CUDA C file
_constants: WeakKeyDictionary[Device, dict[Any, Any]] = WeakKeyDictionary()


def constant(dev: Device, key: Any, make: Callable[[], np.ndarray]) -> Any:
    """A small constant array on the device, uploaded at the first use of ``key``."""
    kept = _constants.setdefault(dev, {})
    if key not in kept:
        kept[key] = dev.upload(make())
    return kept[key]


def blocks(work: int, each: int) -> int:
    """Blocks for ``work`` items of which a block takes ``each``."""
    return -(-work // each)


def defines_of(array: Array) -> tuple[str, ...]:
    """The preprocessor names under which act_t is the type of ``array``: bfloat16 or float32."""
    return ("ACT_BF16",) if array.dtype.itemsize == 2 else ()


def check_values(name: str, array: Array, ndim: int | None = None) -> None:
    """Raise `ValueError` unless ``array`` is C-contiguous float32 or bfloat16, the types that a kernel computes with, of ``ndim`` axes."""
    check_float(name, array, ndim)
    if array.dtype.itemsize > 4:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected float32 or bfloat16")


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def channel_layout(channels: int) -> tuple[int, int, int]:
    """(lanes, vector, column blocks): how the `THREADS` threads of a block are arranged along the channels of a row.

    ``vector`` 1 means eight channels a thread, 0 one; ``lanes``, a power of two, are the threads along a row: at most 32, which makes
    512 bytes of bfloat16 and leaves enough blocks where rows are long and few.
    """
    vector = int(channels % 8 == 0)
    units = channels // 8 if vector else channels
    lanes = min(32, power_of_two(units))
    return lanes, vector, blocks(units, lanes)


def scalar(value: Any, dtype: type[np.floating[Any]] = np.float32) -> tuple[Any, np.floating[Any]]:
    """A number or a device array [1] as the kernels take it: the array or None, then a number of ``dtype``, which counts where there is
    no array."""
    return (None, dtype(value)) if isinstance(value, (int, float, np.generic)) else (value, dtype(0.0))
