"""Output sizes and paddings of the convolutions, and the shape and dtype checks that every operation makes.

Axis letters: N images, H W input rows and columns, OH OW output rows and columns, KH KW kernel rows and columns,
C channels (Ci input, Co output).
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: By name: NumPy has no bfloat16 of its own, and machines with no GPU need no package that has.
FLOATS = ("float32", "float64", "bfloat16")
_NUMPY_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})  # looked at first: a dtype's name takes microseconds to make


def same_padding(kernel: int) -> int:
    """Padding on each side that keeps the size of a stride-1 convolution: ``(kernel - 1) // 2``."""
    return (kernel - 1) // 2


def conv_output_size(size: int, stride: int) -> int:
    """Rows (or columns) out of a "same"-padded convolution with an odd kernel: ``ceil(size / stride)``."""
    return -(-size // stride)


def check_array(name: str, array: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> None:
    """Raise `ValueError` unless ``array`` is C-contiguous and has the shape and dtype named (None: any)."""
    if not hasattr(array, "flags") or not hasattr(array, "shape"):  # NumPy's and CuPy's arrays have both
        raise ValueError(f"{name}: got {type(array).__name__}, expected an array")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected {np.dtype(dtype)}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: got strides {array.strides} for shape {array.shape}, expected a C-contiguous array")


def check_float(name: str, array: Any, ndim: int | None = None) -> None:
    """Raise `ValueError` unless ``array`` is C-contiguous of a type in `FLOATS` and has ``ndim`` axes (None: any)."""
    check_array(name, array)
    if array.dtype not in _NUMPY_FLOATS and array.dtype.name not in FLOATS:
        raise ValueError(f"{name}: got dtype {array.dtype}, expected {', '.join(FLOATS)}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: got {array.ndim} axes (shape {array.shape}), expected {ndim}")


def check_conv(large: str, x: Any, small: str, y: Any, w: Any, stride: int) -> None:
    """Check the three arrays of a strided convolution: ``x [N,H,W,Ci]``, ``y [N,OH,OW,Co]``, ``w [KH,KW,Ci,Co]``.

    ``large`` and ``small`` are the names under which the caller knows x and y.
    """
    check_float(large, x, 4)
    check_float("w", w, 4)
    check_float(small, y, 4)
    n, h, width, ci = x.shape
    kh, kw, wi, co = w.shape
    if stride not in (1, 2):
        raise ValueError(f"stride: got {stride}, expected 1 or 2")
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"w: got a {kh}x{kw} kernel, expected odd sizes")
    if wi != ci:
        raise ValueError(f"w: got shape {w.shape}, expected {ci} on its third axis, the channels of {large} {x.shape}")
    check_array("w", w, None, x.dtype)
    check_array(small, y, (n, conv_output_size(h, stride), conv_output_size(width, stride), co), x.dtype)


def check_groups(groups: tuple[int, ...], n: int) -> None:
    """Raise `ValueError` unless ``groups`` are positive image counts that sum to the batch of ``n``."""
    if not groups or min(groups) < 1 or sum(groups) != n:
        raise ValueError(f"groups: got {groups}, expected positive image counts that sum to the batch of {n}")
