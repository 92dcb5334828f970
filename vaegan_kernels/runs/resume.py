"""``--resume``: which run is resumed, and which of its settings may change. ``--config``: a run that is repeated from its folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from kernels import Engine
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.checks import normalise
from vaegan_kernels.settings.config import CHANGEABLE, FIELDS, Config
from vaegan_kernels.settings.fields import flag
from vaegan_kernels.settings.resolve import read_config
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shipped import shipped


def prepare_resume(arguments: Any) -> tuple[RunFolder, Config, checkpoint.Header | None]:
    """The folder, configuration and checkpoint header of the run to resume. Raises `UserError` for anything that does not fit."""
    if arguments.config:
        raise UserError("--config: not with --resume, a run resumes with its own settings; leave it out")
    given = arguments.resume if arguments.resume is not True else arguments.out
    if given is None:
        raise UserError("--resume: expected the folder of the run: --resume FOLDER, or --out FOLDER --resume")
    if arguments.resume is not True and arguments.out and Path(arguments.out).resolve() != Path(given).resolve():
        raise UserError(f"--resume {given} and --out {arguments.out} name different folders; give one of them")
    path = Path(given)
    folder = RunFolder(path.parent if path.name == "checkpoint.h5" else path)
    header, file = None, shipped(given) or folder.checkpoint
    if file.is_file():
        header = checkpoint.read_header(file)
        if header.weights:
            raise UserError(f"--resume: {file} has weights alone, and no state to resume with; start a new run with --init {given}")
        stored = header.config
    elif folder.config.is_file():  # killed before the first save: the run starts again, with the same bits
        stored = Config.from_dict(read_config(folder.config), str(folder.config))
    else:
        raise UserError(f"--resume: nothing to resume: no checkpoint.h5 in {folder.path}; give the folder of a run, or start a new one")
    if arguments.image_size not in (None, stored.network_spec().image_size):
        own = stored.network_spec().image_size
        wrong = f"--image-size: got {arguments.image_size}, but the run in {folder.path} has {own}"
        raise UserError(f"{wrong}; leave it out, or start a new run")
    changes = {}
    flags = normalise({name: value for name, value in vars(arguments).items() if name in FIELDS})
    for name, value in flags.items():
        if name in CHANGEABLE:
            changes[name] = value
        elif name == "precision" and stored.precision != "float64" and value != "float64":
            keeps = value == "auto" and stored.precision == "float32"  # every device has it
            changes[name] = stored.precision if keeps else value
        elif value != getattr(stored, name) and not (name == "precision" and value == "auto"):
            instead = "end earlier with --stop-after" if name in ("steps", "epochs") else "leave it out"
            own = getattr(stored, name)
            raise UserError(f"{flag(name)}: got {value}, but the run in {folder.path} has {own}; {instead}, or start a new run")
    config = dataclasses.replace(stored, **changes)
    config.validate()
    return folder, config, header


def note_other_engine(folder: RunFolder, header: checkpoint.Header, engine: Engine, processes: int) -> str:
    """What to add to the line about the device where the run in ``folder`` was made in another precision, by another engine or by another
    number of ``processes``, or "".

    Runs from before there was a native engine do not name theirs: it was NumPy's. Nothing is said of a run without a device.json.
    """
    before = _about(folder)
    changed = [f"in {header.config.precision}"] if header.config.precision != engine.precision else []
    if before and _called(before) != _called(engine.describe()):
        changed.append(f"on {_called(before)}")
    if before and (count := before.get("processes", 1)) != processes:
        changed.append(f"on {count} process{'es' if count != 1 else ''}")
    return f"; until now the run was {' '.join(changed)}: its numbers continue, not its bits" if changed else ""


def _called(about: dict[str, Any]) -> str:
    """The engine of a device.json in words: ``"cpu (native, AVX-512, g++ 12.2)"``, ``"cpu (NumPy)"``, a GPU's name."""
    if about.get("device") != "cpu":
        return str(about.get("device"))
    return f"cpu (native, {about.get('vectors')}, {about.get('compiler')})" if about.get("engine") == "native" else "cpu (NumPy)"


def _about(folder: RunFolder) -> dict[str, Any]:
    """What device.json holds; empty where it is missing or damaged, for it is a help and no condition."""
    try:
        about = json.loads(folder.device.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def repeated(path: str) -> dict[str, Any]:
    """The settings of ``--config``, with the number of threads that the run beside the file had where the bits depend on it.

    The file of a run, which has a device.json beside it, names every setting of its time: one that came later had no part in the run, and
    is as in an old checkpoint, not as the preset has it now. Raises `UserError` as `read_config`.
    """
    settings, about = read_config(path), _about(_run_of(path))
    if about:
        settings = Config(**settings).to_dict()
    threads = about.get("threads")
    if settings.get("threads") is None and isinstance(threads, int) and threads > 0 and repeated_engine(path) == "numpy":
        settings["threads"] = threads
    return settings


def repeated_engine(path: str) -> str:
    """``--engine`` of the run beside the file of ``--config``, for a run that is to have its bits: "numpy", else "auto"."""
    about = _about(_run_of(path))
    return "numpy" if about.get("device") == "cpu" and about.get("engine") != "native" else "auto"


def note_other_data(path: str, config: Config, dataset: Any) -> str:
    """A line for the user where the images are not those of the run that ``--config`` names, although the settings say the same."""
    file = _run_of(path).checkpoint
    if not file.is_file():
        return ""
    header = checkpoint.read_header(file)
    same = all(
        getattr(header.config, name) == getattr(config, name) for name in ("data", "limit", "fit", "data_seed", "network", "image_channels")
    )
    if not same or header.data_fingerprint == dataset.fingerprint:
        return ""
    return f"note: the images have changed since the run in {file.parent}; this one will not repeat it"


def _run_of(path: str) -> RunFolder:
    """The run's folder of a config.json, or of the folder that has it."""
    return RunFolder(Path(path) if Path(path).is_dir() else Path(path).parent)
