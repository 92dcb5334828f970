"""Dec (Table 1): an FC layer to the first image, three fractional-strided convolutions, a convolution with tanh."""

from __future__ import annotations

from models.blocks import Conv, LinearBNReLU, UpconvBNReLU
from models.graph import Sequential
from models.layer import Context
from models.networks import NetworkSpec


def decoder(context: Context, spec: NetworkSpec) -> Sequential:
    """p(x | z): z [N, latent] → images in (−1, 1), [N, S, S, C]. A conditional one has the attributes behind z."""
    c0, c1, c2, c3 = spec.decoder
    image = (spec.grid, spec.grid, c0)
    return Sequential(
        [
            LinearBNReLU(context, "decoder/fc", spec.latent, spec.grid**2 * c0, image=image, attributes=spec.attributes),
            UpconvBNReLU(context, "decoder/up1", c0, c1),
            UpconvBNReLU(context, "decoder/up2", c1, c2),
            UpconvBNReLU(context, "decoder/up3", c2, c3),
            Conv(context, "decoder/image", c3, spec.channels, activation="tanh"),
        ],
    )
