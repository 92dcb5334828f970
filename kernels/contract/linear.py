"""Linear layer and its two gradients: y = x · w + bias. Axis letters: N rows (images), I inputs, O outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.checks import check_array, check_float, check_optional, check_rate
from kernels.contract.operation import Array, Contract, operation
from kernels.contract.previous import Previous, check_previous


def check_linear(names: tuple[str, str, str], x: Array, y: Array, w: Array, dtype: Any, w_dtype: Any, y_dtypes: tuple[Any, ...]) -> None:
    """``x [N, I]``, ``y [N, O]``, ``w [I, O]``, under the caller's names for the three."""
    check_float(names[0], x, 2, dtype)
    check_float(names[2], w, 2, w_dtype)
    if w.shape[0] != x.shape[1]:
        raise ValueError(f"{names[2]}: got shape {w.shape}, expected {x.shape[1]} rows, the columns of {names[0]} {x.shape}")
    check_float(names[1], y, 2, *y_dtypes)
    check_array(names[1], y, (len(x), w.shape[1]))


class Linear(Contract):
    """Operations of the contract."""

    @operation
    def linear_forward(self, y: Array, x: Array, w: Array, bias: Array | None = None) -> None:
        """y = x · w + bias. Args: y [N, O], output, of either dtype; x [N, I]; w [I, O]; bias wide [O] or None."""
        check_linear(("x", "y", "w"), x, y, w, self.dtype, self.dtype, (self.dtype, self.wide))
        check_optional("bias", bias, (w.shape[1],), self.wide)

    @operation
    def linear_dgrad(self, dx: Array, dy: Array, w: Array, *, previous: Previous | None = None) -> None:
        """dx = dy · wᵀ. Args: dx [N, I], output; dy [N, O]; w [I, O]; previous as in `conv2d_dgrad`."""
        check_linear(("dx", "dy", "w"), dx, dy, w, self.dtype, self.dtype, (self.dtype,))
        check_previous(previous, dx, self.wide)

    @operation
    def linear_wgrad(self, dw: Array, x: Array, dy: Array, *, dbias: Array | None = None) -> None:
        """dw = xᵀ · dy, dbias = Σ_n dy. Args: dw wide [I, O], output; x [N, I]; dy [N, O]; dbias wide [O], output, or None."""
        check_linear(("x", "dy", "dw"), x, dy, dw, self.dtype, self.wide, (self.dtype,))
        check_optional("dbias", dbias, (dw.shape[1],), self.wide)

    @operation
    def linear_wgrad_rmsprop(
        self, w: Array, ms: Array, copy: Array | None, x: Array, dy: Array, *, lr: Any, decay: float = 0.9, eps: float = 1e-8,
        weight_decay: float = 0.0, enabled: Array | None = None,
    ) -> None:  # fmt: skip
        """`linear_wgrad` and `rmsprop_update` in one: dw = xᵀ · dy is used and never stored as a whole.

        Args:
            w, ms: wide [I, O], the parameter and its mean square, updated in place.
            copy: [I, O], the parameter as an operand, written; None, or ``w`` itself, where there is none.
            x: [N, I]. dy: [N, O].
            lr, decay, eps, weight_decay, enabled: as in `rmsprop_update`.
        """
        check_linear(("x", "dy", "w"), x, dy, w, self.dtype, self.wide, (self.dtype,))
        check_array("ms", ms, w.shape, self.wide)
        if copy is not w:
            check_optional("copy", copy, w.shape, self.dtype)
        check_optional("enabled", enabled, (1,), np.uint8)
        check_rate(lr, self.wide)
