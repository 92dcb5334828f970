"""The trained GAN whose discriminator is the metric of a vae-dis: which checkpoints can be it, and its arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from models.vaegan import VAEGAN
from vaegan_kernels.runs import checkpoint, other_run
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError

ACCEPTED = ("gan", "vaegan")
KINDS = ("parameters/discriminator/", "statistics/discriminator/")
FC = "parameters/discriminator/fc/weight"  # [cells * c + A, units]: the attributes of a conditional one come last


def gan_config(config: Config) -> Config:
    """The configuration of the GAN that a vae-dis without ``--gan`` trains first: its own, but for the system and the steps."""
    return dataclasses.replace(
        config, model="gan", steps=config.gan_steps, epochs=None, gan_steps=None, init=None, draw_every=None, save_every=None
    )


def check_gan(config: Config) -> None:
    """Raise `UserError` unless ``--gan`` is a checkpoint of a gan or vaegan whose discriminator fits.

    A conditional one fits a run with the same attributes. One without attributes fits a conditional run too: Dis_l does not depend on
    them (see `read_discriminator`).
    """
    path = other_run.find("--gan", config.gan)
    other = checkpoint.read_header(path).config
    if other.model not in ACCEPTED:
        raise UserError(f"--gan: {path} is a checkpoint of --model {other.model}, expected one of {' or '.join(ACCEPTED)}")
    other_run.check_same("--gan", path, other, config)
    if other.condition and other.condition != config.condition:
        here = f"this run is given {','.join(config.condition)}" if config.condition else "this run is not conditional"
        raise UserError(f"--gan: {path} is conditional on {other.attributes}, but {here}; make them the same")


def read_discriminator(path: Path, model: VAEGAN) -> dict[str, np.ndarray]:
    """The arrays of Dis in the checkpoint ``path`` that `VAEGAN.load_discriminator` of ``model`` takes. Raises `UserError`.

    The FC layer of an unconditional Dis gets rows of zeros for the attributes of a conditional ``model``: the same function.
    """
    engine = model.engine
    expected = {name: engine.to_numpy(array) for name, array in model.state_arrays().items() if name.startswith(KINDS)}
    more = 0 if checkpoint.read_header(path).config.condition else model.spec.attributes
    expected[FC] = expected[FC][: len(expected[FC]) - more]
    arrays = checkpoint.read_arrays(path, expected, cast=True, partly=True)
    arrays[FC] = np.pad(arrays[FC], ((0, more), (0, 0)))
    return arrays
