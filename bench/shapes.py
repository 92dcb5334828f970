"""The layers of Table 1 (paper64) with the batches that a training step sends through them.

Enc sees N images, Dec 2N latents ([z; z_p]), Dis 3N images ([x; x̃; x_p]).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

#: N. Smaller for a smoke test: BENCH_BATCH=2 (PyTorch's batch norm refuses one image at an FC layer).
BATCH = int(os.environ.get("BENCH_BATCH", "16"))


@dataclass(frozen=True)
class ConvShape:
    """A convolution from [n, size, size, ci] with w [5, 5, ci, co]; an upconv is the transpose of the one from its output."""

    name: str
    n: int
    size: int
    ci: int
    co: int
    stride: int

    @property
    def out(self) -> int:
        """Rows of the small image."""
        return self.size // self.stride

    @property
    def flop(self) -> float:
        """Floating-point operations of the forward, of dgrad and of wgrad alike: 2 a multiply-add, none for padding or zeros."""
        return 2.0 * self.n * self.out**2 * 25 * self.ci * self.co


@dataclass(frozen=True)
class LinearShape:
    """x [n, inputs] times w [inputs, outputs]."""

    name: str
    n: int
    inputs: int
    outputs: int

    @property
    def flop(self) -> float:
        return 2.0 * self.n * self.inputs * self.outputs


CONVS = [
    ConvShape("enc conv1 3-64", BATCH, 64, 3, 64, 2),
    ConvShape("enc conv2 64-128", BATCH, 32, 64, 128, 2),
    ConvShape("enc conv3 128-256", BATCH, 16, 128, 256, 2),
    ConvShape("dec image 32-3", 2 * BATCH, 64, 32, 3, 1),
    ConvShape("dis conv1 3-32", 3 * BATCH, 64, 3, 32, 1),
    ConvShape("dis conv2 32-128", 3 * BATCH, 64, 32, 128, 2),
    ConvShape("dis conv3 128-256", 3 * BATCH, 32, 128, 256, 2),
    ConvShape("dis conv4 256-256", 3 * BATCH, 16, 256, 256, 2),
]

# ci is the upconv's output (the large image), co its input
UPCONVS = [
    ConvShape("dec up1 256-256", 2 * BATCH, 16, 256, 256, 2),
    ConvShape("dec up2 256-128", 2 * BATCH, 32, 128, 256, 2),
    ConvShape("dec up3 128-32", 2 * BATCH, 64, 32, 128, 2),
]

LINEARS = [
    LinearShape("enc fc", BATCH, 16384, 2048),
    LinearShape("enc mu", BATCH, 2048, 128),
    LinearShape("dec fc", 2 * BATCH, 128, 16384),
    LinearShape("dis fc", 3 * BATCH, 16384, 512),
]

METRIC = (BATCH, 8, 8, 256)  # Dis_l of x̃
LATENT = (BATCH, 128)
LOGITS = 3 * BATCH
WEIGHTS = {"enc fc": (16384, 2048), "dec fc": (128, 16384), "dis conv4": (5, 5, 256, 256)}
