"""What a gradient needs to know of the layer before, to finish that layer's ReLU and batch-norm sums where it is made."""

from __future__ import annotations

from typing import Any, NamedTuple

from kernels.contract.checks import check_array, check_float, check_groups, check_optional
from kernels.contract.operation import Array, Contract, operation


class Previous(NamedTuple):
    """The layer whose *output* is this operation's x: batch norm and ReLU, or ReLU alone.

    A dgrad that is given it writes g = dx · [y > 0] instead of dx, and the sums over the images and positions of each group that
    the batch norm's backward starts with, so that the error is not read once more for them:

        sums[0] = Σ g,   sums[1] = Σ g · (pre − mean) · rstd

    C is the length of gamma; where dx's last axis is a flattened image, a multiple of C, the channel is column % C (y and pre are
    flattened alike).

    Attributes:
        y: like dx, the layer's output.
        pre: like dx, the batch norm's input; None for ReLU alone, as are mean, var, gamma and beta.
        mean, var: wide [G, C]. gamma, beta: wide [C].
        eps: of the batch norm; 0.0 for ReLU alone.
        groups: image counts that sum to dx's images; one group for ReLU alone.
        sums: output, wide [2, G, C]; for ReLU alone [1, 1, C] with Σ g, which is the gradient of a bias (`Engine.together`), or None where
            that is not wanted.
    """

    y: Array
    pre: Array
    mean: Array
    var: Array
    gamma: Array
    beta: Array
    eps: float
    groups: tuple[int, ...]
    sums: Array


def check_previous(previous: Previous | None, dx: Array, wide: Any) -> None:
    """Raise `ValueError` unless ``previous`` is None or fits the gradient ``dx``."""
    if previous is None:
        return
    check_array("previous.y", previous.y, dx.shape, dx.dtype)
    check_groups(previous.groups, len(dx))
    if previous.pre is None:
        if len(previous.groups) != 1:
            raise ValueError(f"previous.groups: got {previous.groups}, expected one group: ReLU alone has no statistics")
        return check_optional("previous.sums", previous.sums, (1, 1, dx.shape[-1]), wide)
    check_array("previous.pre", previous.pre, dx.shape, dx.dtype)
    c, g = len(previous.gamma), len(previous.groups)
    if dx.shape[-1] % c:
        raise ValueError(f"previous: got {c} channels, expected a divisor of dx's last axis, {dx.shape[-1]}")
    for name, array, shape in (
        ("gamma", previous.gamma, (c,)), ("beta", previous.beta, (c,)), ("mean", previous.mean, (g, c)), ("var", previous.var, (g, c)),
        ("sums", previous.sums, (2, g, c)),
    ):  # fmt: skip
        check_array(f"previous.{name}", array, shape, wide)


class Finish(Contract):
    """Operations of the contract."""

    @operation
    def finish_previous(self, dx: Array, previous: Previous) -> None:
        """What an error owes the layer before that no product has made alone: dx ← dx · [y > 0] in place, and the sums of `Previous`.

        Args: dx [N, ...].
        """
        check_float("dx", dx, None, self.dtype)
        check_previous(previous, dx, self.wide)
