"""What the page asks for, and the checks of it. Bodies of numbers are float32, lowest byte first; images are uint8 RGB.

| route | asked with | answer |
| --- | --- | --- |
| GET models | | JSON: what `Shown.about` says of each run |
| GET training?run | | JSON: `Training.about`, and the version of the checkpoint that was read last |
| GET grid?run, kind, step | | PNG |
| GET map?run | | JSON: `Shown.map` |
| GET point?run, index | | image [S, S, 3], then mu [L], then its attributes [A] |
| POST decode?run | z with its attributes, [N, L + A] | images [N, S, S, 3] |
| POST preview | a file | PNG, to choose a square in |
| POST encode?run, left, top, side | a file | image [S, S, 3], then mu [L], then the mean attributes [A] |
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vaegan_kernels.data.images import READ_ERRORS, read_crop, read_preview
from vaegan_kernels.data.kinds import unreadable
from vaegan_kernels.explorer.shown import Shown
from vaegan_kernels.explorer.worker import PATIENCE, Busy, Worker

MOST = 64  # images decoded at once
FARTHEST = 1e3  # of a number of z: a z of N(0, I) has none beyond 6
PREVIEW = 640  # pixels of the longer side
LARGEST = {"JPEG": 90_000_000, "MPO": 90_000_000}  # pixels of a photo, which is decoded reduced; of other formats:
LARGEST_OTHER = 40_000_000  # some take 30 bytes a pixel on the way
SCANS = 100  # of a progressive JPEG: each goes over the whole picture; usual are ten


class Refused(Exception):
    """A request that is not answered, with its HTTP status, and headers if any."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


@dataclass(frozen=True)
class Answer:
    """A body and its media type."""

    kind: str
    body: bytes


class Routes:
    """Answers of ``runs``, computed by ``worker``."""

    def __init__(self, runs: Sequence[Shown], worker: Worker) -> None:
        self.runs, self.worker = runs, worker
        self._decoding = threading.Semaphore()  # one picture at a time: it may take a gigabyte
        self._routes: dict[tuple[str, str], tuple[Callable[..., Answer], dict[str, type]]] = {
            ("GET", "models"): (self.models, {}),
            ("GET", "training"): (self.training, {"run": int}),
            ("GET", "grid"): (self.grid, {"run": int, "kind": str, "step": int}),
            ("GET", "map"): (self.map, {"run": int}),
            ("GET", "point"): (self.point, {"run": int, "index": int}),
            ("POST", "decode"): (self.decode, {"run": int}),
            ("POST", "preview"): (self.preview, {}),
            ("POST", "encode"): (self.encode, {"run": int, "left": float, "top": float, "side": float}),
        }

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request. Raises `Refused`, `worker.Busy`, ValueError or `UserError`, whose text is for the page."""
        if (method, path) not in self._routes:
            raise Refused(404, "there is nothing of this name")
        function, expected = self._routes[method, path]
        if query.keys() != expected.keys():
            raise Refused(400, f"expected {', '.join(expected) or 'no query'}, got {', '.join(query)[:80] or 'none'}")
        values: dict[str, Any] = {name: _number(name, query[name], kind) for name, kind in expected.items()}
        if "run" in values:
            values["run"] = self._run(values["run"])
        return function(**values, **({"body": body} if method == "POST" else {}))

    def _run(self, index: int) -> Shown:
        if not 0 <= index < len(self.runs):
            raise Refused(404, f"run: got {index}, there are {len(self.runs)}")
        return self.runs[index]

    def models(self) -> Answer:
        return _json([self.worker.call(run.about) for run in self.runs])

    def training(self, run: Shown) -> Answer:
        if run.training is None:
            raise Refused(404, "this is a checkpoint alone, with no folder of its training")
        self.worker.call(run.follow)
        return _json(run.training.about() | {"version": run.version, "problem": run.problem})

    def grid(self, run: Shown, kind: str, step: int) -> Answer:
        picture = run.training.grid(kind, step) if run.training is not None else None
        if picture is None:
            raise Refused(404, "there is no such grid")
        return Answer("image/png", picture)

    def map(self, run: Shown) -> Answer:
        return _json(run.map())

    def point(self, run: Shown, index: int) -> Answer:
        return _encoded(*run.point(index))

    def decode(self, run: Shown, body: bytes) -> Answer:
        model = run.known()
        width = model.latent + len(model.attribute_names)
        if not body or len(body) % (4 * width) or len(body) > MOST * 4 * width:
            raise Refused(400, f"{len(body)} bytes, expected 1 to {MOST} rows of {width} float32 numbers")
        rows = np.frombuffer(body, "<f4").reshape(-1, width).astype(np.float32)
        if not np.abs(rows).max() <= FARTHEST:  # NaN fails too
            raise Refused(400, f"numbers must lie between {-FARTHEST:g} and {FARTHEST:g}")
        return Answer("application/octet-stream", self.worker.call(lambda: run.decode(rows)).tobytes())

    def preview(self, body: bytes) -> Answer:
        buffer = io.BytesIO()
        self._readable(body, lambda stream, check: read_preview(stream, PREVIEW, check)).save(buffer, "PNG")
        return Answer("image/png", buffer.getvalue())

    def encode(self, run: Shown, left: float, top: float, side: float, body: bytes) -> Answer:
        if not 0 < side <= 1:
            raise Refused(400, f"side: got {side:g}, expected more than 0, at most 1")
        size, _, channels = run.known().image_shape
        image = self._readable(body, lambda stream, check: read_crop(stream, (left, top, side), size, channels, check))
        return _encoded(*self.worker.call(lambda: run.encode(image)))

    def _readable(self, body: bytes, read: Callable[[Any, Any], Any]) -> Any:
        """``read(stream, check)`` of an uploaded picture. Raises `Refused` for what cannot be read, `Busy` while others are."""
        if body.count(b"\xff\xda") > SCANS and body.startswith(b"\xff\xd8"):
            raise Refused(415, f"not a readable image (a JPEG of more than {SCANS} scans)")
        if not self._decoding.acquire(timeout=PATIENCE):
            raise Busy("other pictures are being read; try again in a moment")
        try:
            return read(io.BytesIO(body), _small_enough)
        except UnidentifiedImageError:
            raise Refused(415, f"not a readable image: {unreadable(body[:32])}") from None
        except READ_ERRORS as error:
            raise Refused(415, f"not a readable image ({' '.join(str(error).split())[:120] or type(error).__name__})") from None
        finally:
            self._decoding.release()


def _number(name: str, text: str, kind: type) -> Any:
    """A number or a word of the query. Raises `Refused`."""
    try:
        form = {int: r"[0-9]{1,15}", float: r"-?[0-9]{1,9}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?", str: r".{1,40}"}[kind]
        if not re.fullmatch(form, text, re.ASCII):
            raise ValueError
        value = kind(text)
        if kind is float and not abs(value) <= 1e6:
            raise ValueError
        return value
    except ValueError:
        raise Refused(400, f"{name}: got {text[:40]!r}, expected a number") from None


def _json(value: Any) -> Answer:
    return Answer("application/json", json.dumps(value, allow_nan=False).encode())


def _encoded(image: np.ndarray, mu: np.ndarray, attributes: np.ndarray) -> Answer:
    return Answer("application/octet-stream", image.tobytes() + np.concatenate([mu, attributes]).astype("<f4").tobytes())


def _small_enough(image: Image.Image) -> None:
    most = LARGEST.get(image.format or "", LARGEST_OTHER)
    if image.width * image.height > most:
        raise ValueError(f"{image.width} x {image.height} pixels, at most {most // 1_000_000} million are taken")
