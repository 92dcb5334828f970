"""``checkpoint.h5``: written atomically, read with distrust. The layout is documented in docs/checkpoint.md.

Nothing in a checkpoint is unpickled or evaluated: arrays of numbers, and JSON texts that are validated field by field.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.system import SYSTEMS
from vaegan_kernels.files import SafeFile, write_atomically
from vaegan_kernels.hdf5 import array_of, checksum, names_of, reading, strangers
from vaegan_kernels.hdf5_probe import trust
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shipped import MODELS, shipped
from vaegan_kernels.version import __version__

FORMAT = "vaegan-kernels checkpoint"
FORMAT_VERSION = 1
WEIGHTS = ("average", "raw")  # of a run that keeps an average, both; in a checkpoint of the weights alone, one of them
LARGEST_EXTRA = 1 << 26  # bytes of an array in one of them
CHECKSUMS = "checksums"  # root attribute: JSON, of each array `hdf5.checksum`; older files have none
EXTRAS = ("condition/", "attribute_vectors/")  # groups that a checkpoint may have besides a model's state


@dataclass(frozen=True)
class Header:
    """Everything in a checkpoint but its arrays; stored as attributes of the root group."""

    step: int
    config: Config
    data_fingerprint: str
    data_name: str
    attribute_names: tuple[str, ...] = ()
    seconds: float = 0.0  # of training so far
    seed: int = 0
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    weights: str = ""  # of a checkpoint with weights alone, "average" or "raw": which they were in the run


def save(path: Path, arrays: Mapping[str, np.ndarray], header: Header) -> None:
    """Write ``arrays`` (name with slashes → array) and ``header`` to ``path``; the old file stays until the new one is complete.

    Raises: OSError (a full disk among others) with the old file untouched and the temporary one removed.
    """
    write_atomically(path, lambda file: write_hdf5(file, arrays, header))
    trust(path)


def write_hdf5(file: BinaryIO, arrays: Mapping[str, np.ndarray], header: Header, more: Mapping[str, str] | None = None) -> None:
    """Write the HDF5 bytes of a checkpoint into an open file, with ``more`` root attributes; of one with weights alone, compressed."""
    attributes = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "step": header.step,
        "seed": header.config.seed,
        "config": json.dumps(header.config.to_dict()),
        "data_fingerprint": header.data_fingerprint,
        "data_name": header.data_name,
        "attribute_names": json.dumps(list(header.attribute_names)),
        "seconds": header.seconds,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": json.dumps(versions()),
        **({"weights": header.weights} if header.weights else {}),
        **(more or {}),
    }
    write_arrays(file, arrays, attributes, compress=bool(header.weights))


def write_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any], *, compress: bool = False) -> None:
    import h5py

    options = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if compress else {}
    safe = SafeFile(file)
    try:
        with h5py.File(safe, "w") as h5:
            sums = {name: checksum(array) for name, array in arrays.items()}
            for name, value in {**attributes, CHECKSUMS: json.dumps(sums)}.items():
                h5.attrs[name] = value
            for name, array in arrays.items():
                h5.create_dataset(name, data=array, **(options if array.nbytes > 4096 else {}))
    except Exception as error:
        raise safe.error or error from None
    if safe.error is not None:
        raise safe.error


def read_extra(path: Path, name: str) -> np.ndarray | None:
    """The array ``name`` of one of the `EXTRAS`, None where the checkpoint has none. Raises `UserError` if it is not finite numbers."""
    with opened(path) as h5:
        if name not in h5:
            return None
        item = _item(h5, name, path)
        if item.ndim > 2 or item.nbytes > LARGEST_EXTRA:
            raise UserError(f"{path}: {name} has the shape {item.shape}, expected a few numbers; it was not written by this program")
        array = _sound(item[()], name, path, _checksums(h5, path))
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UserError(f"{path}: {name} is not an array of finite numbers; the file is damaged, or was not written by this program")
    return array


def read_extra_names(path: Path, name: str) -> tuple[str, ...]:
    """The JSON list of texts in the root attribute ``name``; () where there is none."""
    with opened(path) as h5:
        return tuple(map(str, json_of(h5.attrs, name, path, list))) if name in h5.attrs else ()


def read_text(path: Path, name: str) -> str:
    """The text in the root attribute ``name``; "" where there is none."""
    with opened(path) as h5:
        return _text(h5.attrs.get(name))


def write_extra(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Put ``arrays`` (names in one of the `EXTRAS`) and root ``attributes`` into the checkpoint ``path``; all else stays as it is.

    The file is replaced as a whole. Raises: `UserError` if it is no checkpoint, ValueError for another group.
    """
    for name in arrays:
        if not name.startswith(EXTRAS):
            raise ValueError(f"name: got {name!r}, expected one in {' or '.join(EXTRAS)}")
    with opened(path) as h5:
        _header(h5, path)
        sums = _checksums(h5, path)
        kept = {name: _sound(_item(h5, name, path)[()], name, path, sums) for name in names_of(h5, path)}
        root = dict(h5.attrs)
    write_atomically(path, lambda file: write_arrays(file, {**kept, **arrays}, {**root, **attributes}))
    trust(path)


