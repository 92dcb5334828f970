"""What a training run is: all that can be known and checked before anything is read or written."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from kernels import Engine
from kernels.ranks.nccl import take_gpu
from models.networks import NetworkSpec
from vaegan_kernels.files import check_room, check_writable
from vaegan_kernels.runs import gan_file, other_run
from vaegan_kernels.runs.checkpoint import Header
from vaegan_kernels.runs.resume import note_other_engine, prepare_resume, repeated, repeated_engine
from vaegan_kernels.runs.run_folder import RunFolder, check_new, fresh_folder
from vaegan_kernels.settings.checks import check_data, configuration, with_attributes
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import open_engine
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.job import Job

# In a checkpoint: parameters and, for each, one (RMSProp) or two (Adam) numbers of optimiser state.
STATE_ARRAYS = {"rmsprop": 2, "adam": 3}


@dataclasses.dataclass
class Run:
    """What is trained, where and how: all that has been checked before anything is read or written."""

    job: Job
    config: Config
    spec: NetworkSpec
    engine: Engine  # of this process alone
    header: Header | None  # of the checkpoint that is resumed
    folder: RunFolder
    kind: str  # of the data, in words
    count: int  # of its images, about
    lines: list[str]  # for the user


def prepared(arguments: argparse.Namespace, job: Job, say: Callable[[str], None]) -> Run:
    """Everything about the arguments, checked on each process of ``job``."""
    folder, config, header = job.agreed(lambda: configured(arguments, job))
    on_cpu = repeated_engine(arguments.config) if arguments.config else "auto"
    placed = dataclasses.replace(config, threads=config.threads or job.threads)
    # The first process may have to compile the CPU's kernels
    engine, device = job.one_by_one(lambda: open_engine(placed, None if arguments.quiet else say, on_cpu=on_cpu))
    if header is not None:
        device += note_other_engine(folder, header, engine, job.size)
    return job.agreed(lambda: checked(config, engine, header, folder, job, device))


def configured(arguments: argparse.Namespace, job: Job) -> tuple[RunFolder, Config, Header | None]:
    """The run's folder, where it is known, its settings, and the head of the checkpoint that it is resumed from."""
    if arguments.stop_after is not None and arguments.stop_after < 1:
        raise UserError(f"--stop-after: got {arguments.stop_after}, expected a whole number of at least 1")
    folder, header = RunFolder(arguments.out or ""), None
    if arguments.resume is not None:
        folder, config, header = prepare_resume(arguments)
    else:
        config = configuration(vars(arguments), repeated(arguments.config) if arguments.config else None)
    if config.batch_size < job.size:
        raise UserError(f"--batch-size: got {config.batch_size}, expected at least {job.size}, an image for each process")
    if job.ranks is not None and config.device != "cpu":
        take_gpu(job.ranks.local)
    return folder, config, header


def checked(config: Config, engine: Engine, header: Header | None, folder: RunFolder, job: Job, device: str) -> Run:
    """The settings with what engine and data add to them, and the data looked at. ``device``: the line about that."""
    config = with_attributes(dataclasses.replace(config, precision=engine.precision, encoder_units=config.network_spec().encoder_units))
    spec = config.network_spec()
    kind, count = check_data(config, spec)
    if config.gan is not None and header is None:
        gan_file.check_gan(config)
    start = other_run.check_init(config) if config.init is not None and header is None else None
    lines = [device, *filter(None, [job.describe(config.batch_size), start])]
    return Run(job, config, spec, engine, header, folder, kind, count, lines)


def folder_of(run: Run, arguments: argparse.Namespace) -> RunFolder:
    """Where the run goes, with room for it. To be called on one process."""
    config = run.config
    runs = 2 if config.model == "vae-dis" and config.gan is None else 1
    arrays = STATE_ARRAYS[config.optimizer] + (config.average > 0)
    needed = 2 * runs * sum(config.parameter_counts().values()) * arrays * run.engine.wide.itemsize + (32 << 20)
    if arguments.resume is None:
        folder = RunFolder(arguments.out or fresh(config))
        check_new(folder.path, needed, probe=not arguments.dry_run)
        return folder
    check_writable(run.folder.path, probe=not arguments.dry_run, flag="--resume", wanted=run.folder.path)
    check_room(run.folder.path, needed // 2, flag="--resume")
    return run.folder


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
