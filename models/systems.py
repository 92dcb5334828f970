"""The four systems that the paper compares (section 4), with the same Enc, Dec and Dis for all: the networks and losses of each."""

from __future__ import annotations

from typing import NamedTuple


class System(NamedTuple):
    """One of `SYSTEMS`.

    Attributes:
        networks: those that it has.
        trained: those that its step updates.
        losses: names of its losses, of `models.algorithm1.LOSSES`; "generator" only with the non-saturating loss.
        gate: whether the equilibrium gate acts: only where Dec and Dis play against each other.
    """

    networks: tuple[str, ...]
    trained: tuple[str, ...]
    losses: tuple[str, ...]
    gate: bool


_VAE, _GAN = ("prior", "like"), ("gan_real", "gan_generated", "generator")
_ALL = ("encoder", "decoder", "discriminator")

SYSTEMS: dict[str, System] = {
    "vaegan": System(_ALL, _ALL, _VAE + _GAN, True),  # Algorithm 1: models/algorithm1.py
    "vae": System(_ALL[:2], _ALL[:2], _VAE, False),  # Gaussian pixels: models/vae.py
    "vae-dis": System(_ALL, _ALL[:2], _VAE, False),  # VAE_Dis_l, a trained GAN's Dis as the metric: models/vae.py
    "gan": System(_ALL[1:], _ALL[1:], _GAN, True),  # models/gan.py
}
