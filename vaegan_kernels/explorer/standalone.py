"""The explorer's page without a server: one HTML file with the networks in it, and onnxruntime-web (`onnxruntime_web/`) to compute them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

from models.system import SYSTEMS
from vaegan_kernels.explorer import about
from vaegan_kernels.explorer.page import join
from vaegan_kernels.files import human_size, quoted
from vaegan_kernels.portable import layout
from vaegan_kernels.portable.onnx_graphs import onnx_bytes
from vaegan_kernels.shell.errors import UserError

RUNTIME = Path(__file__).with_name("onnxruntime_web")
LARGEST = 64 << 20  # bytes of a page: beyond, browsers are slow to open it
NOTE = "<!-- onnxruntime-web, (c) Microsoft Corporation, is in this file under the MIT licence: the button at the foot saves it -->"


def _element(name: str, text: str, kind: str = "application/octet-stream;base64") -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _packed(data: bytes) -> str:
    """``data`` as the page unpacks it. What is packed already stays so."""
    return base64.b64encode(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 9, mtime=0)).decode()


def standalone(path: str | Path, weights: str | None) -> bytes:
    """The HTML file for a run or a checkpoint. Raises `UserError`, also for a model that makes it larger than `LARGEST`."""
    model, vectors = about.load(path, weights, engine="numpy")  # nothing is computed
    networks = tuple(name for name in ("decoder", "encoder") if name in SYSTEMS[model.system].networks)
    tensors = layout.state_dict(model.arrays(), model.spec, networks)
    known = {"name": about.names_of([path])[0], "version": 1, "training": False, "problem": ""} | about.describe(model, vectors)
    licences = "\n\n".join((RUNTIME / name).read_text(encoding="utf-8") for name in ("LICENSE", "ThirdPartyNotices.txt"))
    parts = [
        NOTE,
        _element("models", json.dumps([known], allow_nan=False).replace("<", "\\u003c"), "application/json"),
        _element("runtime", _packed((RUNTIME / "ort.wasm.bundle.min.mjs").read_bytes())),
        _element("wasm", _packed((RUNTIME / "ort-wasm-simd-threaded.wasm.gz").read_bytes())),
        _element("licences", _packed(licences.encode())),
    ]
    size = len(join("onnx", "\n".join(parts))) + sum(array.nbytes for array in tensors.values()) * 4 // 3  # gzip saves little of weights
    if size > LARGEST:
        raise UserError(
            f"--page: with this model the page would have about {human_size(size)}, at most {human_size(LARGEST)} are written; "
            f"look at it with: vaegan explore {quoted(path)}, or take --format onnx"
        )
    described = layout.description(model)
    parts += [_element(name, _packed(onnx_bytes(name, tensors, model.spec, described))) for name in networks]
    return join("onnx", "\n".join(parts)).encode()
