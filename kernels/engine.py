"""The only switch between devices: ``engine("cpu", "float32")``. Never a silent fallback.

The contract of an operation, the same for every engine:

- outputs come first and are given by the caller: C-contiguous arrays, overwritten, never accumulated into;
- inputs are C-contiguous and of the engine's dtype; a wrong shape, dtype or layout is a `ValueError` that says which
  argument, what was got and what was expected;
- activations are NHWC, convolution weights ``[KH, KW, Cin, Cout]``, linear weights ``[in, out]``;
- a gradient that is not wanted is passed as ``None``;
- losses and statistics are sums in float64 (losses) or in the working dtype accumulated in at least float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PRECISIONS = ("float32", "float64", "tf32", "bf16")

#: Every engine has exactly these operations (tests/test_engine.py holds each engine against the list).
OPERATIONS = (
    "conv2d_forward", "conv2d_dgrad", "conv2d_wgrad",
    "conv_transpose2d_forward", "conv_transpose2d_dgrad", "conv_transpose2d_wgrad",
    "linear_forward", "linear_dgrad", "linear_wgrad",
    "batch_norm_statistics", "batch_norm_forward", "batch_norm_backward", "batch_norm_update_running",
    "conv2d_bn_relu_forward", "conv2d_bn_relu_backward",
    "upconv_bn_relu_forward", "upconv_bn_relu_backward",
    "linear_bn_relu_forward", "linear_bn_relu_backward",
    "relu_forward", "relu_backward", "tanh_forward", "tanh_backward", "sigmoid_forward", "sigmoid_backward",
    "reparametrize_forward", "reparametrize_backward",
    "feature_likelihood", "gan_loss", "generator_loss", "equilibrium_gate",
    "rmsprop_update", "adam_update",
    "gather_images", "add", "scale",
)  # fmt: skip


class Engine:
    """Operations on one device in one precision. Made by `engine`, not by hand.

    Attributes: ``name`` ("cpu"), ``precision``, ``dtype`` (of activations and parameters), ``threads``.
    """

    name: str
    precision: str
    dtype: np.dtype[Any]
    threads: int

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """An uninitialised array of the device, of the engine's dtype unless another is given."""
        raise NotImplementedError

    def asarray(self, array: Any) -> Any:
        """A device array, C-contiguous and of the engine's dtype, from anything NumPy reads."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> np.ndarray:
        """The same values as a NumPy array."""
        raise NotImplementedError

    def normal(self, out: Any, *, seed: int, step: int, stream: int) -> None:
        """Fill ``out`` with the N(0, 1) draws of ``(seed, step, stream)`` (`kernels.philox`)."""
        raise NotImplementedError

    def uniform_init(self, out: Any, bound: float, *, seed: int, index: int) -> None:
        """Fill ``out`` with U(−bound, bound), the initial values of parameter number ``index``."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"engine {type(self).__name__} has no operation {name!r}; the list is kernels.OPERATIONS")


def engine(device: str = "cpu", precision: str = "float32", threads: int | None = None) -> Engine:
    """The engine of ``device`` ("cpu" or "cuda") in ``precision``.

    Args:
        device: "cpu" (NumPy and BLAS) or "cuda".
        precision: "float32" or "float64" on the CPU.
        threads: worker threads of the CPU engine; None means every core the process may use.

    Raises:
        ValueError: an unknown device or precision, a precision that the device does not have, or threads < 1.
        RuntimeError: the device cannot be used here; one line that says why.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, expected 'cpu' or 'cuda'")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if device == "cuda":
        raise RuntimeError("device cuda: this version has no CUDA engine yet; use the CPU (--device cpu)")
    if precision not in ("float32", "float64"):
        raise ValueError(f"precision: got {precision!r}, which needs a GPU; the CPU engine has float32 and float64")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: got {threads}, expected at least 1")
    from kernels.cpu import CPUEngine

    return CPUEngine(precision, threads)
