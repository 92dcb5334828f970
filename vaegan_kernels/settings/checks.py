"""What `train` checks about the data before anything is drawn, decoded or written."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.networks import NETWORKS
from models.presets import PRESETS
from vaegan_kernels.settings.config import FIELDS, Config
from vaegan_kernels.settings.resolve import resolve
from vaegan_kernels.shell.cli import close_match
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shipped import shipped


def normalise(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags with whole paths, so that a run can be resumed from another folder, and names of attributes without spaces around."""
    flags = dict(flags)
    for name in ("data", "gan", "init"):
        if name in flags and (name == "data" or shipped(flags[name]) is None):
            flags[name] = flags[name] and os.path.abspath(os.path.expanduser(flags[name]))  # an empty text would be the folder here
    if "attributes" in flags:
        flags["attributes"] = ",".join(part.strip() for part in flags["attributes"].split(","))
    return flags


def configuration(arguments: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> Config:
    """The configuration of train's parsed ``arguments``, over ``stored`` settings of an earlier run. Raises `UserError`."""
    flags = normalise({name: value for name, value in arguments.items() if name in FIELDS})
    return resolve({**flags, **sized(flags, stored or {}, arguments.get("image_size"))}, stored)


def sized(flags: Mapping[str, Any], stored: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """The network, as a flag, that ``--image-size`` asks for: that of the same family; a packed file's own size where nothing asks for
    another, and its channels likewise. Empty where there is nothing to choose.

    Raises:
        UserError: a size that no network of the family has, or another than that of ``--network``.
    """
    preset = flags.get("preset", stored.get("preset", Config.preset))
    if preset not in PRESETS or flags.get("network", Config.network) not in NETWORKS:
        return {}  # `resolve` says so
    name = flags.get("network") or stored.get("network") or PRESETS[preset]["network"]
    chosen: dict[str, Any] = {}
    if size is None and "network" not in flags and not stored and Path(flags.get("data") or "").suffix.lower() in (".h5", ".hdf5"):
        from vaegan_kernels.data.formats.packed import packed_shape

        try:
            _, size, channels = packed_shape(flags["data"])
        except UserError:
            return {}  # `check_data` says what is wrong with the file
        if channels in (1, 3) and "image_channels" not in flags:
            chosen["image_channels"] = channels
        if size not in {spec.image_size for spec in NETWORKS.values()}:
            return chosen  # `check_source` says which sizes there are
    if size is None or NETWORKS[name].image_size == size:
        return chosen
    family = name.rstrip("0123456789")
    sizes = [spec.image_size for other, spec in NETWORKS.items() if other.rstrip("0123456789") == family]
    if size not in sizes:
        raise UserError(f"--image-size: got {size}, expected one of {', '.join(map(str, sorted(sizes)))}")
    if "network" in flags:
        raise UserError(f"--image-size {size} and --network {name}: give one of them, or --network {family}{size}")
    return {**chosen, "network": f"{family}{size}"}


def with_attributes(config: Config) -> Config:
    """The configuration with the names of a conditional run's attributes filled in and checked. Raises `UserError`."""
    if not config.conditional:
        return config
    from vaegan_kernels import data

    has, where = data.attribute_names(config.data), config.data or "the built-in set"
    if not has:
        raise UserError(f"--conditional: {where} has no attributes; use CelebA, LFW or a packed file with attributes, or leave it out")
    names = has if config.attributes is None else tuple(config.attributes.split(","))
    for name in names:
        if name not in has:
            near = close_match(name, has) or f"; it has {', '.join(has)}"
            raise UserError(f"--attributes: {where} has no attribute {name!r}{near}")
        if names.count(name) > 1:
            raise UserError(f"--attributes: {name} is named twice; name each attribute once")
        if "," in name:
            raise UserError(f"--conditional: the attribute {name!r} of {where} has a comma in its name; choose others with --attributes")
    return dataclasses.replace(config, attributes=",".join(names))


def check_data(config: Config, spec: Any) -> tuple[str, int]:
    """What the data is and how many images it has, about. Raises `UserError` before anything is drawn or decoded."""
    from vaegan_kernels import data

    data.check_source(config.data, image_size=spec.image_size, channels=spec.channels, fit=config.fit)
    kind, count = data.describe_source(config.data, spec.image_size)
    count = min(count, config.limit or count)
    usable = min(count, train_images(config, kind))
    if config.step_images > usable:
        raise UserError(
            f"--batch-size: got {config.batch_in_words}, but there are only {usable} images to train on ({kind}); use a smaller batch"
        )
    return kind, count


def train_images(config: Config, kind: str) -> int | float:
    """The size of the training split where the split is known beforehand; infinity where it is made on reading."""
    from vaegan_kernels.data.dataset import limited

    if kind == "built-in faces":
        from vaegan_kernels.data.drawn.faces import face_splits

        splits = face_splits()
    elif kind == "packed file":
        from vaegan_kernels.data.formats.packed import packed_splits

        splits = packed_splits(str(config.data))
    else:
        from vaegan_kernels.data.source import listed_splits

        listed = listed_splits(config.data)
        if listed is None:
            return math.inf
        splits = listed
    return int((splits[limited(splits, config.limit)] == 0).sum())
