"""``python -m vaegan_kernels.train``: check everything, then load, train, draw, evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels import Engine, OutOfMemory
from models.networks import NetworkSpec
from models.vaegan import VAEGAN
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.files import check_room, check_writable, quoted, write_json
from vaegan_kernels.runs import checkpoint, gan_file, other_run
from vaegan_kernels.runs.checkpoint import Header
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.resume import note_other_data, note_other_engine, prepare_resume, repeated, repeated_engine
from vaegan_kernels.runs.run_folder import RunFolder, check_new, claim, fresh_folder
from vaegan_kernels.settings.checks import check_data, configuration, with_attributes
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import make_parser, open_engine
from vaegan_kernels.shell.cli import EXIT_TERMINATED, describe_out_of_memory, run_main
from vaegan_kernels.shell.errors import UserError

# In a checkpoint: parameters and, for each, one (RMSProp) or two (Adam) numbers of optimiser state.
STATE_ARRAYS = {"rmsprop": 2, "adam": 3}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Errors are raised for `run_main`."""
    arguments = make_parser().parse_args(argv)
    say = (lambda text: None) if arguments.quiet else (lambda text: print(text, flush=True))
    if arguments.stop_after is not None and arguments.stop_after < 1:
        raise UserError(f"--stop-after: got {arguments.stop_after}, expected a whole number of at least 1")

    header: Header | None = None
    if arguments.resume is not None:
        folder, config, header = prepare_resume(arguments)
    else:
        config = configuration(vars(arguments), repeated(arguments.config) if arguments.config else None)
    on_cpu = repeated_engine(arguments.config) if arguments.config else "auto"
    engine, device = open_engine(config, None if arguments.quiet else say, on_cpu=on_cpu)
    if header is not None:
        device += note_other_engine(folder, header, engine)
    config = with_attributes(dataclasses.replace(config, precision=engine.precision, encoder_units=config.network_spec().encoder_units))
    spec = config.network_spec()
    kind, count = check_data(config, spec)
    if config.gan is not None and header is None:
        gan_file.check_gan(config)
    start = other_run.check_init(config) if config.init is not None and header is None else None

    runs = 2 if config.model == "vae-dis" and config.gan is None else 1
    arrays = STATE_ARRAYS[config.optimizer] + (config.average > 0)
    needed = 2 * runs * sum(config.parameter_counts().values()) * arrays * engine.wide.itemsize + (32 << 20)
    if arguments.resume is None:
        folder = RunFolder(arguments.out or fresh(config))
        check_new(folder.path, needed, probe=not arguments.dry_run)
    else:
        check_writable(folder.path, probe=not arguments.dry_run, flag="--resume", wanted=folder.path)
        check_room(folder.path, needed // 2, flag="--resume")
    if config.tensorboard:
        from vaegan_kernels.pictures.artist import check_tensorboard

        check_tensorboard()
    say(device)
    if start is not None:
        say(start)
    try:
        if arguments.dry_run:
            from vaegan_kernels.runs.estimate import print_estimate

            print_estimate(config, spec, engine, folder, kind, count)
            return 0
        return train(config, spec, engine, folder, header, arguments, say)
    except OutOfMemory as error:
        raise UserError(describe_out_of_memory(error, smaller(config))) from None


def fresh(config: Config) -> Path:
    """The folder of a run that is given none: the next number under runs/."""
    name = Path(config.data).name if config.data else "faces"
    return fresh_folder(config.network, config.preset, name, model=config.model, conditional=config.conditional)


def smaller(config: Config) -> str:
    """What to change where a GPU is full."""
    choices = [f"a --batch-size below {config.batch_size}"] if config.batch_size > 1 else []
    choices += ["--precision bf16"] if config.precision != "bf16" else []
    choices += ["a smaller --network or --image-size"] if config.network != Config.network else []
    return f"try {', '.join([*choices, 'a GPU with more room'])} or --device cpu"


def build(config: Config, spec: NetworkSpec, engine: Engine, file: Path | None) -> VAEGAN:
    """The network of ``config``, with the state in the checkpoint ``file`` or, for None, at its start.

    That is random, or the weights of ``--init``. Raises `UserError`.
    """
    network = config.system(engine)
    if file is not None:
        network.load_state(checkpoint.read_arrays(file, network.state_arrays()))
        return network
    if config.init is not None:
        network.load_state(*other_run.read_init(config, network))
    if config.gan is not None:
        network.load_discriminator(gan_file.read_discriminator(other_run.find("--gan", config.gan), network))
    return network


def train(config: Config, spec: NetworkSpec, engine: Engine, folder: RunFolder, header: Header | None, arguments: Any, say: Any) -> int:
    """Build, load, train, evaluate. Everything about the arguments has been checked."""
    from vaegan_kernels import data
    from vaegan_kernels.shell.progress import Counter

    network = build(config, spec, engine, folder.checkpoint if header is not None else None)
    dataset = data.load_dataset(
        config.data, image_size=spec.image_size, channels=spec.channels, seed=config.data_seed, limit=config.limit, fit=config.fit,
        progress=Counter("reading images" if config.data else "drawing faces", quiet=arguments.quiet),
    )  # fmt: skip
    check_same_data(dataset, header, folder)
    if arguments.config and arguments.resume is None and (note := note_other_data(arguments.config, config, dataset)):
        say(note)
    counts = {name: len(dataset.split(name)) for name in ("train", "validation", "test")}
    config = dataclasses.replace(config.with_data(counts["train"]), fit=dataset.fit)  # a packed file says how its images were cut
    step, steps = header.step if header else 0, config.steps or 0
    if arguments.stop_after is not None and arguments.stop_after <= step < steps:
        raise UserError(f"--stop-after: got {arguments.stop_after}, but the run is at step {step} already; give a later step")
    skipped = f", {dataset.passed_over}" if dataset.passed_over else ""
    say(f"data: {dataset.name}, {counts['train']} train, {counts['validation']} validation, {counts['test']} test images{skipped}")
    if arguments.resume is None and arguments.out is None:
        folder = RunFolder(claim(functools.partial(fresh, config)))
    with folder.held():
        if header is None and config.gan_steps is not None:
            code = train_gan_first(config, spec, engine, folder, dataset, arguments, say)
            if code:
                return code
            network.load_discriminator(gan_file.read_discriminator(folder.gan / "checkpoint.h5", network))
        return run(config, network, folder, header, dataset, arguments, say)


def check_same_data(dataset: Dataset, header: Header | None, folder: RunFolder) -> None:
    """Raise `UserError` if the run in ``folder`` was trained on other images."""
    if header is not None and dataset.fingerprint != header.data_fingerprint:
        raise UserError(
            f"--data: the images are not those that the run in {folder.path} was trained on ({header.data_name}); "
            "restore them, or start a new run"
        )


def train_gan_first(
    config: Config, spec: NetworkSpec, engine: Engine, folder: RunFolder, dataset: Dataset, arguments: Any, say: Any
) -> int:
    """The GAN of a vae-dis without ``--gan``: a run of its own in the run's folder, which is resumed where it was left.

    Returns: the exit code.
    """
    own = RunFolder(folder.gan)
    gan = gan_file.gan_config(config).with_data(len(dataset.split("train")))
    header = checkpoint.read_header(own.checkpoint) if own.checkpoint.is_file() else None
    if header is not None and (header.config.model, header.config.condition) != ("gan", config.condition):
        raise UserError(f"{own.path}: holds a run of --model {header.config.model}, not the GAN of this one; move it away")
    check_same_data(dataset, header, own)
    if header is not None and header.step == gan.steps and own.summary.exists():
        return 0
    say(f"first the GAN that gives the metric, then the vae-dis; {folder.path} is the folder of both")
    folder.create()
    write_settings(config, engine, folder)
    network = build(gan, spec, engine, own.checkpoint if header is not None else None)
    first = argparse.Namespace(**{**vars(arguments), "stop_after": None})
    with own.held():
        return run(gan, network, own, header, dataset, first, say, resume=folder.path)


def write_settings(config: Config, engine: Engine, folder: RunFolder) -> None:
    """config.json and device.json."""
    about = {**engine.describe(), "versions": checkpoint.versions()}
    for path, value in ((folder.config, config.to_dict()), (folder.device, about)):
        write_json(path, value)


def run(
    config: Config, network: VAEGAN, folder: RunFolder, header: Header | None, dataset: Dataset, arguments: Any, say: Any,
    resume: Path | None = None,
) -> int:  # fmt: skip
    """Train ``network`` in ``folder`` from the step of ``header`` on, and evaluate. Returns the exit code.

    ``resume``: the folder that resumes it, where that is not its own.
    """
    from vaegan_kernels.pictures.artist import Artist
    from vaegan_kernels.runs.feed import SLOTS
    from vaegan_kernels.runs.metrics import truncate_metrics
    from vaegan_kernels.runs.trainer import Trainer, examples_of
    from vaegan_kernels.shell.progress import Progress

    step, steps = header.step if header else 0, config.steps or 0
    name = config.network if config.model == "vaegan" else f"{config.network}, {config.model}"
    given = f", given {len(config.condition)} attributes" if config.condition else ""
    say(f"network: {name}, preset {config.preset}, {sum(config.parameter_counts().values()):,} parameters{given}")
    start = f"from step {step} " if step else ""
    say(f"run: {folder.path}, {start}to step {min(arguments.stop_after or steps, steps)} of {steps}")

    folder.create(reconstructions=network.encoder is not None)
    write_settings(config, network.engine, folder)
    truncate_metrics(folder.metrics, step)
    header = header or checkpoint.Header(step, config, dataset.fingerprint, dataset.name)
    model = Model(network, network.spec, header, examples_of(config, dataset))
    artist = Artist(config, model, dataset, folder, step=step)
    trainer = Trainer(config, network.engine, network, dataset, folder, step=step, seconds=header.seconds, listener=artist, resume=resume)
    trainer.feed.prepare(lambda: rehearse(trainer, artist, model, dataset))
    if trainer.feed.streamed:
        say(f"images: read ahead of the steps, {SLOTS} batches on the GPU" + ("" if config.stream else ": not all fit there"))
    with Progress(steps, step, quiet=arguments.quiet) as progress:
        ended_by = trainer.run(arguments.stop_after, progress)
    command = f"python -m vaegan_kernels.train --resume {quoted(resume or folder.path)}"
    if ended_by is not None:
        print(f"saved at step {trainer.step} of {steps}; resume with: {command}", flush=True)
        return 128 + ended_by if ended_by in (1, 2) else EXIT_TERMINATED  # SIGHUP and SIGINT as shells expect
    finish(trainer, artist, model, dataset, folder)
    if trainer.step < steps:
        print(f"stopped after step {trainer.step} of {steps}; resume with: {command}")
    return 0


def rehearse(trainer: Any, artist: Any, model: Model, dataset: Dataset) -> None:
    """All that a run computes on its device: a step, the pictures, the measures of its end."""
    from vaegan_kernels.evaluate import measured

    trainer.step_body()
    artist.samples()
    shown, own = measured(model, dataset)
    if model.has_encoder:
        artist.rebuilt()
        model.reconstruct(dataset.images[shown], attributes=own)
    model.sample(max(2, len(shown)))


def finish(trainer: Any, artist: Any, model: Model, dataset: Dataset, folder: RunFolder) -> None:
    """Draw the summaries, evaluate, write summary.json and print the result."""
    from vaegan_kernels.evaluate import describe, evaluate_on
    from vaegan_kernels.pictures import figures
    from vaegan_kernels.shell.progress import duration

    if not (folder.samples / figures.step_name(trainer.step)).exists():
        trainer.shown(print, artist.draw, trainer.step)
    trainer.shown(print, functools.partial(artist.summarise, final=True), trainer.seconds)
    result = evaluate_on(model, dataset, seed=trainer.config.seed)
    images = trainer.step * trainer.config.batch_size
    summary = {"step": trainer.step, "steps": trainer.steps, **result, "seconds": round(trainer.seconds, 2)}
    summary["images_per_second"] = round(images / max(trainer.seconds, 1e-9), 2)
    trainer.guarded(write_json, folder.summary, summary)
    for line in describe(result):
        print(line)
    print(f"trained {trainer.step} steps in {duration(trainer.seconds)}, {summary['images_per_second']:.0f} images/s")
    more = " and at the same name in reconstructions" if model.has_encoder else ""
    print(f"look at {folder.samples / figures.step_name(trainer.step)}{more}")


if __name__ == "__main__":
    sys.exit(run_main(main))
