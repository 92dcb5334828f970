"""What `train` checks about the data before anything is drawn, decoded or written."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np

from vaegan_kernels.cli import close_match
from vaegan_kernels.config import Config
from vaegan_kernels.errors import UserError


def normalise(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags with whole paths, so that a run can be resumed from another folder, and names of attributes without spaces around."""
    flags = dict(flags)
    for name in ("data", "gan"):
        if name in flags:
            flags[name] = os.path.abspath(os.path.expanduser(flags[name]))
    if "attributes" in flags:
        flags["attributes"] = ",".join(part.strip() for part in flags["attributes"].split(","))
    return flags


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

    data.check_source(config.data, image_size=spec.image_size, channels=spec.channels)
    kind, count = data.describe_source(config.data, spec.image_size)
    count = min(count, config.limit or count)
    usable = min(count, train_images(config, kind))
    if config.batch_size > usable:
        raise UserError(
            f"--batch-size: got {config.batch_size}, but there are only {usable} images to train on ({kind}); use a smaller batch"
        )
    return kind, count


def train_images(config: Config, kind: str) -> int | float:
    """The size of the training split where the split is known beforehand; infinity where it is made on reading."""
    from vaegan_kernels.data.dataset import limited

    if kind == "built-in faces":
        from vaegan_kernels.data.faces import face_splits

        splits = face_splits()
    elif kind == "packed file":
        import h5py

        try:
            with h5py.File(str(config.data), "r") as file:
                splits = np.asarray(file["splits"][()])
        except (OSError, KeyError):
            return math.inf  # damaged; loading tells how
    else:
        from vaegan_kernels.data.source import listed_splits

        listed = listed_splits(config.data)
        if listed is None:
            return math.inf
        splits = listed
    return int((splits[limited(splits, config.limit)] == 0).sum())
