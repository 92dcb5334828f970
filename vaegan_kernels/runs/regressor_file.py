"""The regressor's file, HDF5: written atomically, read with distrust, as a checkpoint is.

attributes  format "vaegan-kernels regressor", format_version 1, header (JSON: the fields of `Header`)
parameters/…, statistics/…, optimizer/…   as in a checkpoint (docs/checkpoint.md), names from "regressor/…"
                                          (optimizer/… is for resuming; a file may come without)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.networks import NETWORKS
from vaegan_kernels.files import quoted, write_atomically
from vaegan_kernels.hdf5_probe import trust
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.shell.errors import UserError

FORMAT = "vaegan-kernels regressor"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Header:
    """Everything in the file but its arrays."""

    network: str
    channels: int
    attribute_names: tuple[str, ...]
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    data_fingerprint: str
    data_name: str
    encoder_units: int | None = None  # of the FC layer; None: the network's own, as in files that do not say
    step: int = 0
    report: dict[str, Any] = field(default_factory=dict)  # of the test images, once it is trained

    def asked(self) -> dict[str, Any]:
        """What was asked for, without what came of it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in ("step", "report")}


def save(path: Path, arrays: Mapping[str, np.ndarray], header: Header) -> None:
    """Write the file; an older one stays until the new one is complete. Raises OSError, a full disk among others."""
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, "header": json.dumps(dataclasses.asdict(header))}
    write_atomically(path, lambda file: checkpoint.write_arrays(file, arrays, attributes))
    trust(path)


def read_header(path: Path) -> Header:
    """The header. Raises `UserError` in one line: no such file, not HDF5, not a regressor, damaged."""
    if not path.exists():
        raise UserError(f"no such regressor: {path}; train one with: python -m vaegan_kernels.regressor --out {quoted(path)}")
    with checkpoint.opened(path) as h5:
        if h5.attrs.get("format") != FORMAT:
            raise UserError(f"{path}: not a regressor's file; python -m vaegan_kernels.regressor makes them")
        if h5.attrs.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{path}: regressor format {h5.attrs.get('format_version')}, this program reads format {FORMAT_VERSION}")
        values = {"encoder_units": None, **checkpoint.json_of(h5.attrs, "header", path, dict)}
    kinds = {"network": str, "channels": int, "steps": int, "batch_size": int, "learning_rate": float, "seed": int, "step": int}
    kinds |= {"attribute_names": list, "data_fingerprint": str, "data_name": str, "report": dict}
    kinds |= {"encoder_units": int if values["encoder_units"] is not None else type(None)}
    if set(values) != set(kinds) or any(type(values[name]) is not kind for name, kind in kinds.items()):
        raise UserError(f"{path}: its header is damaged; the file was not written by this program")
    header = Header(**{**values, "attribute_names": tuple(values["attribute_names"])})
    for name, sound in _ranges(header).items():
        if not sound:
            raise UserError(f"{path}: its header is damaged ({name} is {values[name]!r}); the file was not written by this program")
    return header


def _ranges(header: Header) -> dict[str, bool]:
    """Whether each field is one that this program can have written."""
    names, report = header.attribute_names, header.report
    return {
        "network": header.network in NETWORKS,
        "channels": header.channels in (1, 3),
        "attribute_names": bool(names) and all(type(name) is str for name in names) and len(set(names)) == len(names),
        "encoder_units": header.encoder_units is None or header.encoder_units >= 1,
        "steps": header.steps >= 1,
        "step": 0 <= header.step <= header.steps,
        "batch_size": header.batch_size >= 1,
        "seed": header.seed >= 0,
        "learning_rate": 0 < header.learning_rate < float("inf"),
        "report": not report or (type(report.get("attributes")) is dict and set(report["attributes"]) == set(names)),
    }
