"""The checks that operations share. Each raises `ValueError` in one line: which argument, what was got, what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array

#: By name: NumPy has no bfloat16 of its own, and machines with no GPU need no package that has.
FLOATS = ("float32", "float64", "bfloat16")
_NUMPY_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})  # looked at first: a dtype's name takes microseconds to make


def conv_output_size(size: int, stride: int) -> int:
    """Rows (or columns) out of a "same"-padded convolution with an odd kernel: ``ceil(size / stride)``."""
    return -(-size // stride)


def check_array(name: str, array: Array, shape: tuple[int, ...] | None = None, dtype: Any = None) -> None:
    """``array`` is C-contiguous and has the shape and dtype named (None: any)."""
    if not hasattr(array, "flags") or not hasattr(array, "shape"):  # NumPy's and CuPy's arrays have both
        raise ValueError(f"{name}: got {type(array).__name__}, expected an array")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected {np.dtype(dtype)}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: got strides {array.strides} for shape {array.shape}, expected a C-contiguous array")


def check_float(name: str, array: Array, ndim: int | None = None, *dtypes: Any) -> None:
    """``array`` is C-contiguous of one of ``dtypes`` (none named: of a type in `FLOATS`) and has ``ndim`` axes (None: any)."""
    check_array(name, array)
    if dtypes:
        if array.dtype not in dtypes:
            raise ValueError(f"{name}: got dtype {array.dtype}, expected {' or '.join(dict.fromkeys(str(np.dtype(d)) for d in dtypes))}")
    elif array.dtype not in _NUMPY_FLOATS and array.dtype.name not in FLOATS:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected {', '.join(FLOATS)}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: got {array.ndim} axes (shape {array.shape}), expected {ndim}")


def check_optional(name: str, array: Array | None, shape: tuple[int, ...], dtype: Any) -> None:
    """None, or an array as `check_array` wants it."""
    if array is not None:
        check_array(name, array, shape, dtype)


def check_conv(
    large: str, x: Array, small: str, y: Array, w: Array, stride: int, dtype: Any, *, weights: str = "w", w_dtype: Any = None
) -> None:
    """The three arrays of a strided convolution: ``x [N, H, W, Ci]``, ``y [N, ceil(H / s), ceil(W / s), Co]``, ``w [KH, KW, Ci, Co]``.

    ``large``, ``small`` and ``weights`` are the names under which the caller knows x, y and w; w's dtype is ``dtype`` unless given.
    """
    check_float(large, x, 4, dtype)
    check_float(weights, w, 4, w_dtype or dtype)
    check_float(small, y, 4, dtype)
    n, h, width, ci = x.shape
    kh, kw, wi, co = w.shape
    if stride not in (1, 2):
        raise ValueError(f"stride: got {stride}, expected 1 or 2")
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"{weights}: got a {kh}x{kw} kernel, expected odd sizes")
    if wi != ci:
        raise ValueError(f"{weights}: got shape {w.shape}, expected {ci} on its third axis, the channels of {large} {x.shape}")
    check_array(small, y, (n, conv_output_size(h, stride), conv_output_size(width, stride), co))


def check_activation(activation: str | None) -> None:
    """``activation`` is None, "relu" or "tanh"."""
    if activation not in (None, "relu", "tanh"):
        raise ValueError(f"activation: got {activation!r}, expected 'relu', 'tanh' or None")


def check_groups(groups: tuple[int, ...], n: int) -> None:
    """``groups`` are positive image counts that sum to the batch of ``n``."""
    if not groups or min(groups) < 1 or sum(groups) != n:
        raise ValueError(f"groups: got {groups}, expected positive image counts that sum to the batch of {n}")


def check_rate(value: Any, wide: Any, name: str = "lr") -> None:
    """``value`` is a number, or a wide array [1]."""
    if not isinstance(value, (int, float, np.generic)):
        check_array(name, value, (1,), wide)


def check_range(name: str, value: int, bits: int) -> None:
    """``value`` is an integer in [0, 2^bits)."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name}: got {value}, expected an integer in [0, 2^{bits})")


def check_values(name: str, values: np.ndarray, least: int, end: int) -> None:
    """Every one of ``values`` is in [least, end)."""
    if values.size and not least <= values.min() <= values.max() < end:
        raise ValueError(f"{name}: got values from {values.min()} to {values.max()}, expected values in [{least}, {end})")
