"""A model as other tools have it: PyTorch's layouts and names of arrays, and a description in JSON. Plain NumPy; no framework.

Ours is NHWC with weights [KH, KW, Ci, Co] (an upconv's [KH, KW, Co, Ci]) and [inputs, outputs]; PyTorch's is NCHW with [Co, Ci, KH, KW]
(ConvTranspose2d's [Ci, Co, KH, KW]) and [outputs, inputs]. A linear layer beside an image lists its units as (rows, columns, channels) here
and as (channels, rows, columns) there; a conditional layer's attributes stand behind them in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from models.networks import NetworkSpec
from models.system import SYSTEMS
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.version import __version__

FORMAT, FORMAT_VERSION = "vaegan-kernels export", 1
NORM = {"weight": "parameters/{}/gamma", "bias": "parameters/{}/beta"}
NORM |= {name: f"statistics/{{}}/{name}" for name in ("running_mean", "running_var")}
BATCHES = "num_batches_tracked"  # PyTorch's counter, of no meaning here


def blocks(spec: NetworkSpec, networks: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(our block, PyTorch's module, "norm" for a layer with batch norm, else "bias"), in the order of the networks."""
    if "encoder" in networks:
        yield from ((f"encoder/conv{i + 1}", f"encoder.convs.{i}", "norm") for i in range(len(spec.encoder)))
        yield from (
            ("encoder/fc", "encoder.fc", "norm"),
            ("encoder/mu", "encoder.mu", "bias"),
            ("encoder/logvar", "encoder.logvar", "bias"),
        )
    if "decoder" in networks:
        yield "decoder/fc", "decoder.fc", "norm"
        yield from ((f"decoder/up{i + 1}", f"decoder.ups.{i}", "norm") for i in range(len(spec.decoder) - 1))
        yield "decoder/image", "decoder.image", "bias"
    if "discriminator" in networks:
        yield "discriminator/conv1", "discriminator.first.0", "bias"
        rest = range(1, len(spec.discriminator))
        yield from ((f"discriminator/conv{i + 1}", f"discriminator.convs.{i - 1}", "norm") for i in rest)
        yield from (("discriminator/fc", "discriminator.fc", "norm"), ("discriminator/output", "discriminator.output", "bias"))


def names(spec: NetworkSpec, networks: tuple[str, ...]) -> dict[str, str]:
    """{PyTorch's name: ours} of every array."""
    found: dict[str, str] = {}
    for block, module, kind in blocks(spec, networks):
        found[f"{module}.0.weight" if kind == "norm" else f"{module}.weight"] = f"parameters/{block}/weight"
        if kind == "bias":
            found[f"{module}.bias"] = f"parameters/{block}/bias"
        else:
            found |= {f"{module}.1.{theirs}": ours.format(block) for theirs, ours in NORM.items()}
    return found


def _units(spec: NetworkSpec, channels: int) -> np.ndarray:
    """For each unit in PyTorch's order the place of the same unit in ours."""
    places = np.arange(spec.grid**2 * channels).reshape(spec.grid, spec.grid, channels)
    return places.transpose(2, 0, 1).reshape(-1)


def _order(spec: NetworkSpec, name: str) -> np.ndarray | None:
    """The order of the axis that lists an image's units in the array called ``name`` by us; None where there is none."""
    if name in ("parameters/encoder/fc/weight", "parameters/discriminator/fc/weight"):
        last = spec.encoder[-1] if "encoder" in name else spec.discriminator[-1]
        order = _units(spec, last)
        return np.concatenate([order, len(order) + np.arange(spec.attributes)])
    return _units(spec, spec.decoder[0]) if "/decoder/fc/" in name else None


def to_torch(array: np.ndarray, name: str, spec: NetworkSpec) -> np.ndarray:
    """The array called ``name`` by us in PyTorch's layout."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    order = _order(spec, name)
    if order is not None:
        array = array[..., order] if "/decoder/" in name else array[order]
    return np.ascontiguousarray(array.T)


def from_torch(array: np.ndarray, name: str, spec: NetworkSpec) -> np.ndarray:
    """The inverse of `to_torch`."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    array, order = array.T, _order(spec, name)
    if order is not None:
        back = np.argsort(order)
        array = array[..., back] if "/decoder/" in name else array[back]
    return np.ascontiguousarray(array)


def state_dict(state: Mapping[str, np.ndarray], spec: NetworkSpec, networks: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays that a model is used with (`Model.arrays`) as PyTorch's state_dict, in NumPy arrays."""
    found: dict[str, np.ndarray] = {}
    for theirs, ours in names(spec, networks).items():
        found[theirs] = to_torch(np.asarray(state[ours]), ours, spec)
        if theirs.endswith("running_var"):
            found[theirs.replace("running_var", BATCHES)] = np.zeros((), np.int64)
    return found


def description(model: Model) -> dict[str, Any]:
    """What is needed to build the networks elsewhere ("sizes"), and to read them back here."""
    spec, header = model.spec, model.header
    sizes = {
        "networks": list(SYSTEMS[model.system].networks), "image_size": spec.image_size, "channels": spec.channels, "latent": spec.latent,
        "grid": spec.grid, "encoder": list(spec.encoder), "encoder_units": spec.encoder_units, "decoder": list(spec.decoder),
        "discriminator": list(spec.discriminator), "discriminator_units": spec.discriminator_units, "metric": spec.metric,
        "attributes": list(model.attribute_names),
    }  # fmt: skip
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": __version__, "sizes": sizes,
        "pixels": "float in [-1, 1]: x / 127.5 - 1", "step": header.step, "data_name": header.data_name,
        "data_fingerprint": header.data_fingerprint, "attribute_names": list(header.attribute_names), "seconds": header.seconds,
        "weights": model.weights, "config": header.config.to_dict(), "examples": model._examples.tolist() if model.attribute_names else [],
    }  # fmt: skip


def arrays_of(tensors: Mapping[str, np.ndarray], spec: NetworkSpec, networks: tuple[str, ...], source: str) -> dict[str, np.ndarray]:
    """Our arrays, float32, of a state_dict in NumPy arrays: the inverse of `state_dict`.

    Raises:
        UserError: a tensor that is missing, unknown, of another shape or type, or not finite; ``source`` is the name that errors give.
    """
    import kernels
    from models.vaegan import VAEGAN  # for the shapes alone

    like = state_dict(VAEGAN(kernels.engine("cpu", "float32", implementation="numpy"), spec, seed=0).state_arrays(), spec, networks)
    missing, unknown = sorted(set(like) - set(tensors)), sorted(set(tensors) - set(like))
    missing = [name for name in missing if not name.endswith(BATCHES)]
    if missing or unknown:
        what = f"the tensor {missing[0]} is missing" if missing else f"unknown tensor {unknown[0]}"
        raise UserError(f"{source}: {what}; the file is not of this network (see docs/export.md for the names)")
    found: dict[str, np.ndarray] = {}
    for theirs, ours in names(spec, networks).items():
        array = np.asarray(tensors[theirs])
        if array.shape != like[theirs].shape:
            raise UserError(f"{source}: {theirs} has shape {array.shape}, expected {like[theirs].shape}; the file is of another network")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(f"{source}: {theirs} is not an array of finite floating-point numbers")
        if theirs.endswith("running_var") and (array < 0).any():
            raise UserError(f"{source}: {theirs} has negative values, and is no variance")
        found[ours] = from_torch(array.astype(np.float32), ours, spec)
    return found
