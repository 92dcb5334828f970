"""The layers of a network (Table 1's paper64, or BENCH_NETWORK) with the batches that a training step sends through them.

Enc sees N images, Dec 2N latents ([z; z_p]), Dis 3N images ([x; x̃; x_p]).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.gpu.common import spec_of
from models.networks import NetworkSpec

#: N. Smaller for a smoke test: BENCH_BATCH=2 (PyTorch's batch norm refuses one image at an FC layer).
BATCH = int(os.environ.get("BENCH_BATCH", "16"))
NETWORK = os.environ.get("BENCH_NETWORK", "paper64")


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


def convolutions(spec: NetworkSpec, n: int) -> list[ConvShape]:
    """Enc's, Dec's last and Dis's convolutions."""
    found, size = [], spec.image_size
    for i, (a, b) in enumerate(zip((spec.channels, *spec.encoder), spec.encoder, strict=False)):
        found.append(ConvShape(f"enc conv{i + 1} {a}-{b}", n, size >> i, a, b, 2))
    found.append(ConvShape(f"dec image {spec.decoder[-1]}-{spec.channels}", 2 * n, size, spec.decoder[-1], spec.channels, 1))
    for i, (a, b) in enumerate(zip((spec.channels, *spec.discriminator), spec.discriminator, strict=False)):
        found.append(ConvShape(f"dis conv{i + 1} {a}-{b}", 3 * n, size >> max(0, i - 1), a, b, 1 if i == 0 else 2))
    return found


def upconvolutions(spec: NetworkSpec, n: int) -> list[ConvShape]:
    """Dec's; ci is the upconv's output (the large image), co its input."""
    pairs = list(zip(spec.decoder, spec.decoder[1:], strict=False))
    return [ConvShape(f"dec up{i + 1} {a}-{b}", 2 * n, spec.grid << (i + 1), b, a, 2) for i, (a, b) in enumerate(pairs)]


SPEC = spec_of(NETWORK)
CELLS = SPEC.grid**2
CONVS, UPCONVS = convolutions(SPEC, BATCH), upconvolutions(SPEC, BATCH)
LINEARS = [
    LinearShape("enc fc", BATCH, CELLS * SPEC.encoder[-1], SPEC.encoder_units),
    LinearShape("enc mu", BATCH, SPEC.encoder_units, SPEC.latent),
    LinearShape("dec fc", 2 * BATCH, SPEC.latent, CELLS * SPEC.decoder[0]),
    LinearShape("dis fc", 3 * BATCH, CELLS * SPEC.discriminator[-1], SPEC.discriminator_units),
]

ROWS = SPEC.image_size >> (SPEC.metric - 1)
METRIC = (BATCH, ROWS, ROWS, SPEC.discriminator[SPEC.metric - 1])  # Dis_l of x̃
LATENT = (BATCH, SPEC.latent)
LOGITS = 3 * BATCH
WEIGHTS = {
    "enc fc": (CELLS * SPEC.encoder[-1], SPEC.encoder_units),
    "dec fc": (SPEC.latent, CELLS * SPEC.decoder[0]),
    "dis conv4": (5, 5, *SPEC.discriminator[-2:]),
}
