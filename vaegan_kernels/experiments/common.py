"""What every experiment shares: its flags, its folder, and the training runs that it needs.

An experiment's folder OUT holds ``runs/<system>[-conditional]-seed<k>/`` (run folders of the trainer, shared by all experiments that are
given the same OUT), ``regressor.h5``, and for each experiment ``<name>.json`` and its pictures. Training is the trainer's: a stopped
experiment resumes when the same command is run again, and finished runs are not trained twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels import train
from vaegan_kernels.files import check_writable, nearest_existing
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.checks import check_data, configuration, with_attributes
from vaegan_kernels.settings.config import CHANGEABLE, FIELDS, Config
from vaegan_kernels.settings.fields import flag
from vaegan_kernels.settings.options import make_parser
from vaegan_kernels.settings.resolve import read_config
from vaegan_kernels.shell.cli import Parser, add_place, whole_number
from vaegan_kernels.shell.errors import UserError

NAMES = {"vae": "VAE", "vae-dis": "VAE Dis_l", "vaegan": "VAE/GAN", "gan": "GAN"}  # as the paper calls and lists the systems
ORDER = tuple(NAMES)
PASSED_ON = ("data", "network", "preset", "steps", "batch_size", "limit", "threads", "device", "engine")
OWN = ("--out", "--resume", "--config", "--model", "--seed", "--conditional", "--gan", "--stop-after", "--dry-run", "--quiet")


def add_common(parser: argparse.ArgumentParser, *, steps: int = 2000, seed: bool = True) -> None:
    """Add the flags that every experiment has. ``steps`` is the default of --steps; ``seed=False`` leaves --seed out."""
    group = parser.add_argument_group("Runs", "more flags of train after --, for instance: -- --preset paper --no-flip")
    group.add_argument("--data", metavar="PATH", help="as train's: CelebA, LFW, any folder of images, packed .h5 (default: drawn faces)")
    group.add_argument("--out", metavar="FOLDER", required=True, help="the experiment's folder; runs in FOLDER/runs are used again")
    group.add_argument("--network", metavar="NAME", help="network family, as for train (default: small32)")
    group.add_argument("--preset", metavar="NAME", help="objective and optimiser, as for train (default: quick)")
    group.add_argument("--steps", type=whole_number, default=steps, metavar="N", help=f"training steps of a run (default: {steps})")
    group.add_argument("--batch-size", type=whole_number, metavar="N", help="images in a step (default: the preset's)")
    group.add_argument("--limit", type=whole_number, metavar="N", help="use at most N images")
    if seed:
        group.add_argument("--seed", type=whole_number, default=0, metavar="N", help="seed of the runs and of the figure (default: 0)")
    add_place(group, None, said="auto")
    group.add_argument("--quiet", action="store_true", help="print only results and errors")
    parser.set_defaults(train_flags=[])


def parse(parser: Parser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check an experiment's command line; what follows ``--`` is for train (``-- --preset paper --no-gate``)."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    arguments = parser.parse_args(own)
    arguments.train_flags = rest
    check_common(arguments)
    arguments.command = " ".join([parser.prog, *words])
    return arguments


def check_common(arguments: argparse.Namespace) -> Config:
    """The configuration that the flags ask for. Raises `UserError` before anything is written or trained; makes the folder OUT."""
    for word in arguments.train_flags:
        if word.split("=")[0] in OWN:
            raise UserError(f"{word.split('=')[0]} after --: the experiment itself sets it; leave it out")
    config = config_of(train_flags(arguments))
    out = Path(arguments.out)
    existing = nearest_existing(out)
    if not existing.is_dir():
        raise UserError(f"--out: {existing} is a file, expected a folder")
    check_writable(existing, probe=True, flag="--out", wanted=out)
    check_data(config, config.network_spec())
    out.mkdir(parents=True, exist_ok=True)
    return config


def train_flags(arguments: argparse.Namespace) -> list[str]:
    """The experiment's flags as flags of train."""
    given = {name: getattr(arguments, name) for name in PASSED_ON}
    return [*as_flags({name: value for name, value in given.items() if value is not None}), *arguments.train_flags]


def as_flags(settings: dict[str, Any]) -> list[str]:
    """``{"batch_size": 4, "gate": False}`` as ``["--batch-size", "4", "--no-gate"]``; None values are left out."""
    words: list[str] = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else flag("no_" + name))
        elif value is not None:
            words += [flag(name), str(value)]
    return words


def config_of(flags: Sequence[str]) -> Config:
    """The configuration of ``train`` with these flags. Raises `UserError` (or exits with one line) for a bad one."""
    parsed = vars(make_parser().parse_args(list(flags)))
    return with_attributes(configuration(parsed))


