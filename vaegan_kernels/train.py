"""``python -m vaegan_kernels.train``: check everything, then load, train, draw, evaluate."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels import Engine, OutOfMemory
from models.vaegan import VAEGAN
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.files import quoted, write_json
from vaegan_kernels.runs import checkpoint, gan_file, other_run
from vaegan_kernels.runs.checkpoint import Header
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.prepared import Run, folder_of, fresh, prepared, smaller
from vaegan_kernels.runs.resume import note_other_data
from vaegan_kernels.runs.run_folder import RunFolder, claim
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import make_parser
from vaegan_kernels.shell.cli import EXIT_TERMINATED, describe_out_of_memory, run_main
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.job import Job, software


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Errors are raised for `run_main`."""
    with Job() as job:
        return command(argv, job)


def command(argv: Sequence[str] | None, job: Job) -> int:
    """`main`, as a process of ``job``."""
    arguments = job.agreed(lambda: make_parser().parse_args(argv))
    say = (lambda text: None) if arguments.quiet else (lambda text: print(text, flush=True))
    run = prepared(arguments, job, say)
    folder = run.folder = job.shared(lambda: folder_of(run, arguments))
    if run.config.tensorboard:
        from vaegan_kernels.pictures.artist import check_tensorboard

        job.agreed(check_tensorboard)
    for line in run.lines:
        say(line)
    try:
        if arguments.dry_run:
            from vaegan_kernels.runs.estimate import print_estimate

            if job.size > 1:
                print("time and memory are those of one process that has whole batches")
            if job.speaks:
                print_estimate(run.config, run.spec, run.engine, folder, run.kind, run.count)
            return 0
        return train(run, arguments, say)
    except OutOfMemory as error:
        raise UserError(describe_out_of_memory(error, smaller(run.config))) from None


def build(config: Config, engine: Engine, file: Path | None, job: Job) -> VAEGAN:
    """The network of ``config``, with the state in the checkpoint ``file`` or, for None, at its start.

    That is random, or the weights of ``--init``. Only the first process reads files. Raises `UserError`.
    """
    network = config.system(job.share_batch(engine, config.batch_size, sync=config.bn_sync))
    if file is not None:
        network.load_state(job.shared(lambda: checkpoint.read_arrays(file, network.state_arrays())))
        return network
    if config.init is not None:
        network.load_state(*job.shared(lambda: other_run.read_init(config, network)))
    if config.gan is not None:
        place = config.gan
        network.load_discriminator(job.shared(lambda: gan_file.read_discriminator(other_run.find("--gan", place), network)))
    return network


def train(run: Run, arguments: Any, say: Any) -> int:
    """Build, load, train, evaluate. Everything about the arguments has been checked."""
    from vaegan_kernels import data
    from vaegan_kernels.shell.progress import Counter

    job, config, spec, folder, header = run.job, run.config, run.spec, run.folder, run.header
    network = build(config, run.engine, folder.checkpoint if header is not None else None, job)

    def load() -> Dataset:
        return data.load_dataset(
            config.data, image_size=spec.image_size, channels=spec.channels, seed=config.data_seed, limit=config.limit, fit=config.fit,
            progress=Counter("reading images" if config.data else "drawing faces", quiet=arguments.quiet),
        )  # fmt: skip

    dataset = job.one_by_one(load)
    check_same_data(dataset, header, folder, job)
    if arguments.config and arguments.resume is None and (note := note_other_data(arguments.config, config, dataset)):
        say(note)
    counts = {name: len(dataset.split(name)) for name in ("train", "validation", "test")}
    config = job.agreed(lambda: config.with_data(counts["train"]))
    config = run.config = dataclasses.replace(config, fit=dataset.fit)  # a packed file says how its images were cut
    step, steps = header.step if header else 0, config.steps or 0
    if arguments.stop_after is not None and arguments.stop_after <= step < steps:
        job.give_up(f"--stop-after: got {arguments.stop_after}, but the run is at step {step} already; give a later step")
    skipped = f", {dataset.passed_over}" if dataset.passed_over else ""
    say(f"data: {dataset.name}, {counts['train']} train, {counts['validation']} validation, {counts['test']} test images{skipped}")
    job.check_same(lambda: {**software(), **settings_of(config, run.engine)})
    if arguments.resume is None and arguments.out is None:
        folder = run.folder = job.shared(lambda: RunFolder(claim(functools.partial(fresh, config))))
    with folder.held() if job.speaks else contextlib.nullcontext():
        if header is None and config.gan_steps is not None:
            code = train_gan_first(run, dataset, arguments, say)
            if code:
                return code
            network.load_discriminator(job.shared(lambda: gan_file.read_discriminator(folder.gan / "checkpoint.h5", network)))
        return go(run, config, network, folder, header, dataset, arguments, say)


