"""Results that were made in parts, each of some images of a batch, and put together in the order of the parts: the same bits each time."""

from __future__ import annotations

import numpy as np

from kernels.contract.checks import check_array, check_float
from kernels.contract.operation import Array, Contract, operation


class Parts(Contract):
    """Operations of the contract. R parts, the first axis."""

    @operation
    def combine_statistics(self, mean: Array, var: Array, parts: Array, shares: Array) -> None:
        """Mean and biased variance of all from those of the parts (Chan et al. 1979), in double:

            mean = Σ_r s_r mean_r,   var = Σ_r s_r (var_r + (mean_r − mean)²)

        Args:
            mean, var: wide [G, C], outputs.
            parts: wide [R, 2, G, C], each part's mean and variance.
            shares: float64 [R], each part's share of the values, Σ 1; the same for all groups.
        """
        check_array("mean", mean, mean.shape, self.wide)
        check_array("var", var, mean.shape, self.wide)
        check_array("parts", parts, (len(parts), 2, *mean.shape), self.wide)
        check_array("shares", shares, (len(parts),), np.float64)

    @operation
    def sum_parts(self, out: Array, parts: Array, *, factor: float = 1.0) -> None:
        """out = factor · Σ_r parts[r], in double. Args: out wide or float64, any shape, output; parts [R, *out.shape] of the same type."""
        check_float("out", out, None, self.wide, np.float64)
        check_array("parts", parts, (len(parts), *out.shape), out.dtype)