def run_name(system: str, *, conditional: bool = False, seed: int = 0) -> str:
    """``vaegan-seed0``, ``gan-conditional-seed2``."""
    return f"{system}{'-conditional' if conditional else ''}-seed{seed}"


def run_folder(out: str | Path, system: str, *, conditional: bool = False, seed: int = 0) -> Path:
    """Where the run of a system lies in the experiment's folder."""
    return Path(out) / "runs" / run_name(system, conditional=conditional, seed=seed)


def run_of(arguments: argparse.Namespace, system: str, *, conditional: bool = False, seed: int | None = None, **settings: Any) -> Path:
    """The finished run of a system with the experiment's flags, trained now if need be: `ensure_run` in OUT/runs.

    The "vae-dis" of a seed uses the Dis of the "gan" of that seed, which is trained first.
    """
    seed = arguments.seed if seed is None else seed
    if system == "vae-dis" and settings.get("gan") is None:
        settings["gan"] = run_of(arguments, "gan", conditional=conditional, seed=seed)
    folder = run_folder(arguments.out, system, conditional=conditional, seed=seed)
    flags = train_flags(arguments)
    return ensure_run(folder, system=system, conditional=conditional, seed=seed, flags=flags, quiet=arguments.quiet, **settings)


def ensure_run(
    folder: str | Path, *, system: str = "vaegan", conditional: bool = False, seed: int = 0,
    flags: Sequence[str] = (), quiet: bool = False, **settings: Any,
) -> Path:  # fmt: skip
    """Train ``folder`` to its end in this process; resume it if it was interrupted, return at once if it is finished.

    Args:
        flags: words for train's command line.
        settings: more of them by name: ``steps=2000, gate=False, gan=path``.

    Raises `UserError` if the folder holds a run with other settings, and SystemExit with the trainer's exit code if a signal stopped it.
    """
    return train_here(Path(folder), run_flags(system, conditional, seed, flags, settings), quiet=quiet)


def train_here(folder: Path, words: Sequence[str], *, quiet: bool = False) -> Path:
    """`ensure_run` with train's own words."""
    state = run_state(folder, words)
    if state == "finished":
        return folder
    if not quiet:
        print(f"--- {folder.name}", flush=True)
    code = train.main([*run_arguments(folder, words, state), *(["--quiet"] if quiet else [])])
    if code:
        print("run the same command again to resume", flush=True)
        raise SystemExit(code)
    return folder


def run_flags(system: str, conditional: bool, seed: int, flags: Sequence[str], settings: dict[str, Any]) -> list[str]:
    """Train's command line for one run, without --out."""
    words = ["--model", system, *flags, *as_flags(settings), "--seed", str(seed)]
    return [*words, "--conditional"] if conditional else words


def run_arguments(folder: Path, words: Sequence[str], state: str) -> list[str]:
    """Train's command line to begin a run or to resume it. Of a resumed run only data, device, engine and threads are given again."""
    if state == "new":
        return [*words, "--out", str(folder)]
    config = config_of(words)
    given = {name: getattr(config, name) for name in ("data", "device", "engine", "threads")}
    return ["--resume", str(folder), *as_flags(given)]


def run_state(folder: Path, words: Sequence[str]) -> str:
    """``new``, ``interrupted`` or ``finished``. Raises `UserError` if ``folder`` holds a run with other settings than ``words``."""
    run = RunFolder(folder)
    if not run.config.is_file():
        return "new"
    stored = read_config(run.config)
    for name, own, value in differences(config_of(words), stored):
        raise UserError(f"{folder}: the run there has {flag(name)} {own}, asked for is {value}; give the same settings, or another --out")
    return "finished" if finished(folder) else "interrupted"


def differences(wanted: Config, stored: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(field, stored, wanted) wherever a run's config.json is not the run that ``wanted`` would be.

    Left out: where it runs and what it reports, and what the trainer itself fills in. Of the data and of a --gan only the last part of
    the path counts, so that OUT can move to another machine; that the images are the same is checked by `results.about` and on resuming.
    """
    found = []
    for name, value in wanted.to_dict().items():
        own = stored.get(name, FIELDS[name].default)
        if name == "encoder_units":
            value = wanted.network_spec().encoder_units
        if name in ("data", "gan") and value and own:
            same = Path(value).name == Path(own).name
        elif name == "data":
            same = value == own
        else:
            same = name in CHANGEABLE or value is None or (name, value) == ("precision", "auto") or value == own
        if not same:
            found.append((name, own, value))
    return found


def finished(folder: str | Path) -> bool:
    """True if the run in ``folder`` was trained to its last step and evaluated."""
    run = RunFolder(folder)
    try:
        summary, config = (json.loads(file.read_text(encoding="utf-8")) for file in (run.summary, run.config))
    except (OSError, ValueError):
        return False
    return run.checkpoint.is_file() and summary.get("step") == config.get("steps") is not None
