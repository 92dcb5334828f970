"""Linear layer and its two gradients: y = x · w + bias, a convolution of one tap on one pixel. Its twin in NumPy: kernels/cpu/linear.py.

Axis letters: N rows (images), I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.below import Below
from kernels.cuda.conv2d import check_below
from kernels.cuda.device.base import Device
from kernels.cuda.products import wgrad
from kernels.cuda.products.convolve import convolve
from kernels.cuda.products.epilogue import Epilogue
from kernels.cuda.products.wgrad_rmsprop import wgrad_rmsprop
from kernels.shapes import check_array, check_float


def product(dev: Device, precision: str, out: Any, src: Any, w: Any, kind: str, epilogue: Epilogue) -> None:
    """out = src · w (``kind`` "forward") or src · wᵀ ("dgrad"), then ``epilogue``. Args: out, src two axes; w [I, O]."""
    image = (len(src), 1, 1, -1)
    convolve(dev, precision, out.reshape(image), src.reshape(image), w.reshape(1, 1, *w.shape), kind=kind, stride=1, epilogue=epilogue)


class Linear:
    """Operations of the CUDA engine; ``device``, ``precision``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    precision: str
    dtype: np.dtype[Any]
    wide: np.dtype[Any]

    def _check_linear(self, names: tuple[str, str], x: Any, y: Any, w: Any, w_dtype: Any, y_dtypes: tuple[Any, ...]) -> None:
        check_float(names[0], x, 2)
        check_array(names[0], x, None, self.dtype)
        check_float("w", w, 2)
        if w.shape[0] != x.shape[1]:
            raise ValueError(f"w: got shape {w.shape}, expected {x.shape[1]} rows, the columns of {names[0]} {x.shape}")
        check_array("w", w, None, w_dtype)
        check_array(names[1], y, (len(x), w.shape[1]), None if y.dtype in y_dtypes else self.dtype)

    def linear_forward(self, y: Any, x: Any, w: Any, bias: Any = None) -> None:
        """y = x · w + bias.

        Args:
            y: [N, O], the engine's dtype or float32, output.
            x: [N, I].
            w: [I, O], the compute copy.
            bias: float32 [O] or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        check_float("y", y, 2)
        self._check_linear(("x", "y"), x, y, w, self.dtype, (self.dtype, self.wide))
        if bias is not None:
            check_array("bias", bias, (w.shape[1],), self.wide)
        product(self.device, self.precision, y, x, w, "forward", Epilogue(bias))

    def linear_dgrad(self, dx: Any, dy: Any, w: Any, *, below: Below | None = None) -> None:
        """dx = dy · wᵀ. Args: dx [N, I], output; dy [N, O]; w [I, O], the compute copy; below as in `Conv2d.conv2d_dgrad`. Raises as
        `linear_forward`."""
        check_float("dy", dy, 2)
        self._check_linear(("dx", "dy"), dx, dy, w, self.dtype, (self.dtype,))
        check_below(below, dx, self.wide)
        product(self.device, self.precision, dx, dy, w, "dgrad", Epilogue(previous=below))

    def linear_wgrad(self, dw: Any, x: Any, dy: Any, *, dbias: Any = None) -> None:
        """dw = xᵀ · dy, dbias = Σ_n dy. Args: dw float32 [I, O], output; x [N, I]; dy [N, O]; dbias float32 [O], output, or None.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        check_float("dy", dy, 2)
        self._check_linear(("x", "dy"), x, dy, dw, self.wide, (self.dtype,))
        if dbias is not None:
            check_array("dbias", dbias, (dw.shape[1],), self.wide)
        wgrad.linear_wgrad(self.device, self.precision, dw, x, dy, dbias=dbias)

    def linear_wgrad_rmsprop(
        self, w: Any, ms: Any, copy: Any, x: Any, dy: Any, *,
        lr: Any, decay: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0, enabled: Any = None,
    ) -> None:  # fmt: skip
        """The RMSProp update of a linear layer straight from x and dy: dw = xᵀ · dy is used and never written.

        Args:
            w, ms: float32 [I, O], the parameter and its mean square, updated in place.
            copy: [I, O], the compute copy, written; None or ``w`` itself where there is none.
            x: [N, I]. dy: [N, O].
            lr: a float, or float32 [1].
            weight_decay: λ of g = dw + λ w.
            enabled: uint8 [1]; 0 leaves all three as they are. None: enabled.

        Raises:
            ValueError: a shape, dtype or layout that does not fit.
        """
        check_float("dy", dy, 2)
        self._check_linear(("x", "dy"), x, dy, w, self.wide, (self.dtype,))
        check_array("ms", ms, w.shape, self.wide)
        if copy is not None and copy is not w:
            check_array("copy", copy, w.shape, self.dtype)
        if enabled is not None:
            check_array("enabled", enabled, (1,), np.uint8)
        if getattr(lr, "ndim", 0) > 0:
            check_array("lr", lr, (1,), self.wide)
        wgrad_rmsprop(
            self.device, self.precision, w, ms, copy, x, dy, lr=lr, decay=decay, eps=eps, weight_decay=weight_decay, enabled=enabled
        )
