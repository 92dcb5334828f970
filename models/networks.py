"""Sizes of the networks: ``paper64`` (Table 1), ``paper32`` (the authors' 32x32 networks), ``medium64`` and ``medium32`` of half their
widths, ``small32``, and larger ones by `grown`.

``small32`` has the same kinds of layer as ``paper32`` at a quarter to a half of the width, for machines with no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that fixes the shapes of Enc, Dec and Dis.

    Attributes:
        image_size, channels: images are [N, image_size, image_size, channels].
        latent: size of z.
        encoder: channels of Enc's stride-2 convolutions, three in Table 1; encoder_units: its FC layer.
        decoder: channels of Dec's first image (of `grid` rows) and of its upconvs, as many as Enc has convolutions.
        discriminator: channels of Dis's convolutions, the first of stride 1, the others of stride 2; discriminator_units: its FC layer.
        metric: which of Dis's convolutions gives Dis_l, the learned metric (its output before BN), counted from 1.
        attributes: length of the vector that a conditional form is given with each image (section 4.2); 0: none.
    """

    name: str
    image_size: int
    channels: int
    latent: int
    encoder: tuple[int, ...]
    encoder_units: int
    decoder: tuple[int, ...]
    discriminator: tuple[int, ...]
    discriminator_units: int
    metric: int
    attributes: int = 0

    @property
    def grid(self) -> int:
        """Rows of the smallest feature map: a halving of the image for each of Enc's convolutions."""
        return self.image_size >> len(self.encoder)

    @property
    def metric_size(self) -> int:
        """Values of Dis_l for one image: L_like is a sum over so many."""
        rows = self.image_size // 2 ** (self.metric - 1)
        return rows * rows * self.discriminator[self.metric - 1]

    def parameter_counts(self) -> dict[str, int]:
        """Trained values of each network."""
        cells = self.grid**2

        def convs(channels: tuple[int, ...]) -> int:
            return sum(25 * a * b + 2 * b for a, b in zip(channels, channels[1:], strict=False))

        units, d_units, a = self.encoder_units, self.discriminator_units, self.attributes
        return {
            "encoder": convs((self.channels, *self.encoder)) + (cells * self.encoder[-1] + a + 2) * units + 2 * (units + 1) * self.latent,
            "decoder": (self.latent + a + 2) * cells * self.decoder[0] + convs(self.decoder) + (25 * self.decoder[-1] + 1) * self.channels,
            "discriminator": (25 * self.channels + 1) * self.discriminator[0]
            + convs(self.discriminator)
            + (cells * self.discriminator[-1] + a + 2) * d_units
            + d_units
            + 1,
        }


def grown(spec: NetworkSpec, name: str) -> NetworkSpec:
    """``spec`` for images of twice the size.

    The rule: one more stage at the coarse end, as wide as the one that is there: a convolution behind Enc's last and behind Dis's last, an
    upconv before Dec's first. The smallest feature map and all FC layers stay as they are, and Dis_l stays on a map of 8 x 8, where the
    paper has it at 64 pixels and the authors have it at 32. Layers near the pixels keep their widths, so a step takes about four times
    as long, and the networks gain one 5x5 layer each.
    """
    return replace(
        spec, name=name, image_size=2 * spec.image_size, encoder=(*spec.encoder, spec.encoder[-1]),
        decoder=(spec.decoder[0], *spec.decoder), discriminator=(*spec.discriminator, spec.discriminator[-1]), metric=spec.metric + 1,
    )  # fmt: skip


def halved(spec: NetworkSpec, name: str) -> NetworkSpec:
    """``spec`` with half the width of every layer, z as it is: about a quarter of the work."""

    def half(channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(c // 2 for c in channels)

    return replace(
        spec, name=name, encoder=half(spec.encoder), encoder_units=spec.encoder_units // 2, decoder=half(spec.decoder),
        discriminator=half(spec.discriminator), discriminator_units=spec.discriminator_units // 2,
    )  # fmt: skip


_small32 = NetworkSpec("small32", 32, 3, 128, (16, 48, 64), 256, (64, 48, 32, 16), (16, 32, 48, 64), 128, metric=3)
_paper32 = NetworkSpec("paper32", 32, 3, 128, (64, 128, 256), 1024, (256, 192, 128, 32), (32, 128, 192, 256), 512, metric=3)
_paper64 = NetworkSpec("paper64", 64, 3, 128, (64, 128, 256), 2048, (256, 256, 128, 32), (32, 128, 256, 256), 512, metric=4)
_small64 = grown(_small32, "small64")
_medium32, _medium64 = halved(_paper32, "medium32"), halved(_paper64, "medium64")
_all = (
    _small32, _small64, grown(_small64, "small128"), _medium32, _medium64, grown(_medium64, "medium128"), _paper32, _paper64,
    grown(_paper64, "paper128"),
)  # fmt: skip

NETWORKS: dict[str, NetworkSpec] = {spec.name: spec for spec in _all}


def network(name: str, *, channels: int = 3, encoder_units: int | None = None, attributes: int = 0) -> NetworkSpec:
    """The spec called ``name`` for images of 1 or 3 channels, with another size of Enc's FC layer if given.

    Raises:
        ValueError: an unknown name, channels other than 1 or 3, encoder_units < 1, attributes < 0.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: got {name!r}, expected one of {', '.join(NETWORKS)}")
    if channels not in (1, 3):
        raise ValueError(f"channels: got {channels}, expected 1 or 3")
    if encoder_units is not None and encoder_units < 1:
        raise ValueError(f"encoder_units: got {encoder_units}, expected at least 1")
    if attributes < 0:
        raise ValueError(f"attributes: got {attributes}, expected at least 0")
    spec = NETWORKS[name]
    return replace(spec, channels=channels, encoder_units=encoder_units or spec.encoder_units, attributes=attributes)
