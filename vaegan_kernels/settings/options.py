"""The command line of `train`, made from the fields of `Config`, and the device that its flags ask for."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from kernels import Engine
from models.presets import PRESETS
from vaegan_kernels.settings.config import FIELDS, Config
from vaegan_kernels.settings.fields import field_type, flag
from vaegan_kernels.shell.cli import Parser, real_number, whole_number
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.progress import Counter

GROUPS = ("Data", "Augmentation", "Run folder", "Network", "System", "Objective", "Optimisation", "Logging", "Device")

DESCRIPTION = """Train the VAE/GAN of Larsen et al. (2016): an encoder, a decoder and a discriminator whose features are the metric;
or, with --model, one of the systems that the paper compares it with.
With no argument it draws its own data set of faces, trains a small network for a few minutes and writes pictures to runs/."""

EPILOG = """examples:
  python -m vaegan_kernels.train                                           a first run, with drawn faces
  python -m vaegan_kernels.train --data ~/photos --steps 3000              your own pictures (any folder of images)
  python -m vaegan_kernels.train --data celeba/ --network paper64 --preset paper --dry-run
                                                                           what a paper run would take; trains nothing
  python -m vaegan_kernels.train --model vae-dis --data faces.h5           one of the paper's other systems; its GAN is trained first
  python -m vaegan_kernels.train --data celeba/ --conditional --attributes Smiling,Male
                                                                           with attributes that can be chosen when sampling
  python -m vaegan_kernels.train --resume runs/small32-quick-faces-001     resume a run that was stopped"""


def make_parser() -> Parser:
    """The parser of ``python -m vaegan_kernels.train``: one flag a field of `Config`, and those of the run folder."""
    usage = "%(prog)s [--data PATH] [--out FOLDER] [--resume [FOLDER]] [more options, all below]"
    parser = Parser(prog="python -m vaegan_kernels.train", several=True, usage=usage, description=DESCRIPTION, epilog=EPILOG)
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for field in FIELDS.values():
        add_option(groups[field.metadata["group"]], field)

    groups["Network"].add_argument(
        "--image-size", type=whole_number, metavar="{32,64,128}",
        help="the network of the same family for images of that size (default: --network's; a packed file's own)",
    )  # fmt: skip
    folder = groups["Run folder"]
    folder.add_argument(
        "--out",
        metavar="FOLDER",
        help="where the run goes (default: runs/<network>-<preset>-<data>-NNN, a new one; the system's name in it if it is no vaegan)",
    )
    folder.add_argument(
        "--resume", nargs="?", const=True, metavar="FOLDER", help="resume the run in FOLDER (or in --out), with its own settings"
    )
    folder.add_argument("--config", metavar="FILE", help="take the settings of an earlier run's config.json; flags override them")
    optimisation = groups["Optimisation"]
    optimisation.add_argument(
        "--stop-after", type=whole_number, metavar="N", help="end after step N, saved; schedules still follow --steps, --resume continues"
    )
    logging = groups["Logging"]
    logging.add_argument("--quiet", action="store_true", help="print only the result and errors")
    logging.add_argument(
        "--dry-run", action="store_true", help="print settings, parameter counts, memory and time; train and write nothing"
    )
    return parser


def add_option(group: Any, field: dataclasses.Field[Any]) -> None:
    """Add the flag of one `Config` field; flags that are not given leave no attribute, so that explicit ones can be told."""
    kind, rules = field_type(field), field.metadata
    text = rules["help"] + describe_default(field)
    name = flag(field.name)
    if kind is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        return
    metavar = rules.get("metavar", "N" if kind is int else "X")
    if "choices" in rules:
        metavar = "{" + ",".join(map(str, rules["choices"])) + "}"
    convert = {int: whole_number, float: real_number, str: str}[kind]
    group.add_argument(name, type=convert, metavar=metavar, default=argparse.SUPPRESS, help=text)


def describe_default(field: dataclasses.Field[Any]) -> str:
    """``" (default: 64)"``, or the value of each preset where they differ from it."""
    if "(default" in field.metadata["help"]:
        return ""

    def show(value: Any) -> str:
        if value is None:
            return "none"
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value:.3g}" if isinstance(value, float) else str(value)

    by_preset = {name: show(values.get(field.name, field.default)) for name, values in PRESETS.items()}
    if len(set(by_preset.values())) > 1:
        return " (" + ", ".join(f"{name}: {value}" for name, value in by_preset.items()) + ")"
    shown = next(iter(by_preset.values()), show(field.default))
    return "" if shown == "none" else f" (default: {shown})"


def open_engine(config: Config, say: Callable[[str], None] | None = None, *, on_cpu: str = "auto") -> tuple[Engine, str]:
    """The engine that ``--device``, ``--precision``, ``--engine`` and ``--threads`` ask for, and a line that says which and why.

    An explicit device or engine that cannot be used is a `UserError`: only ``auto`` chooses. ``say`` is called with a line where the
    CPU's kernels must be compiled first. ``on_cpu``: what ``--engine auto`` is where it comes to the CPU.
    """
    why = ""
    device = config.device
    if device == "auto" and config.precision == "float64":
        device, why = "cpu", " (no GPU has --precision float64)"
    elif device == "auto" and config.engine != "auto":
        device, why = "cpu", f" (--engine {config.engine} is the CPU's)"
    elif device == "auto":
        try:
            engine = _engine("cuda", config)
        except RuntimeError as error:
            reason = str(error).removeprefix("device cuda: ").split(";")[0]
            device, why = "cpu", f" (no CUDA: {reason})"
        else:
            return engine, describe_engine(engine, " (--device auto found a GPU)")
    if device == "cpu" and config.engine == "auto":
        config = dataclasses.replace(config, engine=on_cpu)
    try:
        engine = _engine(device, config, why, say)
    except RuntimeError as error:
        raise UserError(f"--{error}{', or use the CPU (--device cpu)' if device == 'cuda' else ''}") from None
    return engine, describe_engine(engine, why)


def describe_engine(engine: Engine, why: str = "") -> str:
    """``"device: cpu (native, AVX-512, 2 threads), float32"`` and what else there is to say."""
    about = engine.describe()
    if engine.name != "cpu":
        return f"device: {engine.name}, {about['device']}, {engine.precision}{why}" + (f"; {engine.notice}" if engine.notice else "")
    threads = f"{engine.threads} thread{'s' if engine.threads != 1 else ''}"
    kind = f"native, {about['vectors']}" if about["engine"] == "native" else "NumPy"
    where = f"cpu ({kind}: {engine.notice}), {threads}" if engine.notice else f"cpu ({kind}, {threads})"
    return f"device: {where}, {engine.precision}{why}"


def _engine(device: str, config: Config, why: str = "", say: Callable[[str], None] | None = None) -> Engine:
    import kernels

    if device == "cpu" and config.precision in ("bf16", "tf32"):
        raise UserError(f"--precision {config.precision} needs a GPU and the device is cpu{why}; use float32, float64 or auto")
    if device == "cuda" and config.engine != "auto":
        raise UserError(f"--engine {config.engine} is the CPU's and the device is cuda; use --engine auto, or --device cpu")
    if config.engine == "native" and config.precision == "float64":
        raise UserError("--engine native: float64 is the NumPy engine's; use --engine numpy or auto")
    try:
        engine = kernels.engine(device, config.precision, threads=config.threads, implementation=config.engine, progress=say)
        engine.compiling = Counter("compiling kernels for this GPU, once", quiet=say is None, late=False, stream=sys.stderr)
        return engine
    except ValueError as error:
        raise UserError(f"--device {device}: {error}") from None
