"""The contract of an operation, the same for every engine:

- outputs come first and are given by the caller: C-contiguous arrays, overwritten, never accumulated into;
- inputs are C-contiguous; a wrong shape, dtype or layout is a `ValueError` that says which argument, what was got and what was
  expected;
- an engine has two dtypes: ``dtype`` of activations, errors and the operands of products, and ``wide`` of parameters, their
  gradients and optimiser state, batch-norm statistics and sums, noise, μ, log σ² and logits (what losses read). On the CPU and in
  float32 they are one;
- activations are NHWC, convolution weights ``[KH, KW, Cin, Cout]``, linear weights ``[in, out]``;
- a gradient that is not wanted is passed as ``None``;
- losses are float64 sums; statistics are accumulated in at least float32;
- a learning rate is a float or a wide array [1], a step number an int or an int64 array [1]: a recorded step reads both from arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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
    "softmax_cross_entropy_forward", "softmax_cross_entropy_backward",
    "rmsprop_update", "adam_update", "rmsprop_update_all", "adam_update_all", "linear_wgrad_rmsprop",
    "gather_images", "gather_batch", "augment_batch", "gather_rows", "look_up_rate", "advance", "count_gate",
    "add", "scale", "fill", "copy", "concatenate",
)  # fmt: skip


class OutOfMemory(RuntimeError):
    """A device has no room. Attributes ``needed`` and ``free``: bytes."""

    def __init__(self, needed: int, free: int):
        super().__init__(f"device cuda: out of memory: {needed:,} bytes more were needed, {free:,} are free")
        self.needed, self.free = needed, free


class UpdateEntry(NamedTuple):
    """One parameter in a table of `Engine.update_table`.

    Attributes:
        w: the parameter, wide. copy: its copy as an operand, engine.dtype; None, or w itself, where there is none.
        states: wide arrays like w: (ms,) of RMSProp, (m, v, t) of Adam with t int64 [1].
        grad: wide, like w; None: this parameter is updated elsewhere, the entry does nothing.
        weight_decay: of this parameter.
        enabled: uint8 [1], the equilibrium gate's flag, or None.
    """

    w: Any
    copy: Any
    states: tuple[Any, ...]
    grad: Any
    weight_decay: float
    enabled: Any


class Engine:
    """Operations on one device in one precision. Made by `engine`, not by hand.

    Attributes: ``name`` ("cpu" or "cuda"), ``precision``, ``dtype`` (of activations and operands), ``wide`` (of parameters and
    statistics), ``threads`` (0 on a GPU), ``host_memory`` (whether values can be read at once: a step then leaves out what the
    equilibrium gate holds back), ``notice`` (a line for the user).
    """

    name: str
    precision: str
    dtype: np.dtype[Any]
    wide: np.dtype[Any]
    threads: int
    host_memory: bool
    notice = ""

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """An uninitialised array of the device, of the engine's dtype unless another is given."""
        raise NotImplementedError

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """A device array, C-contiguous and of the engine's dtype (or of ``dtype``), from anything NumPy reads."""
        raise NotImplementedError

    def put(self, array: Any, values: Any) -> None:
        """Copy values that NumPy reads into a device array of the same shape, converting the type."""
        raise NotImplementedError

    def place_images(self, images: np.ndarray) -> Any:
        """A uint8 data set [n, H, W, C] where `gather_batch` can read it: on a GPU a copy there. Raises `OutOfMemory`."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> np.ndarray:
        """The same values as a NumPy array; bfloat16 as float32."""
        raise NotImplementedError

    def record(self, body: Callable[[], None]) -> Callable[[], None]:
        """A function that does what ``body`` does. A GPU runs it until nothing needs placing any more, then records it as one graph and
        replays that: ``body`` must issue the same operations on the same arrays each time."""
        return body

    def synchronize(self) -> None:
        """Wait for everything that was asked of the device."""

    def describe(self) -> dict[str, Any]:
        """What the bits of a result depend on besides data and software: the device, its precision, its settings."""
        raise NotImplementedError

    def update_table(self, kind: str, entries: list[UpdateEntry]) -> Any:
        """What `rmsprop_update_all` ("rmsprop") or `adam_update_all` ("adam") works through, in one launch on a GPU."""
        raise NotImplementedError

    def normal(self, out: Any, *, seed: int, step: Any, stream: int) -> None:
        """Fill ``out`` with the N(0, 1) draws of ``(seed, step, stream)`` (`kernels.philox`)."""
        raise NotImplementedError

    def uniform_init(self, out: Any, bound: float, *, seed: int, index: int) -> None:
        """Fill ``out`` with U(−bound, bound), the initial values of parameter number ``index``."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"engine {type(self).__name__} has no operation {name!r}; the list is kernels.OPERATIONS")
