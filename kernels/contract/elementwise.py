"""The element-wise sums, copies and joins of the layer graph."""

from __future__ import annotations

from typing import Any

from kernels.contract.checks import check_array, check_float, check_rate
from kernels.contract.operation import Array, Contract, operation


class Elementwise(Contract):
    """Operations of the contract. One shape, any, and one dtype, either, unless something else is said."""

    @operation
    def add(self, out: Array, a: Array, b: Array, *, alpha: Any = 1.0, beta: float = 1.0) -> None:
        """out = alpha · a + beta · b; out may be b. alpha: a number, or a wide array [1]."""
        check_rate(alpha, self.wide, "alpha")
        check_float("a", a, None, self.dtype, self.wide)
        check_array("b", b, a.shape, a.dtype)
        check_array("out", out, a.shape, a.dtype)

    @operation
    def scale(self, out: Array, x: Array, factor: float) -> None:
        """out = factor · x; out may be x."""
        check_float("x", x, None, self.dtype, self.wide)
        check_array("out", out, x.shape, x.dtype)

    @operation
    def fill(self, out: Array, value: float) -> None:
        """Every element of ``out`` = value; any dtype of 1, 2, 4 or 8 bytes."""
        check_array("out", out)
        if out.dtype.itemsize not in (1, 2, 4, 8):
            raise ValueError(f"out: got dtype {out.dtype}, expected one of 1, 2, 4 or 8 bytes")

    @operation
    def copy(self, out: Array, x: Array) -> None:
        """out = x: one dtype, any, or the engine's two, converted."""
        check_array("x", x)
        check_array("out", out, x.shape)
        if out.dtype != x.dtype:
            check_float("x", x, None, self.dtype, self.wide)
            check_float("out", out, None, self.dtype, self.wide)

    @operation
    def concatenate(self, y: Array, x: Array, a: Array) -> None:
        """y = [x, a] along the last axis: the attributes behind a layer's input. Args: y [N, F + A], output; x [N, F]; a wide [N, A]."""
        check_float("x", x, 2, self.dtype)
        check_float("a", a, 2, self.wide)
        check_array("a", a, (len(x), a.shape[1]))
        check_array("y", y, (len(x), x.shape[1] + a.shape[1]), self.dtype)
