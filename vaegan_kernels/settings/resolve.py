"""What a run's settings are: defaults, preset, ``--config`` file and flags, the later winning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.networks import NETWORKS
from models.presets import PRESETS, gamma_for
from vaegan_kernels.settings.config import FIELDS, Config, check_names
from vaegan_kernels.settings.fields import coerce
from vaegan_kernels.shell.cli import check_choice
from vaegan_kernels.shell.errors import UserError


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a ``config.json`` (or in the run folder that has one), as a dictionary of known names.

    Raises `UserError` if the file is missing, is no JSON object, or has a setting that does not exist.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--config: no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--config: {path} is not a readable JSON file ({error})") from None
    check_names(values, str(path))
    return {name: coerce(FIELDS[name], value) for name, value in values.items()}


def resolve(flags: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Config:
    """Defaults, then the preset, then ``stored`` (a ``--config`` file), then ``flags`` (only those that were given).

    A ``preset`` or ``network`` among the flags outranks the file's preset values. Raises `UserError` for the first bad value.
    """
    stored = dict(stored or {})
    flags = {name: value for name, value in flags.items() if value is not None}
    preset = {**stored, **flags}.get("preset", Config.preset)
    check_choice("--preset", preset, PRESETS)
    if "steps" in flags and "epochs" in flags:
        raise UserError("--steps and --epochs: both given, expected one of them")
    if "preset" in flags:  # an explicit preset replaces the values that the file took from its own preset
        stored = {name: value for name, value in stored.items() if name not in PRESETS[preset]}
    base = {name: value for name, value in PRESETS[preset].items() if name in FIELDS}
    name = {**base, **stored, **flags}["network"]
    if name != base["network"]:
        base.pop("encoder_units", None)  # the preset's width belongs to the preset's network
    if name in NETWORKS:
        base["gamma"] = gamma_for(preset, name)
    before = stored.get("network")
    if before in NETWORKS and before != name and stored.get("gamma") == gamma_for(preset, before):
        stored.pop("gamma")  # it was not chosen, but came with the file's network
    if flags.get("model", "vae-dis") != "vae-dis" or "gan" in flags:  # what belongs to another choice of the file's
        stored.pop("gan_steps", None)
    if flags.get("model", "vae-dis") != "vae-dis" or "gan_steps" in flags:
        stored.pop("gan", None)
    if flags.get("conditional") is False:
        stored.pop("attributes", None)
    layers = [base, stored, flags]
    values: dict[str, Any] = {}
    for layer in layers:
        if layer.get("epochs") is not None:  # a later length of training replaces an earlier one; epochs are the origin of steps
            values.pop("steps", None)
            layer = {name: value for name, value in layer.items() if name != "steps"}
        elif layer.get("steps") is not None:
            values.pop("epochs", None)
        values |= layer
    config = Config(**{**values, "preset": preset})
    config.validate()
    return config
