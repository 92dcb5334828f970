"""``python -m vaegan_kernels.train``: check everything, then load, train, draw, evaluate."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels import OutOfMemory
from vaegan_kernels import checkpoint
from vaegan_kernels.cli import EXIT_INTERRUPTED, EXIT_TERMINATED, describe_out_of_memory, run_main
from vaegan_kernels.config import CHANGEABLE, FIELDS, Config, flag, read_config, resolve
from vaegan_kernels.errors import UserError
from vaegan_kernels.options import make_parser, open_engine
from vaegan_kernels.run_folder import RunFolder, check_new, check_room, check_writable, fresh_folder, write_atomically

# In a checkpoint: parameters and, for each, one (RMSProp) or two (Adam) numbers of optimiser state.
STATE_ARRAYS = {"rmsprop": 2, "adam": 3}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Errors are raised for `run_main`."""
    arguments = make_parser().parse_args(argv)
    flags = {name: value for name, value in vars(arguments).items() if name in FIELDS}
    say = (lambda text: None) if arguments.quiet else (lambda text: print(text, flush=True))
    if arguments.stop_after is not None and arguments.stop_after < 1:
        raise UserError(f"--stop-after: got {arguments.stop_after}, expected a whole number of at least 1")

    header: checkpoint.Header | None = None
    if arguments.resume is not None:
        folder, config, header = prepare_resume(arguments, flags)
    else:
        if "data" in flags:
            flags["data"] = os.path.abspath(os.path.expanduser(flags["data"]))
        config = resolve(flags, read_config(arguments.config) if arguments.config else None)
    engine, device = open_engine(config)
    if header is not None and header.config.precision != engine.precision:
        device += f"; until now the run was in {header.config.precision}: its numbers go on, not its bits"
    config = dataclasses.replace(config, precision=engine.precision, encoder_units=config.network_spec().encoder_units)
    spec = config.network_spec()
    kind, count = check_data(config, spec)

    parameters = sum(spec.parameter_counts().values())
    needed = 2 * parameters * STATE_ARRAYS[config.optimizer] * engine.wide.itemsize + (32 << 20)
    if arguments.resume is None:
        default = fresh_folder(config.network, config.preset, Path(config.data).name if config.data else "faces")
        folder = RunFolder(arguments.out or default)
        check_new(folder.path, needed, probe=not arguments.dry_run)
    else:
        check_writable(folder.path, probe=not arguments.dry_run, flag="--resume", wanted=folder.path)
        check_room(folder.path, needed // 2, flag="--resume")
    if config.tensorboard:
        from vaegan_kernels.artist import check_tensorboard

        check_tensorboard()
    say(device)
    try:
        if arguments.dry_run:
            from vaegan_kernels.estimate import print_estimate

            print_estimate(config, spec, engine, folder, kind, count)
            return 0
        return train(config, spec, engine, folder, header, arguments, say)
    except OutOfMemory as error:
        raise UserError(describe_out_of_memory(error, smaller(config))) from None


def smaller(config: Config) -> str:
    """What to change where a GPU is full."""
    choices = [f"a --batch-size below {config.batch_size}"] if config.batch_size > 1 else []
    choices += ["--precision bf16"] if config.precision != "bf16" else []
    choices += ["a smaller --network"] if config.network != "small32" else []
    return f"try {', '.join([*choices, 'a GPU with more room'])} or --device cpu"


def prepare_resume(arguments: Any, flags: dict[str, Any]) -> tuple[RunFolder, Config, checkpoint.Header | None]:
    """The folder, configuration and checkpoint header of the run to go on with. Raises `UserError` for anything that does not fit."""
    if arguments.config:
        raise UserError("--config: not with --resume, a run goes on with its own settings; leave it out")
    given = arguments.resume if arguments.resume is not True else arguments.out
    if given is None:
        raise UserError("--resume: expected the folder of the run: --resume FOLDER, or --out FOLDER --resume")
    if arguments.resume is not True and arguments.out and Path(arguments.out).resolve() != Path(given).resolve():
        raise UserError(f"--resume {given} and --out {arguments.out} name different folders; give one of them")
    path = Path(given)
    folder = RunFolder(path.parent if path.name == "checkpoint.h5" else path)
    header = None
    if folder.checkpoint.is_file():
        header = checkpoint.read_header(folder.checkpoint)
        stored = header.config
    elif folder.config.is_file():  # killed before the first save: the run starts again, with the same bits
        stored = Config.from_dict(read_config(folder.config), str(folder.config))
    else:
        raise UserError(f"--resume: nothing to resume: no checkpoint.h5 in {folder.path}; give the folder of a run, or start a new one")
    changes = {}
    for name, value in flags.items():
        if name in CHANGEABLE:
            changes[name] = os.path.abspath(os.path.expanduser(value)) if name == "data" else value
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


def check_data(config: Config, spec: Any) -> tuple[str, int]:
    """What the data is and how many images it has, about. Raises `UserError` before anything is drawn or decoded."""
    from vaegan_kernels import data

    data.check_source(config.data, image_size=spec.image_size, channels=spec.channels)
    kind, count = data.describe_source(config.data, spec.image_size)
    count = min(count, config.limit or count)
    usable = min(count, train_images(config, kind))
    if config.batch_size > usable:
        raise UserError(
            f"--batch-size: got {config.batch_size}, but there are only {usable} images to train on ({kind}); use a smaller batch"
        )
    return kind, count


def train_images(config: Config, kind: str) -> int | float:
    """The size of the training split where the split is known beforehand; infinity where it is made on reading."""
    from vaegan_kernels.data.dataset import limited

    if kind == "built-in faces":
        from vaegan_kernels.data.faces import face_splits

        splits = face_splits()
    elif kind == "CelebA folder":
        from vaegan_kernels.data.celeba import list_celeba

        splits = list_celeba(Path(str(config.data))).splits
    elif kind == "packed file":
        import h5py

        try:
            with h5py.File(str(config.data), "r") as file:
                splits = np.asarray(file["splits"][()])
        except (OSError, KeyError):
            return math.inf  # damaged; loading tells how
    else:
        return math.inf
    return int((splits[limited(splits, config.limit)] == 0).sum())


def train(config: Config, spec: Any, engine: Any, folder: RunFolder, header: Any, arguments: Any, say: Any) -> int:
    """Build, load, train, evaluate. Everything about the arguments has been checked."""
    from models.vaegan import VAEGAN
    from vaegan_kernels import data
    from vaegan_kernels.artist import Artist
    from vaegan_kernels.inference import Model
    from vaegan_kernels.metrics import truncate_metrics
    from vaegan_kernels.progress import Counter, Progress
    from vaegan_kernels.trainer import Trainer

    network = VAEGAN(engine, spec, seed=config.seed, optimizer=config.optimizer, weight_decay=config.weight_decay)
    if header is not None:
        network.load_state(checkpoint.read_arrays(folder.checkpoint, network.state_arrays()))
    dataset = data.load_dataset(
        config.data, image_size=spec.image_size, channels=spec.channels, seed=config.data_seed, limit=config.limit,
        progress=Counter("reading images" if config.data else "drawing faces", quiet=arguments.quiet),
    )  # fmt: skip
    if header is not None and dataset.fingerprint != header.data_fingerprint:
        raise UserError(
            f"--data: the images are not those that the run in {folder.path} was trained on ({header.data_name}); "
            "restore them, or start a new run"
        )
    counts = {name: len(dataset.split(name)) for name in ("train", "validation", "test")}
    config = config.with_data(counts["train"])
    step, steps = header.step if header else 0, config.steps or 0
    if arguments.stop_after is not None and arguments.stop_after <= step < steps:
        raise UserError(f"--stop-after: got {arguments.stop_after}, but the run is at step {step} already; give a later step")
    skipped = f", {dataset.skipped} unreadable skipped" if dataset.skipped else ""
    say(f"data: {dataset.name}, {counts['train']} train, {counts['validation']} validation, {counts['test']} test images{skipped}")
    say(f"network: {config.network}, preset {config.preset}, {sum(spec.parameter_counts().values()):,} parameters")
    start = f"from step {step} " if step else ""
    say(f"run: {folder.path}, {start}to step {min(arguments.stop_after or steps, steps)} of {steps}")

    folder.create()
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    write_atomically(folder.config, lambda file: file.write(text.encode()))
    about = json.dumps({**engine.describe(), "versions": checkpoint.versions()}, indent=2) + "\n"
    write_atomically(folder.device, lambda file: file.write(about.encode()))
    truncate_metrics(folder.metrics, step)
    model = Model(network, spec, header or checkpoint.Header(step, config, dataset.fingerprint, dataset.name))
    artist = Artist(config, model, dataset, folder, step=step)
    trainer = Trainer(config, engine, network, dataset, folder, step=step, seconds=header.seconds if header else 0.0, listener=artist)
    with Progress(steps, step, quiet=arguments.quiet) as progress:
        ended_by = trainer.run(arguments.stop_after, progress)
    resume = f"python -m vaegan_kernels.train --resume {folder.path}"
    if ended_by is not None:
        print(f"saved at step {trainer.step} of {steps}; go on with: {resume}", flush=True)
        return EXIT_INTERRUPTED if ended_by == 2 else EXIT_TERMINATED
    finish(trainer, artist, model, dataset, folder, arguments.quiet)
    if trainer.step < steps:
        print(f"stopped after step {trainer.step} of {steps}; go on with: {resume}")
    return 0


def finish(trainer: Any, artist: Any, model: Any, dataset: Any, folder: RunFolder, quiet: bool) -> None:
    """Draw the summaries, evaluate, write summary.json and print the result."""
    from vaegan_kernels import figures
    from vaegan_kernels.artist import held_out
    from vaegan_kernels.evaluate import describe, evaluate
    from vaegan_kernels.progress import duration

    if not (folder.samples / figures.step_name(trainer.step)).exists():
        trainer.guarded(artist.draw, trainer.step)
    trainer.guarded(lambda: artist.summarise(trainer.seconds, final=True))
    train_images = dataset.images[dataset.split("train")[:5120]]
    result = evaluate(model, dataset.images[held_out(dataset)[:256]], train_images, seed=trainer.config.seed)
    images = trainer.step * trainer.config.batch_size
    summary = {"step": trainer.step, "steps": trainer.steps, **result, "seconds": round(trainer.seconds, 2)}
    summary["images_per_second"] = round(images / max(trainer.seconds, 1e-9), 2)
    text = json.dumps(summary, indent=2) + "\n"
    trainer.guarded(write_atomically, folder.summary, lambda file: file.write(text.encode()))
    for line in describe(result):
        print(line)
    print(f"trained {trainer.step} steps in {duration(trainer.seconds)}, {summary['images_per_second']:.0f} images/s")
    print(f"look at {folder.samples / figures.step_name(trainer.step)} and at the same name in reconstructions")


if __name__ == "__main__":
    sys.exit(run_main(main))
