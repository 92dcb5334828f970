"""``--dry-run``: what a run would be, take and write. Time and memory are measured on a few images, then scaled."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np

from vaegan_kernels.config import Config
from vaegan_kernels.progress import duration
from vaegan_kernels.run_folder import RunFolder, human_size

STATE_NAMES = {"rmsprop": "mean square", "adam": "two moments"}
TRAIN_SHARE = 0.9  # of the images, where the split is not known before they are read


def measure(config: Config, spec: Any, engine: Any, batch: int) -> tuple[float, int]:
    """(seconds of a step, bytes of activations and errors) of ``batch`` random images, on a network made for it and thrown away."""
    from models.vaegan import VAEGAN

    model = VAEGAN(engine, spec, seed=0, optimizer=config.optimizer, weight_decay=config.weight_decay)
    random = np.random.default_rng(0)
    x = engine.asarray(random.uniform(-1, 1, (batch, spec.image_size, spec.image_size, spec.channels)))
    eps, z_p = (engine.asarray(random.standard_normal((batch, spec.latent))) for _ in range(2))
    objective = dataclasses.replace(config.objective(), gate=False)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.train_step(x, eps, z_p, objective, config.learning_rate)
        model.fetch_losses()  # waits for a device
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]), model.pool.elements * engine.dtype.itemsize


def print_estimate(config: Config, spec: Any, engine: Any, folder: RunFolder, kind: str, count: int) -> None:
    """Print the resolved configuration, the data, parameter counts, memory and time."""
    if config.draw_every is None or config.save_every is None or config.steps is None:
        config = config.with_data(max(config.batch_size, int(count * TRAIN_SHARE)))
    steps, itemsize = config.steps or 0, engine.dtype.itemsize
    print("configuration")
    for name, value in config.to_dict().items():
        print(f"  {name:20} {'-' if value is None else value}")
    print(f"data: {config.data or 'drawn by the program'}: {kind}, about {count} images; {spec.image_size} x {spec.image_size} pixels")
    epochs = steps * config.batch_size / max(1, count * TRAIN_SHARE)
    print(f"training: {steps} steps of {config.batch_size} images, about {epochs:.1f} passes over the training images")

    counts = spec.parameter_counts()
    print("parameters: " + ", ".join(f"{name} {number:,}" for name, number in counts.items()) + f"; {sum(counts.values()):,} together")
    weights = sum(counts.values()) * itemsize
    state = weights * (2 if config.optimizer == "adam" else 1)
    small, large = 4, 8
    (time_small, bytes_small), (time_large, bytes_large) = (measure(config, spec, engine, batch) for batch in (small, large))
    activations = bytes_large / large * config.batch_size if config.batch_size >= large else bytes_small
    images = count * spec.image_size**2 * spec.channels
    rows = {
        "parameters": weights,
        "gradients": weights,
        f"optimiser ({STATE_NAMES[config.optimizer]})": state,
        "activations and errors": activations,
        "images": images,
    }
    print("memory: " + ", ".join(f"{name} {human_size(size)}" for name, size in rows.items()))
    print(f"        about {human_size(sum(rows.values()))} together")

    per_image = max((time_large - time_small) / (large - small), time_large / large * 0.5)
    step = max(time_large + (config.batch_size - large) * per_image, time_small / 2)
    print(
        f"time: about {step:.2g} s a step, {config.batch_size / step:.0f} images/s, {duration(step * steps)} for the run "
        f"(from steps of {small} and {large} images on this machine, now; {os.cpu_count()} cores)"
    )
    print(f"writes: {folder.path}")
    print(f"        a checkpoint of {human_size(weights + state)} every {config.save_every} steps, picture grids every {config.draw_every}")
    print("dry run: nothing was trained or written")
