"""The data of an experiment, and its results: JSON with everything that is needed to know where the numbers come from."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.experiments.common import config_of, train_flags
from vaegan_kernels.measures.regressor import RegressorModel
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.shell.cli import place_of, whole_number
from vaegan_kernels.shell.errors import UserError


def load_data(arguments: argparse.Namespace) -> Dataset:
    """The `Dataset` that the experiment's runs are trained on."""
    from vaegan_kernels import data
    from vaegan_kernels.shell.progress import Counter

    config = config_of(train_flags(arguments))
    spec = config.network_spec()
    return data.load_dataset(
        config.data, image_size=spec.image_size, channels=spec.channels, seed=config.data_seed, limit=config.limit, fit=config.fit,
        progress=Counter("reading images" if config.data else "drawing faces", quiet=arguments.quiet),
    )  # fmt: skip


def open_model(arguments: argparse.Namespace, folder: Path) -> Model:
    """The trained model of a run, on the experiment's device."""
    from vaegan_kernels import load_model

    return load_model(folder, **place_of(arguments))


def about(arguments: argparse.Namespace, dataset: Dataset, runs: Sequence[Path]) -> dict[str, Any]:
    """Where results come from: the command, versions, data, and of each run the steps, seconds, batch size, network and device.

    Raises `UserError` if a run was trained on other images than those of ``dataset``.
    """
    for folder in runs:
        header = checkpoint.read_header(RunFolder(folder).checkpoint)
        if header.data_fingerprint != dataset.fingerprint:
            raise UserError(f"--data: the images are not those that {folder} was trained on ({header.data_name}); give those")
    return {
        "command": arguments.command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": checkpoint.versions(),
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            **{name: len(dataset.split(name)) for name in ("train", "validation", "test")},
        },
        "runs": {folder.name: about_run(folder) for folder in runs},
    }


def about_run(folder: Path) -> dict[str, Any]:
    """The facts of one finished run, from its own files."""
    run = RunFolder(folder)
    config, summary = read_json(run.config), read_json(run.summary)
    device = read_json(run.device) if run.device.is_file() else {}
    return {
        "steps": summary["step"],
        "seconds": summary["seconds"],
        "images_per_second": summary["images_per_second"],
        **{name: config.get(name) for name in ("network", "preset", "batch_size", "seed", "precision", "threads")},
        "device": device.get("device", config.get("device")),
    }


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `UserError` if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: not a JSON file, or damaged; delete it and run the same command again") from None


def add_regressor(parser: argparse.ArgumentParser) -> None:
    """Add --regressor and --regressor-steps."""
    parser.add_argument("--regressor", metavar="FILE", help="a trained regressor (default: OUT/regressor.h5, trained if it is not there)")
    parser.add_argument(
        "--regressor-steps", type=whole_number, default=2000, metavar="N", help="training steps of the regressor (default: 2000)"
    )


def regressor_of(arguments: argparse.Namespace, dataset: Dataset) -> RegressorModel:
    """The regressor that samples are judged by: --regressor, or OUT/regressor.h5, trained now if need be."""
    from vaegan_kernels.measures.regressor import BATCH, load_regressor, train_regressor

    config = config_of(train_flags(arguments))
    place = place_of(arguments) | {name: getattr(config, name) for name in ("device", "engine", "threads")}
    if arguments.regressor is not None:
        return load_regressor(arguments.regressor, **place)
    path = Path(arguments.out) / "regressor.h5"
    train_regressor(
        dataset, network=config.network, steps=arguments.regressor_steps, batch_size=min(BATCH, len(dataset.split("train"))),
        out=path, quiet=arguments.quiet, **place,
    )  # fmt: skip
    return load_regressor(path, **place)
