"""Batch normalisation (Ioffe & Szegedy 2015, Algorithm 1) with an optional ReLU behind it, and its gradient.

    x̂ = (x − mean) · rstd,   rstd = 1 / sqrt(var + eps),   y = γ x̂ + β  (then max(y, 0) with relu)

The last axis is C, a channel or a unit; every other axis is summed over. ``groups`` are the image counts, along axis 0, of
the G groups whose samples share statistics: (48,) normalises 48 images together, (16, 32) the first 16 and the other 32 apart.
The variance is biased (divided by the count M = images · H · W).
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.contract.checks import check_array, check_float, check_groups, check_optional
from kernels.contract.operation import Array, Contract, operation


class Running(NamedTuple):
    """Running statistics that a forward moves: running ← momentum · running + (1 − momentum) · statistics, the groups averaged by their
    image counts. mean, var: wide [C], updated in place."""

    mean: Array
    var: Array
    momentum: float


class BatchNorm(Contract):
    """Operations of the contract."""

    def _check_batch_norm(self, x: Array, mean: Array, var: Array, groups: tuple[int, ...], name: str = "x") -> None:
        check_float(name, x, None, self.dtype)
        if x.ndim < 2:
            raise ValueError(f"{name}: got shape {x.shape}, expected at least [N, C]")
        check_groups(groups, len(x))
        check_array("mean", mean, (len(groups), x.shape[-1]), self.wide)
        check_array("var", var, (len(groups), x.shape[-1]), self.wide)

    def _check_forward(
        self, y: Array | None, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, groups: tuple[int, ...],
        running: Running | None, name: str = "x",
    ) -> None:  # fmt: skip
        self._check_batch_norm(x, mean, var, groups, name)
        if running is not None:
            check_array("running.mean", running.mean, x.shape[-1:], self.wide)
            check_array("running.var", running.var, x.shape[-1:], self.wide)
        check_optional("y", y, x.shape, self.dtype)
        check_array("gamma", gamma, x.shape[-1:], self.wide)
        check_array("beta", beta, x.shape[-1:], self.wide)

    @operation
    def batch_norm_statistics(self, mean: Array, var: Array, x: Array, groups: tuple[int, ...]) -> None:
        """Mean and biased variance of each group: one pass over x, pieces combined by Chan et al.'s formula (1979).

        Args: mean, var wide [G, C], outputs; x [N, ..., C]; groups, image counts that sum to N.
        """
        self._check_batch_norm(x, mean, var, groups)

    @operation
    def batch_norm_forward(
        self, y: Array, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, groups: tuple[int, ...], *,
        eps: float, relu: bool = False, running: Running | None = None,
    ) -> None:  # fmt: skip
        """y = γ (x − mean) · rstd + β, clipped at 0 with ``relu``. For running statistics pass them as [1, C], groups (N,).

        Args:
            y: [N, ..., C], output; may be x.
            x: [N, ..., C].
            mean, var: wide [G, C]. gamma, beta: wide [C].
            running: moved by mean and var; or None.
        """
        self._check_forward(y, x, mean, var, gamma, beta, groups, running)
        check_array("y", y, x.shape, self.dtype)

    @operation
    def batch_norm_backward(
        self, dx: Array, dy: Array, x: Array, y: Array, mean: Array, var: Array, gamma: Array, groups: tuple[int, ...], *,
        eps: float, relu: bool = False, batch_statistics: bool = True,
        dgamma: Array | None = None, dbeta: Array | None = None, sums: Array | None = None,
    ) -> None:  # fmt: skip
        """Gradient through the statistics as well (unless they are constants: ``batch_statistics=False``).

            g = dy · [y > 0],   dβ = Σ g,   dγ = Σ g x̂   (sums over all groups)
            dx = γ rstd · (g − Σ_group g / M − x̂ · Σ_group (g x̂) / M)

        Args:
            dx: [N, ..., C], output; may be dy.
            dy: [N, ..., C].
            x: the forward's input; y: its output (read only with ``relu`` and without ``sums``).
            mean, var: wide [G, C], as in the forward. gamma: wide [C].
            dgamma, dbeta: wide [C], outputs, or None where they are not wanted.
            sums: wide [2, G, C], Σ g and Σ g x̂ where the next layer has made them with its gradient (`Previous`): dy is g then.
        """
        self._check_batch_norm(x, mean, var, groups)
        for name, array in (("dx", dx), ("dy", dy), *((("y", y),) if relu and sums is None else ())):
            check_array(name, array, x.shape, self.dtype)
        check_array("gamma", gamma, x.shape[-1:], self.wide)
        check_optional("dgamma", dgamma, x.shape[-1:], self.wide)
        check_optional("dbeta", dbeta, x.shape[-1:], self.wide)
        check_optional("sums", sums, (2, *mean.shape), self.wide)
