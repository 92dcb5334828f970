"""Another run that a new one is given: ``--init``, whose weights it starts with; and what is asked of that and of ``--gan`` alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.system import SYSTEMS
from models.vaegan import VAEGAN
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError


def find(flag: str, path: str | None) -> Path:
    """The checkpoint file that ``flag`` names. Raises `UserError` where there is none."""
    try:
        return checkpoint.find(str(path))
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


def check_same(flag: str, path: Path, other: Config, config: Config) -> None:
    """Raise `UserError` unless the run in ``path``, with the configuration ``other``, has the network and channels of ``config``."""
    for name, setting in (("network", "--network"), ("image_channels", "--image-channels")):
        if getattr(other, name) != getattr(config, name):
            raise UserError(
                f"{flag}: {path} was trained with {setting} {getattr(other, name)}, this run has {getattr(config, name)}; "
                "make them the same"
            )


def check_init(config: Config) -> str:
    """A line that says where the weights of a new run with ``--init`` come from.

    Raises `UserError` unless the run there has all networks that this one trains, of the same sizes, given as many attributes.
    """
    path = find("--init", config.init)
    header = checkpoint.read_header(path)
    other, own, theirs = header.config, config.network_spec(), header.config.network_spec()
    if theirs.image_size != own.image_size:
        what = f"images of {theirs.image_size} pixels a side, this run of {own.image_size}"
        raise UserError(f"--init: {path} has {what}; add --image-size {theirs.image_size}")
    check_same("--init", path, other, config)
    absent = [name for name in SYSTEMS[config.model].trained if name not in SYSTEMS[other.model].networks]
    if absent:
        raise UserError(f"--init: {path} is of --model {other.model} and has no {absent[0]} to start --model {config.model} with")
    if "encoder" in SYSTEMS[config.model].trained and theirs.encoder_units != own.encoder_units:
        raise UserError(f"--init: {path} has --encoder-units {theirs.encoder_units}, this run {own.encoder_units}; make them the same")
    if theirs.attributes != own.attributes:
        given, wanted = (f"{count} attributes" if count else "no attributes" for count in (theirs.attributes, own.attributes))
        raise UserError(f"--init: the networks in {path} are given {given}, those of this run {wanted}; the number must be the same")
    return f"weights from {config.init} (step {header.step:,}, data {header.data_name})"


def read_init(config: Config, model: VAEGAN) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What `VAEGAN.load_state` of the new ``model`` takes: the weights that the run in ``--init`` is used with (its averages where it
    kept some), for ``model``'s weights and their averages alike, and the names that those begin with. Raises `UserError`."""
    groups = tuple(f"{kind}/{name}/" for kind in ("parameters", "statistics") for name in SYSTEMS[model.system].trained)
    own = model.state_arrays()
    found = checkpoint.read_weights(find("--init", config.init), {name: a for name, a in own.items() if name.startswith(groups)})
    found |= {f"average/{name}": array for name, array in found.items() if f"average/{name}" in own}
    return found, groups + tuple(f"average/{group}" for group in groups)