def settings_of(config: Config, engine: Engine) -> dict[str, Any]:
    """Those that must be the same on all processes, each under its name."""
    own = {f"engine's {name}": value for name, value in engine.describe().items()}
    return {**own, **{name: value for name, value in config.to_dict().items() if name not in ("data", "threads")}}


def check_same_data(dataset: Dataset, header: Header | None, folder: RunFolder, job: Job) -> None:
    """Raise `UserError` if the run in ``folder`` was trained on other images, or another process has others."""
    job.check_same(lambda: {"images with the checksum": dataset.fingerprint[:12]})
    if header is not None and dataset.fingerprint != header.data_fingerprint:
        job.give_up(
            f"--data: the images are not those that the run in {folder.path} was trained on ({header.data_name}); "
            "restore them, or start a new run"
        )


def train_gan_first(run: Run, dataset: Dataset, arguments: Any, say: Any) -> int:
    """The GAN of a vae-dis without ``--gan``: a run of its own in the run's folder, which is resumed where it was left.

    Returns: the exit code.
    """
    own = RunFolder(run.folder.gan)
    gan = gan_file.gan_config(run.config).with_data(len(dataset.split("train")))
    header = run.job.shared(lambda: checkpoint.read_header(own.checkpoint) if own.checkpoint.is_file() else None)
    if header is not None and (header.config.model, header.config.condition) != ("gan", run.config.condition):
        run.job.give_up(f"{own.path}: holds a run of --model {header.config.model}, not the GAN of this one; move it away")
    check_same_data(dataset, header, own, run.job)
    if run.job.shared(lambda: header is not None and header.step == gan.steps and own.summary.exists()):
        return 0
    say(f"first the GAN that gives the metric, then the vae-dis; {run.folder.path} is the folder of both")
    if run.job.speaks:
        run.folder.create()
        write_settings(run.config, run.engine, run.folder)
    network = build(gan, run.engine, own.checkpoint if header is not None else None, run.job)
    first = argparse.Namespace(**{**vars(arguments), "stop_after": None})
    with own.held() if run.job.speaks else contextlib.nullcontext():
        return go(run, gan, network, own, header, dataset, first, say, resume=run.folder.path)


def write_settings(config: Config, engine: Engine, folder: RunFolder) -> None:
    """config.json and device.json."""
    about = {**engine.describe(), "versions": checkpoint.versions()}
    for path, value in ((folder.config, config.to_dict()), (folder.device, about)):
        write_json(path, value)


def go(
    run: Run, config: Config, network: VAEGAN, folder: RunFolder, header: Header | None, dataset: Dataset, arguments: Any, say: Any,
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

    job = run.job
    step, steps = header.step if header else 0, config.steps or 0
    name = config.network if config.model == "vaegan" else f"{config.network}, {config.model}"
    given = f", given {len(config.condition)} attributes" if config.condition else ""
    say(f"network: {name}, preset {config.preset}, {sum(config.parameter_counts().values()):,} parameters{given}")
    start = f"from step {step} " if step else ""
    say(f"run: {folder.path}, {start}to step {min(arguments.stop_after or steps, steps)} of {steps}")

    if job.speaks:
        folder.create(reconstructions=network.encoder is not None)
        write_settings(config, network.engine, folder)
        truncate_metrics(folder.metrics, step)
    header = header or checkpoint.Header(step, config, dataset.fingerprint, dataset.name)
    model = Model(network, network.spec, header, examples_of(config, dataset))
    artist = Artist(config, model, dataset, folder, step=step) if job.speaks else None
    trainer = Trainer(
        config, network.engine, network, dataset, folder, step=step, seconds=header.seconds, listener=artist, resume=resume, job=job
    )
    job.one_by_one(lambda: trainer.feed.prepare(lambda: rehearse(trainer, artist, model, dataset)))
    if trainer.feed.streamed:
        say(f"images: read ahead of the steps, {SLOTS} steps' on the GPU" + ("" if config.stream else ": not all fit there"))
    with Progress(steps, step, quiet=arguments.quiet) as progress, job.watch(config.rank_timeout):
        ended_by = trainer.run(arguments.stop_after, progress)
    command = f"python -m vaegan_kernels.train --resume {quoted(resume or folder.path)}"
    if ended_by is not None:
        print(f"saved at step {trainer.step} of {steps}; resume with: {command}", flush=True)
        return 128 + ended_by if ended_by in (1, 2) else EXIT_TERMINATED  # SIGHUP and SIGINT as shells expect
    if artist is not None:
        finish(trainer, artist, model, dataset, folder)
    if trainer.step < steps:
        print(f"stopped after step {trainer.step} of {steps}; resume with: {command}")
    return 0


def rehearse(trainer: Any, artist: Any, model: Model, dataset: Dataset) -> None:
    """All that a run computes on its device: a step, the pictures, the measures of its end."""
    from vaegan_kernels.evaluate import measured

    trainer.step_body()
    if artist is None:
        return
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
    images = trainer.step * trainer.config.step_images
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
