"""Draws a run as it goes: sample and reconstruction grids, curves, the animation, TensorBoard."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

from kernels import philox
from vaegan_kernels.files import save_image
from vaegan_kernels.pictures import figures
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError

SAMPLES = 64
RECONSTRUCTED = 32
SHARE = 0.02  # curves and animation are renewed during the run only while they take less than this share of its time


def check_tensorboard() -> None:
    """Raise `UserError` if the optional package is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError("--tensorboard: the package tensorboardX is not installed; run: pip install tensorboardX")


class Artist:
    """Everything that is drawn comes from the same latents, the same test images and the same noise at every step."""

    def __init__(self, config: Config, model: Model, dataset: Any, folder: RunFolder, *, step: int = 0) -> None:
        self.config, self.model, self.folder = config, model, folder
        self.steps = config.steps or 0
        self.z = np.asarray(
            philox.normal((SAMPLES, model.latent), seed=config.seed, step=0, stream=philox.STREAM_FIGURE_PRIOR), model.engine.wide
        )
        shown = held_out(dataset)[:RECONSTRUCTED]
        self.originals = dataset.images[shown]
        condition = model.attribute_names
        self.conditions = model.examples(SAMPLES, config.seed) if condition else None  # of the samples
        self.own = dataset.attributes_of(condition)[shown] if condition else None  # of the originals
        self.spent = 0.0
        self.board: Any = None
        if config.tensorboard:
            import tensorboardX

            self.board = tensorboardX.SummaryWriter(str(folder.tensorboard), purge_step=step + 1 if step else None)

    @property
    def name(self) -> str:
        """The network, the preset and, of another system than the VAE/GAN or a conditional one, what it is."""
        config = self.config
        other = [config.model] if config.model != "vaegan" else []
        return " · ".join([config.network, *other, *(["conditional"] if config.conditional else []), config.preset])

    def samples(self) -> np.ndarray:
        """Images [64, S, S, C] of the run's latents."""
        return self.model.decode(self.z, self.conditions)

    def rebuilt(self) -> np.ndarray:
        """What the model makes of the run's test images, [N, S, S, C]."""
        mean = self.config.reconstruct_from == "mean"
        return self.model.reconstruct(self.originals, mean=mean, seed=self.config.seed, attributes=self.own)

    def draw(self, step: int) -> None:
        """Write the grids of ``step``."""
        note = f"step {step:,} of {self.steps:,}"
        picture = figures.grid(self.samples(), 8, f"Samples   {self.name}", note)
        save_image(self.folder.samples / figures.step_name(step), picture)
        if self.board is not None:
            self.board.add_image("samples", np.asarray(picture), step, dataformats="HWC")
        if self.model.has_encoder:
            self.draw_reconstructions(step, note)

    def draw_reconstructions(self, step: int, note: str) -> None:
        """Write the grid of test images and what the model makes of them."""
        title = f"Reconstructions   z {'= mu' if self.config.reconstruct_from == 'mean' else 'sampled'}"
        pair = figures.pairs(self.originals, self.rebuilt(), 8, title, note, "rebuilt")
        save_image(self.folder.reconstructions / figures.step_name(step), pair)
        if self.board is not None:
            self.board.add_image("reconstructions", np.asarray(pair), step, dataformats="HWC")

    def log(self, line: dict[str, Any]) -> None:
        """Pass a line of metrics on to TensorBoard."""
        if self.board is not None:
            for name, value in line.items():
                if name not in ("step", "seconds"):
                    self.board.add_scalar(name, value, line["step"])

    def summarise(self, elapsed: float, *, final: bool = False) -> None:
        """Renew curves.png and convergence.gif: at the end, and earlier while it costs little of the ``elapsed`` seconds."""
        if not final and self.spent > SHARE * elapsed - 1.0:
            return
        start = time.perf_counter()
        if self.config.curves:
            title = f"{self.name} · {self.folder.path.name}"
            pixels = self.model.system == "vae"
            gate = (self.config.equilibrium, self.config.margin) if self.config.gate else None
            figures.write_curves(read_metrics(self.folder.metrics), self.folder.curves, title, gate, pixels=pixels)
        if self.config.animation:
            figures.write_animation(self.folder.samples, self.folder.animation)
        self.spent += time.perf_counter() - start
        if final and self.board is not None:
            self.board.close()


def held_out(dataset: Any) -> np.ndarray:
    """Indices of images that were not trained on: test, else validation; the training images where there are no others."""
    for split in ("test", "validation", "train"):
        indices = dataset.split(split)
        if len(indices):
            return np.asarray(indices)
    raise UserError(f"{dataset.name}: no images")