def versions() -> dict[str, str]:
    """The software that writes a checkpoint; for the reader's information only."""
    import h5py

    gpu = {name: str(module.__version__) for name, module in sys.modules.items() if name in ("cupy", "triton")}  # where they are in use
    return {
        "vaegan-kernels": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        **gpu,
    }


def find(path: str | Path) -> Path:
    """The checkpoint file of ``path``: a checkpoint, a run folder, or a model of `shipped`. Raises `UserError` if there is none."""
    if (own := shipped(path)) is not None:
        return own
    path = Path(path)
    if path.is_dir():
        if not (path / "checkpoint.h5").is_file():
            raise UserError(f"no checkpoint.h5 in the folder {path}; give a run folder or a checkpoint file")
        return path / "checkpoint.h5"
    if not path.exists():
        raise UserError(
            f"no such checkpoint: {path}; give a run folder, a checkpoint file, or {' or '.join(MODELS)}: it comes with the program"
        )
    return path


def read_header(path: Path) -> Header:
    """The header of a checkpoint. Raises `UserError`: truncated, not HDF5, not a checkpoint, newer, or ill-formed."""
    with opened(path) as h5:
        return _header(h5, path)


def read_arrays(
    path: Path, expected: Mapping[str, np.ndarray], *, cast: bool = False, partly: bool = False
) -> dict[str, np.ndarray]:  # fmt: skip
    """The arrays of a checkpoint that fit ``expected`` (name → array of the wanted shape and dtype).

    ``cast`` permits another floating-point width; ``partly`` permits others in the file than those and the `EXTRAS`. Raises
    `UserError` naming the first array that is missing, unknown, of another shape or type, or not finite.
    """
    arrays: dict[str, np.ndarray] = {}
    with opened(path) as h5:
        if not partly and (unknown := strangers(h5, set(expected), EXTRAS)):
            raise UserError(f"{path}: unknown array {unknown[0]}; the file is not of this network and optimiser")
        sums = _checksums(h5, path)
        for name, like in expected.items():
            arrays[name] = _array(h5, name, like, path, cast, sums)
    return arrays


