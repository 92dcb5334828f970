"""``--dry-run``: what a run would be, take and write. Time and memory are measured."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np

from kernels import Engine
from models.networks import NetworkSpec
from vaegan_kernels.files import human_size
from vaegan_kernels.runs.feed import SLOTS
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.progress import duration

STATE_NAMES = {"rmsprop": "mean square", "adam": "two moments"}
MEASURED = 4, 8  # images of the two steps that the CPU's time and memory are estimated from
TRAIN_SHARE = 0.9  # of the images, where the split is not known before they are read


def measure(config: Config, spec: NetworkSpec, engine: Engine, batch: int) -> tuple[float, dict[str, int]]:
    """(seconds of a step, bytes of its memory by what it is for) of ``batch`` random images, on a network made for it and thrown away."""

    model = config.system(engine)
    random = np.random.default_rng(0)
    x = engine.asarray(random.uniform(-1, 1, (batch, spec.image_size, spec.image_size, spec.channels)))
    eps, z_p = (engine.asarray(random.standard_normal((batch, spec.latent)), engine.wide) for _ in range(2))
    given = [engine.asarray(random.choice([-1.0, 1.0], (batch, spec.attributes)), engine.wide)] if spec.attributes else []
    objective = dataclasses.replace(config.objective(), gate=False)

    def body() -> None:
        for number in range(config.accumulate):
            model.train_step(x, eps, z_p, objective, config.learning_rate, *given, batch=number)

    engine.prepare(body)
    step = engine.record(body)
    seconds = []
    for _ in range(4):  # a GPU records in the second or third
        start = time.perf_counter()
        step()
        engine.synchronize()
        seconds.append(time.perf_counter() - start)
    parameters = model.parameters
    rows = {
        "parameters": sum(p.data.nbytes for p in parameters),
        "their copies for products": sum(p.compute.nbytes for p in parameters if p.compute is not p.data),
        "gradients": sum(p.grad.nbytes for p in parameters if p.grad is not None),
        f"optimiser ({STATE_NAMES[config.optimizer]})": sum(a.nbytes for p in parameters for a in p.state.values()),
        "activations and errors": model.pool.bytes,
    }
    return min(seconds[1:]), {name: size for name, size in rows.items() if size}


def rehearsal(engine: Engine) -> Any:
    """For a GPU an engine like it that executes nothing and counts memory; None for the CPU."""
    if engine.name == "cpu":
        return None
    from kernels.cuda.engine import dry_engine

    return dry_engine(engine.device.chip, engine.precision)


def on_gpu(config: Config, spec: NetworkSpec, dry: Any) -> dict[str, int]:
    """Bytes of memory by what it is for, as counted by ``dry`` (see `rehearsal`)."""
    _, rows = measure(config, spec, dry, config.batch_size)
    return {**rows, "working memory of the kernels": dry.device.allocated - sum(rows.values())}


def on_cpu(config: Config, spec: NetworkSpec, engine: Engine) -> tuple[float, dict[str, int]]:
    """(seconds of a step, bytes of memory by what it is for), from steps of a few images."""
    small, large = MEASURED
    (time_small, rows_small), (time_large, rows) = (measure(config, spec, engine, batch) for batch in MEASURED)
    if config.batch_size >= large:
        rows["activations and errors"] = rows["activations and errors"] * config.batch_size // large
    else:
        rows = rows_small
    per_image = max((time_large - time_small) / (large - small), time_large / large * 0.5)
    return max(time_large + (config.batch_size - large) * per_image, time_small / 2), rows


def print_estimate(config: Config, spec: NetworkSpec, engine: Engine, folder: RunFolder, kind: str, count: int) -> None:
    """Print the resolved configuration, the data, parameter counts, memory and time."""
    if None in (config.draw_every, config.save_every, config.steps) or config.model == "vae-dis":
        config = config.with_data(max(config.step_images, int(count * TRAIN_SHARE)))
    steps = config.steps or 0
    print("configuration")
    for name, value in config.to_dict().items():
        print(f"  {name:20} {'-' if value is None else value}")
    print(f"data: {config.data or 'drawn by the program'}: {kind}, about {count} images; {spec.image_size} x {spec.image_size} pixels")
    epochs = steps * config.step_images / max(1, count * TRAIN_SHARE)
    print(f"training: {steps} steps of {config.step_images} images, about {epochs:.1f} passes over the training images")

    counts = config.parameter_counts()
    print("parameters: " + ", ".join(f"{name} {number:,}" for name, number in counts.items()) + f"; {sum(counts.values()):,} together")
    dry = rehearsal(engine)
    step, rows = on_cpu(config, spec, engine) if dry is None else (0.0, on_gpu(config, spec, dry))
    where = " (they stay in their file)" if kind == "packed file" and engine.host_memory else ""
    if config.stream and not engine.host_memory:
        where, count = f" ({SLOTS} steps', read ahead)", SLOTS * config.step_images
    rows[f"images{where}"] = count * spec.image_size**2 * spec.channels
    print("memory: " + ", ".join(f"{name} {human_size(size)}" for name, size in rows.items()))
    print(f"        about {human_size(sum(rows.values()))} together{'' if dry is None else ' on the GPU'}")

    how = f"from steps of {MEASURED[0]} and {MEASURED[1]} images on this machine, now; {os.cpu_count()} cores"
    if dry is not None:  # a GPU's time does not grow evenly: measured as it will be
        step, _ = measure(config, spec, engine, config.batch_size)
        how = "measured now"
    print(f"time: about {step:.2g} s a step, {config.step_images / step:.0f} images/s, {duration(step * steps)} for the run ({how})")
    if config.gan_steps:
        gan = dataclasses.replace(config, model="gan", gan_steps=None)
        gan_step, _ = on_cpu(gan, spec, engine) if dry is None else measure(gan, spec, engine, config.batch_size)
        first = f"{config.gan_steps} steps of {gan_step:.2g} s, {duration(gan_step * config.gan_steps)}"
        print(f"      before it the GAN that gives the metric, in {folder.gan}: {first}")
    saved = sum(size for name, size in rows.items() if name == "parameters" or name.startswith("optimiser"))
    print(f"writes: {folder.path}")
    print(f"        a checkpoint of {human_size(saved)} every {config.save_every} steps, picture grids every {config.draw_every}")
    print("dry run: nothing was trained or written")
