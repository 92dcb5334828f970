"""The training loop: batches, steps, losses, checkpoints, pictures, signals.

Step k (from 0) is a pure function of the state before it and of (seed, k), so a resumed run is the same run: the order of
an epoch, mirrors and noise come from the counter-based generator, and the state is in the checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kernels import Engine, philox
from models.objective import LOSSES
from models.optimizers import average_decay, learning_rate
from models.vaegan import VAEGAN
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.files import quoted
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.feed import Feed
from vaegan_kernels.runs.inference import EXAMPLES
from vaegan_kernels.runs.metrics import append_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.cli import describe_os_error, disk_full
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import StopRequest
from vaegan_kernels.shell.job import Job
from vaegan_kernels.shell.progress import Progress

EXAMPLES_KEPT = 256  # rows of training images' attributes that a conditional checkpoint keeps, to sample with


def examples_of(config: Config, dataset: Dataset) -> np.ndarray | None:
    """float32 [<= 256, A], attributes of training images, evenly chosen; None for an unconditional run."""
    if not config.condition:
        return None
    train = dataset.split("train")
    count = min(EXAMPLES_KEPT, len(train))
    return np.asarray(dataset.attributes_of(config.condition)[train[np.arange(count) * len(train) // count]])


class Trainer:
    """Trains ``model`` on ``dataset`` in ``folder``; see `run`."""

    def __init__(
        self, config: Config, engine: Engine, model: VAEGAN, dataset: Dataset, folder: RunFolder, *,
        step: int = 0, seconds: float = 0.0, listener: Any = None, resume: Path | None = None, job: Job | None = None,
    ) -> None:  # fmt: skip
        self.job = job or Job()
        spec = config.network_spec()
        self.config, self.engine, self.model, self.dataset, self.folder = config, engine, model, dataset, folder
        self.step = step  # steps done
        self.steps: int = config.steps or 0
        self.seconds = seconds  # of training, earlier parts of the run included
        self.resume = resume  # the folder that --resume is given, where it is not the run's own
        self.listener = listener  # a vaegan_kernels.pictures.artist.Artist, or None: draws
        self.train = dataset.split("train")
        self.per_epoch = len(self.train) // config.step_images
        self.objective = config.objective()
        self.first, n = engine.shard(config.batch_size)  # of each batch's images, those of this process
        self.order_of = functools.lru_cache(2)(self.epoch_order)  # two: the thread that reads images is ahead
        self.feed = Feed(engine, dataset.images, (config.accumulate, n), self.batch_indices, config.stream)
        shape, noise = (n, spec.image_size, spec.image_size, spec.channels), (n, spec.latent)
        self.x, self.eps, self.z_p = engine.empty(shape), engine.empty(noise, engine.wide), engine.empty(noise, engine.wide)
        # For each batch of a step the images that are here, in all steps of an epoch
        self.order, self.order_epoch = [engine.empty((self.per_epoch * n,), np.int32) for _ in range(config.accumulate)], -1
        self.counter = engine.empty((1,), np.int64)
        self.schedules: list[tuple[Any, Any]] = []  # of each number that changes from step to step: an array [1] of it, all its values
        self.lr = self.schedule(self.rate)
        self.place_attributes()
        self.place_options()
        engine.put(self.counter, [step])
        self.replay = engine.record(self.step_body)
        self.clock, self.saved = 0.0, step
        self.told: set[str] = set()  # what could not be drawn
        self.speed_from = (time.perf_counter(), step)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """int64 [steps, batches of a step, N]: the images of an epoch that are here."""
        order = philox.permutation(len(self.train), seed=self.config.seed, step=epoch, stream=philox.STREAM_SHUFFLE)
        images = self.train[order][: self.per_epoch * self.config.step_images].reshape(self.per_epoch, self.config.accumulate, -1)
        return np.ascontiguousarray(images[:, :, self.first : self.first + len(self.x)])

    def batch_indices(self, step: int) -> np.ndarray:
        """int64: the images of a step's batches that are here, one batch behind the other."""
        return np.asarray(self.order_of(step // self.per_epoch)[step % self.per_epoch].reshape(-1))

    def place_attributes(self) -> None:
        """Of a conditional run the attributes of all images, wide [n, A], where batches are gathered from, and those of a batch."""
        self.given: tuple[Any, ...] = ()  # what the model's step is given besides
        names = self.config.condition
        if names:
            self.table = self.engine.asarray(self.dataset.attributes_of(names), self.engine.wide)
            self.given = (self.engine.empty((len(self.x), len(names)), self.engine.wide),)

    def place_options(self) -> None:
        """What else the model's step is given: noise for Dis, its deviation falling in a line to 0; the share by which averages move."""
        config, (n, *size) = self.config, self.x.shape
        self.options: dict[str, Any] = {}
        if config.dis_noise:
            deviation = self.schedule(lambda k: config.dis_noise * (1 - k / self.steps))
            self.options["noise"] = self.engine.empty((3 * n, *size)), deviation
        if config.average:
            self.options["blend"] = self.schedule(lambda k: 1 - average_decay(k, config.average))

    def schedule(self, value: Callable[[int], float]) -> Any:
        """A wide array [1] that is ``value(k)`` in step k."""
        number = self.engine.empty((1,), self.engine.wide)
        self.schedules.append((number, self.engine.asarray([value(k) for k in range(self.steps)], self.engine.wide)))
        return number

    def run(self, stop_after: int | None, progress: Progress) -> int | None:
        """Train up to ``stop_after`` (or to the end) and save; the schedule follows the configuration's steps.

        Returns: None, or the number of the signal that ended it early. Raises `UserError` for a loss that is not finite
        (the last good checkpoint is kept) and for a disk that is full.
        """
        end = min(self.steps, stop_after or self.steps)
        config = self.config
        with warnings.catch_warnings(), contextlib.closing(self.feed), StopRequest(progress) as request:
            warnings.simplefilter("ignore", RuntimeWarning)  # an overflow is found below and reported in one line
            self.clock = time.perf_counter()
            self.speed_from = (self.clock, self.step)
            while self.step < end and not self.signal_of(request):
                self.train_step()
                if self.step == 1 or self.step % config.log_every == 0 or self.step == self.steps:
                    self.log(progress)
                progress.advance(self.step)
                draw = self.step % (config.draw_every or 1) == 0 or self.step == end
                save = self.step % (config.save_every or 1) == 0
                if draw or save:
                    self.engine.synchronize()  # the steps that a GPU still has to do are training time
                paused = time.perf_counter()
                if draw:
                    self.check_finite()  # on all processes, whichever draws: all end with what it finds
                    if self.listener is not None:
                        self.shown(progress.note, self.listener.draw, self.step)
                if save:
                    self.save()
                    if self.listener is not None:
                        self.shown(progress.note, self.listener.summarise, self.elapsed())
                self.speed_from = (self.speed_from[0] + time.perf_counter() - paused, self.speed_from[1])  # of training alone
            if self.saved != self.step:
                self.save()
            self.seconds, self.clock = self.elapsed(), 0.0
            return self.signal_of(request)

    def signal_of(self, request: StopRequest) -> int | None:
        """The signal that this process got, or another one; or None."""
        return self.job.largest(request.signal or 0) or None

    def train_step(self) -> None:
        """One step of the system on the next batch; ``step`` grows by one."""
        epoch = self.step // self.per_epoch
        if self.order_epoch != epoch:
            for batch, own in enumerate(self.order):
                self.engine.put(own, self.order_of(epoch)[:, batch].reshape(-1))
            self.order_epoch = epoch
        self.guarded(self.feed.step, self.step, self.replay)
        self.step += 1

    def step_body(self) -> None:
        """Step ``counter`` on the device: batch, noise, rate, losses and gradients, updates. The same launches each time: what changes from
        step to step is in device arrays, so that an engine can record it once and replay it."""
        for number, values in self.schedules:
            self.engine.look_up_rate(number, values, self.counter)
        for batch in range(self.config.accumulate):
            self.batch_body(batch)
        self.engine.advance(self.counter)

    def batch_body(self, batch: int) -> None:
        """Number ``batch`` of the step's batches. All that is drawn depends on an image's number in the step, whichever process has it."""
        eng, seed, n = self.engine, self.config.seed, len(self.x)
        order, first = self.order[batch], batch * self.config.batch_size + self.first
        images, places, cycle = self.feed.gathered(order, self.per_epoch, batch)
        options: dict[str, Any] = {"per_epoch": cycle, "seed": seed, "flip": self.config.flip, "first": first}
        if self.config.augmentation is None:
            eng.gather_batch(self.x, images, places, self.counter, **options)
        else:
            eng.augment_batch(self.x, images, places, self.counter, strengths=self.config.augmentation, **options)
        for rows, stream in ((self.eps, philox.STREAM_EPS), (self.z_p, philox.STREAM_PRIOR)):
            eng.normal(rows, seed=seed, step=self.counter, stream=stream, start=first * rows.shape[1])
        for attributes in self.given:
            eng.gather_rows(attributes, self.table, order, self.counter, per_epoch=self.per_epoch)
        if "noise" in self.options:
            draws, images_of_all = self.options["noise"][0], self.config.step_images
            rows = n if n < images_of_all else 3 * n  # of X, X_p and X̃; where all images are here these lie together in the draw too
            for part in range(3 * n // rows):
                start = (part * images_of_all + first) * (draws.size // len(draws))
                own = draws[part * rows : (part + 1) * rows]
                eng.normal(own, seed=seed, step=self.counter, stream=philox.STREAM_DIS_NOISE, start=start)
        self.model.train_step(self.x, self.eps, self.z_p, self.objective, self.lr, *self.given, **self.options, batch=batch)

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        config = self.config
        return learning_rate(k, self.steps, start=config.learning_rate, stop=config.learning_rate_stop, epochs=config.schedule_epochs)

    def log(self, progress: Progress) -> None:
        """Append a line to metrics.jsonl and show it. The losses are those of the last step, per image."""
        self.check_finite()
        losses = self.model.fetch_losses()
        now = time.perf_counter()
        since, first = self.speed_from
        per_step = (now - since) / max(1, self.step - first)
        line: dict[str, Any] = {"step": self.step, "epoch": (self.step - 1) // self.per_epoch}
        names = self.model.loss_names
        line |= {name: losses[name] for name in names if name != "generator" or self.objective.generator_loss != "minimax"}
        line |= {f"{name}_update_rate": losses[f"{name}_updated"] for name in ("dec", "dis") if f"{name}_updated" in losses}
        line["learning_rate"] = self.rate(self.step - 1)
        line["images_per_second"] = round(self.config.step_images / max(per_step, 1e-9), 2)
        line["seconds"] = round(self.elapsed(), 3)
        if not self.job.speaks:
            return
        self.guarded(append_metrics, self.folder.metrics, line)
        if self.listener is not None:
            self.shown(progress.note, self.listener.log, line)
        progress.log(line, (self.steps - self.step) * per_step)
        self.speed_from = (time.perf_counter(), self.step)

    def check_finite(self) -> None:
        """Raise `UserError` naming the loss and the step if a loss of the last step is NaN or infinite."""
        values = self.engine.to_numpy(self.model.losses)
        for name, value in zip(LOSSES, values.tolist(), strict=True):
            if not math.isfinite(value):
                self.job.give_up(f"the loss {name!r} became {value} at step {self.step}; {self.last_good()}; try {self.advice()}")

    def advice(self) -> str:
        """What to change where numbers grew without bound."""
        return "a smaller --learning-rate" + (" or --gamma" if self.config.model == "vaegan" else "")

    def last_good(self) -> str:
        """Which checkpoint is left, in words."""
        if self.folder.checkpoint.exists():
            return f"the checkpoint of step {self.saved} is kept in {self.folder.path}"
        return "no checkpoint had been written yet"

    def save(self) -> None:
        """Write checkpoint.h5. Raises `UserError` where a number is not finite or the disk is full; the old file is kept then."""
        self.check_finite()
        self.job.check_same(lambda: {"weights with the checksum": self.checksum()})
        if not self.job.speaks:
            self.saved = self.step
            return
        arrays = {name: self.engine.to_numpy(array) for name, array in self.model.state_arrays().items()}
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(f"{name} is not finite after step {self.step}; {self.last_good()}; try {self.advice()}")
        examples = examples_of(self.config, self.dataset)
        if examples is not None:
            arrays[EXAMPLES] = examples
        data = self.dataset
        header = checkpoint.Header(
            self.step, self.config, data.fingerprint, data.name, attribute_names=tuple(data.attribute_names),
            seconds=round(self.elapsed(), 3),
        )  # fmt: skip
        self.guarded(checkpoint.save, self.folder.checkpoint, arrays, header)
        self.saved = self.step

    def checksum(self) -> int:
        """Of all parameters: several processes have the same ones to the last bit."""
        total = 0
        for p in self.model.parameters:
            total = zlib.crc32(np.ascontiguousarray(self.engine.to_numpy(p.data)).data, total)
        return total

    def guarded(self, write: Any, *arguments: Any) -> None:
        """Call what reads or writes; an error of a disk becomes a `UserError` that says which checkpoint is left and how to resume."""
        try:
            write(*arguments)
        except OSError as error:
            then = "make room, then " if disk_full(error) else ""
            resume = f"; {then}--resume {quoted(self.resume or self.folder.path)}" if self.folder.checkpoint.exists() else ""
            what = describe_os_error(error).split(";")[0]
            raise UserError(f"step {self.step}: {what}; {self.last_good()}{resume}") from None

    def shown(self, say: Callable[[str], None], draw: Any, *arguments: Any) -> None:
        """`guarded` for something that draws: any other failure than a full disk's is told in a line, once, and the run goes on."""
        try:
            self.guarded(draw, *arguments)
        except UserError:
            raise
        except Exception as error:
            line = f"a picture is not drawn ({type(error).__name__}: {' '.join(str(error).split())[:160]}); the run goes on"
            if line not in self.told:
                self.told.add(line)
                say(line)

    def elapsed(self) -> float:
        """Seconds of training so far."""
        return self.seconds + (time.perf_counter() - self.clock if self.clock else 0.0)
