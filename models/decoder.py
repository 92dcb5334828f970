"""Dec (Table 1): an FC layer to the first image, fractional-strided convolutions, a convolution with tanh."""

from __future__ import annotations

from models.blocks import Conv, LinearBNReLU, UpconvBNReLU
from models.graph import Sequential
from models.layer import Context
from models.networks import NetworkSpec


def decoder(context: Context, spec: NetworkSpec) -> Sequential:
    """p(x | z): z [N, latent] → images in (−1, 1), [N, S, S, C]. A conditional one has the attributes behind z."""
    widths = spec.decoder
    image = (spec.grid, spec.grid, widths[0])
    fc = LinearBNReLU(context, "decoder/fc", spec.latent, spec.grid**2 * widths[0], image=image, attributes=spec.attributes)
    ups = [UpconvBNReLU(context, f"decoder/up{i}", widths[i - 1], widths[i]) for i in range(1, len(widths))]
    return Sequential([fc, *ups, Conv(context, "decoder/image", widths[-1], spec.channels, activation="tanh")])
