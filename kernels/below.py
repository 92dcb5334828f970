"""What a gradient needs to know of the layer underneath, to finish that layer's ReLU and batch-norm sums where it is made."""

from __future__ import annotations

from typing import Any, NamedTuple


class Below(NamedTuple):
    """The layer whose *output* is this operation's x: batch norm and ReLU, or ReLU alone.

    A dgrad that is given it writes g = dx · [y > 0] instead of dx, and the sums over the images and positions of each group that
    the batch norm's backward starts with, so that the error is not read once more for them:

        sums[0] = Σ g,   sums[1] = Σ g · (pre − mean) · rstd

    C is the length of gamma; where dx's last axis is a flattened image, a multiple of C, the channel is column % C (y and pre are
    flattened alike).

    Attributes:
        y: like dx, the layer's output.
        pre: like dx, the batch norm's input; None for ReLU alone, as are mean, var, gamma and beta.
        mean, var: [G, C]. gamma, beta: [C].
        eps: of the batch norm; 0.0 for ReLU alone.
        groups: image counts that sum to dx's images; one group for ReLU alone.
        sums: output, [2, G, C]; for ReLU alone [1, 1, C] with Σ g.
    """

    y: Any
    pre: Any
    mean: Any
    var: Any
    gamma: Any
    beta: Any
    eps: float
    groups: tuple[int, ...]
    sums: Any
