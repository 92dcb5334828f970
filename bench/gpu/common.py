"""What the sections of `bench.gpu` share: their options, the engine under test, and a report that is on disk after every row."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: In the order of their value: an interrupted run must have done the first ones.
SECTIONS = ("compile", "kernels", "step", "bits", "tma", "peaks", "time", "peers", "train", "cudnn", "sanitizer")


@dataclass(frozen=True)
class Options:
    """What a section is told, from the command line of `bench.gpu`.

    Attributes:
        device: "gpu", or "host": emulated, with tiny shapes (a test of this script and of the kernels' results, not of speed).
        sections: those of the whole run; ``compile`` prepares what they launch.
        precisions: to be checked.
        quick: fewer steps, shapes and rounds.
        data: images for ``train`` (a folder or packed file), or None: the built-in faces.
        out: folder of the results.
        budget: seconds that this section may take; it plans with that, and is killed a little later.
        seed: of the inputs; by default another one each day.
    """

    device: str = "gpu"
    sections: tuple[str, ...] = SECTIONS
    precisions: tuple[str, ...] = ("bf16", "tf32", "float32")
    quick: bool = False
    data: str | None = None
    out: str = "."
    budget: float = 60.0
    seed: int = 0

    @property
    def host(self) -> bool:
        return self.device == "host"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        values = json.loads(text)
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


class Skip(Exception):
    """A section, or a part of it, that cannot be done here; the message says why."""


class Report:
    """The result of one section: rows, and notes. Written whole after every change, so that what a killed section had found is kept."""

    def __init__(self, section: str, options: Options):
        self.path = Path(options.out) / f"{section}.json"
        self.result: dict[str, Any] = {
            "section": section,
            "status": "running",
            "why": "",
            "seconds": 0.0,
            "about": {},
            "failed": 0,
            "rows": [],
        }
        self.started = time.perf_counter()
        self.budget = options.budget
        self.write()

    def write(self) -> None:
        self.result["seconds"] = round(time.perf_counter() - self.started, 2)
        write_json(self.path, self.result)

    def row(self, text: str, *, ok: bool = True, **values: Any) -> None:
        """Add a row, print it, and remember whether it failed."""
        self.result["rows"].append({"ok": ok, **values})
        self.result["failed"] += not ok
        print(("" if ok else "FAILED  ") + text, flush=True)
        self.write()

    def note(self, **values: Any) -> None:
        """Set entries of the result itself."""
        self.result |= values
        self.write()

    @property
    def left(self) -> float:
        """Seconds of this section's budget that are left."""
        return self.budget - (time.perf_counter() - self.started)

    def end(self, status: str, why: str = "") -> None:
        self.note(status=status, why=why)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically: a reader, or a kill, never sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(part, path)


def open_engine(options: Options, precision: str) -> Any:
    """The engine under test."""
    if options.host:
        from kernels.cuda.engine import emulated_engine

        return emulated_engine(precision)
    import kernels

    return kernels.engine("cuda", precision)


def reference_engine() -> Any:
    """The NumPy engine in float64."""
    import kernels

    return kernels.engine("cpu", "float64")


def device_precisions(options: Options, engine: Any) -> tuple[str, ...]:
    """Those asked for that the chip has."""
    return tuple(p for p in options.precisions if p == "float32" or engine.device.chip.bf16)


def spec_of(name: str) -> Any:
    """A network by name; "tiny" and "little" have the same kinds of layer and are small enough for the emulation, and for a sanitizer.

    Changes follow after colons: ``paper64:96px`` for images of 96 pixels, ``paper64:x0.5`` with half of the channels and units.
    """
    from models.networks import NetworkSpec, network

    name, *changes = name.split(":")
    if changes:
        spec = spec_of(name)
        for change in changes:
            spec = wider(spec, float(change[1:])) if change.startswith("x") else replace(spec, image_size=int(change.removesuffix("px")))
        return replace(spec, name=":".join([name, *changes]))
    if name == "tiny":
        return NetworkSpec("tiny", 8, 3, 8, (16, 16, 16), 16, (16, 16, 16, 16), (16, 16, 16, 16), 16, metric=3)
    if name == "little":
        return NetworkSpec("little", 16, 3, 16, (16, 32, 32), 48, (32, 32, 16, 16), (16, 32, 32, 32), 48, metric=3)
    return network(name)


def wider(spec: Any, factor: float) -> Any:
    """All channels and units times ``factor``, in steps of 8; images, latents and Dis_l's position stay."""

    def scaled(value: Any) -> Any:
        return tuple(map(scaled, value)) if isinstance(value, tuple) else max(8, 8 * round(value * factor / 8))

    return replace(
        spec, **{k: scaled(getattr(spec, k)) for k in ("encoder", "encoder_units", "decoder", "discriminator", "discriminator_units")}
    )


def versions() -> dict[str, Any]:
    """Software that a result depends on."""
    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    names = ("numpy", "triton", "ml_dtypes", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "torch")
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def about(engine: Any = None) -> dict[str, Any]:
    """Device, driver, versions, date and command."""
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "cores": os.cpu_count(), "versions": versions()}
    result["command"] = " ".join(sys.orig_argv)
    if engine is None:
        return result
    result |= engine.describe()
    result["emulated"] = engine.device.name != "gpu"
    if engine.device.name == "gpu":
        import cupy

        runtime = cupy.cuda.runtime
        free, total = runtime.memGetInfo()
        result |= {"cuda_driver": runtime.driverGetVersion(), "cuda_runtime": runtime.runtimeGetVersion()}
        result |= {"memory_free": free, "memory_total": total}
    return result
