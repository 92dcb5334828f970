"""What a launch accepts: arrays, tensor descriptors and numbers, and the names that compilers have for their types."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: NumPy's names of element types → Triton's.
TRITON_TYPES = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float64": "fp64", "bool": "u1",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip

#: Scalars that a CUDA C kernel can take by value.
SCALARS = (np.int32, np.int64, np.uint32, np.uint64, np.float32, np.float64)


class Refused(RuntimeError):
    """The driver makes no tensor map of a descriptor."""


@dataclass(frozen=True)
class Descriptor:
    """A box-shaped view of an array for a Triton kernel (TMA tensor descriptor): ``desc.load([i, j, ...])`` in the kernel.

    Args:
        array: device array that holds the data from its first element.
        shape: the view's extents; what lies outside reads as zero.
        strides: in elements, the last one 1, the others multiples of 16 bytes. Each is a multiple of the next, and no less than the next
            one's axis is long: ``cuda.h`` promises no other order of axes.
        block: the box, powers of two; at least 16 bytes in the last axis.

    Raises:
        ValueError: what TMA cannot do, or a view that leaves the array.
    """

    array: Any
    shape: Sequence[int]
    strides: Sequence[int]
    block: Sequence[int]

    def __post_init__(self) -> None:
        rank, size = len(self.shape), self.array.dtype.itemsize
        if not 1 <= rank <= 5 or len(self.strides) != rank or len(self.block) != rank:
            raise ValueError(f"descriptor: got shape {self.shape}, strides {self.strides}, block {self.block}, expected one rank of 1 to 5")
        if min(self.shape) < 1 or min(self.strides) < 1:
            raise ValueError(f"descriptor: got shape {self.shape}, strides {self.strides}, expected positive ones")
        if self.strides[-1] != 1 or any(stride * size % 16 for stride in self.strides[:-1]):
            raise ValueError(
                f"descriptor: got strides {self.strides} of {size} bytes, expected the last 1, the others multiples of 16 bytes"
            )
        inner = zip(self.strides, self.strides[1:], self.shape[1:], strict=False)
        if any(stride % following or stride < following * length for stride, following, length in inner):
            raise ValueError(
                f"descriptor: got shape {self.shape}, strides {self.strides}, expected each stride to be a multiple of the next one "
                "that its axis does not exceed"
            )
        if any(b < 1 or b & (b - 1) for b in self.block) or self.block[-1] * size < 16:
            raise ValueError(
                f"descriptor: got block {self.block} of {size} bytes, expected powers of two, 16 bytes or more in the last axis"
            )
        extent = 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if extent > self.array.size:
            raise ValueError(
                f"descriptor: shape {self.shape} with strides {self.strides} spans {extent} elements, the array has {self.array.size}"
            )

    @property
    def type(self) -> str:
        """Triton's name of it: ``tensordesc<bf16[16, 64]>``."""
        return f"tensordesc<{TRITON_TYPES[self.array.dtype.name]}{list(self.block)}>"


def triton_type(kernel: str, name: str, value: Any) -> str:
    """Triton's type of a run-time argument. A TypeError where it has none, a ValueError for an array that is not contiguous."""
    if value is None:
        return "constexpr"
    if isinstance(value, Descriptor):
        return value.type
    if isinstance(value, int) and not isinstance(value, bool):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    if isinstance(value, float) and not isinstance(value, np.generic):
        return "fp32"
    if hasattr(value, "flags") and hasattr(value, "ndim") and not isinstance(value, np.generic):
        return "*" + TRITON_TYPES[contiguous(kernel, name, value).dtype.name]
    raise TypeError(f"{kernel}: argument {name}: got {type(value).__name__}, expected an array, Descriptor, int, float or None")


def cuda_type(function: str, index: str, value: Any) -> str:
    """NumPy's name of a CUDA C argument's type, ``*`` before an array's. A TypeError where it cannot be passed."""
    if value is None:
        return "null"
    if isinstance(value, SCALARS):
        return value.dtype.name
    if hasattr(value, "flags") and hasattr(value, "ndim") and not isinstance(value, np.generic):
        return "*" + contiguous(function, index, value).dtype.name
    raise TypeError(f"{function}: argument {index}: got {type(value).__name__}, expected an array, a NumPy scalar or None")


@functools.cache
def parameters(kernel: Any) -> tuple[list[str], dict[str, Any]]:
    """The names of a Triton function's run-time parameters, and its constexprs with their defaults."""
    given = inspect.signature(kernel.fn).parameters.values()
    constant = {p.name: p.default for p in given if "constexpr" in str(p.annotation)}
    return [p.name for p in given if p.name not in constant], constant


def contiguous(kernel: str, name: str, array: Any) -> Any:
    if not array.flags.c_contiguous:
        raise ValueError(f"{kernel}: argument {name}: got an array that is not C-contiguous")
    return array


def extents(kernel: str, grid: int | tuple[int, ...], limits: tuple[int, int, int]) -> tuple[int, int, int]:
    """Three extents of a grid or block, ones added. A ValueError where one is not positive, above its limit, or a fourth."""
    given = (grid,) if isinstance(grid, int) else tuple(int(n) for n in grid)
    if not 1 <= len(given) <= 3 or any(n < 1 or n > most for n, most in zip(given, limits, strict=False)):
        raise ValueError(f"{kernel}: got a grid or block of {given}, expected one to three extents from 1 to {limits}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z