def read_weights(path: Path, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights that a model is used with, of a checkpoint: the arrays ``expected`` ("parameters/…", "statistics/…", of any
    floating-point width), of each its average where one was kept. Raises `UserError` as `read_arrays`."""
    header = read_header(path)
    config = header.config
    averaged = SYSTEMS[config.model].trained if config.average and not header.weights else ()
    stored = {name: f"average/{name}" if name.split("/")[1] in averaged else name for name in expected}
    arrays = read_arrays(path, {stored[name]: like for name, like in expected.items()}, cast=True, partly=True)
    return {name: arrays[stored[name]] for name in expected}


def _item(h5: Any, name: str, path: Path) -> Any:
    """The HDF5 dataset ``name``, only if its data lies in this file. Raises `UserError`."""
    item = array_of(h5, name, path)
    if item is None:
        raise UserError(f"{path}: the array {name} is missing; the file is damaged or of another network or optimiser")
    return item


def _checksums(h5: Any, path: Path) -> dict[str, Any]:
    return dict(json_of(h5.attrs, CHECKSUMS, path, dict)) if CHECKSUMS in h5.attrs else {}


def _sound(value: Any, name: str, path: Path, sums: Mapping[str, Any]) -> np.ndarray:
    """The array ``name`` as it was read. Raises `UserError` where it is not what was written."""
    array = np.asarray(value)
    if name in sums and sums[name] != checksum(array):
        raise UserError(f"{path}: {name} is not what was written, the file is damaged; use an earlier checkpoint, or copy it again")
    return array


def _array(h5: Any, name: str, like: np.ndarray, path: Path, cast: bool, sums: Mapping[str, Any]) -> np.ndarray:
    item = _item(h5, name, path)
    if item.shape != like.shape:
        raise UserError(f"{path}: {name} has shape {item.shape}, expected {like.shape}; the file is of another network")
    same_kind = item.dtype.kind == like.dtype.kind and item.dtype.kind in "fiu"
    if item.dtype != like.dtype and not (cast and same_kind):
        raise UserError(f"{path}: {name} has type {item.dtype}, expected {like.dtype} (--precision of the run)")
    stored = item[()]
    array = np.ascontiguousarray(stored, dtype=like.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path}: {name} has values that are not finite; use an earlier checkpoint")
    _sound(stored, name, path, sums)
    return array


def opened(path: Path) -> AbstractContextManager[Any]:
    """The HDF5 file, open for reading. Raises `UserError`, also for whatever h5py raises within."""
    return reading(path, what="a checkpoint", advice="use an earlier checkpoint, or copy it again")


def _header(h5: Any, path: Path) -> Header:
    attributes = h5.attrs
    if _text(attributes.get("format")) != FORMAT:
        raise UserError(f"{path}: an HDF5 file, but not a checkpoint of this program")
    version = attributes.get("format_version")
    if not isinstance(version, int | np.integer) or version != FORMAT_VERSION:
        raise UserError(f"{path}: checkpoint format {version}, this program reads format {FORMAT_VERSION}; use a matching version")
    step = attributes.get("step")
    if not isinstance(step, int | np.integer) or step < 0:
        raise UserError(f"{path}: the attribute step is {step!r}, expected a whole number")
    seconds = attributes.get("seconds", 0.0)
    if not isinstance(seconds, float | np.floating) or not np.isfinite(seconds):
        raise UserError(f"{path}: the attribute seconds is {seconds!r}, expected a number")
    weights = _text(attributes.get("weights"))
    if weights not in ("", *WEIGHTS):
        raise UserError(f"{path}: the attribute weights is {weights!r}, expected one of {', '.join(WEIGHTS)}")
    config = Config.from_dict(json_of(attributes, "config", path, dict), f"{path}, attribute config")
    return Header(
        step=int(step),
        config=config,
        seed=config.seed,
        data_fingerprint=_text(attributes.get("data_fingerprint")),
        data_name=_text(attributes.get("data_name")),
        attribute_names=tuple(map(str, json_of(attributes, "attribute_names", path, list))),
        seconds=float(seconds),
        created=_text(attributes.get("created")),
        versions={str(key): str(value) for key, value in json_of(attributes, "versions", path, dict).items()},
        weights=weights,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def json_of(attributes: Any, name: str, path: Path, kind: type) -> Any:
    try:
        value = json.loads(_text(attributes.get(name)))
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise UserError(f"{path}: the attribute {name} is missing or damaged; the file was not written by this program")
    return value
