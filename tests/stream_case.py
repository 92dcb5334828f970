"""Devices of which copies and launches come at the worst time, and a trainer whose model writes down what it is given."""

from __future__ import annotations

import threading

import numpy as np

from kernels.cpu.engine import CPUEngine
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.device.host.streams import HostStream, LaunchStream
from kernels.cuda.device.ring import Ring
from kernels.engine import OutOfMemory
from models.networks import NetworkSpec
from vaegan_kernels.data import Dataset
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.config import Config

SPEC = NetworkSpec("tiny", 16, 3, 8, (8, 8, 8), 8, (8, 8, 8, 8), (8, 8, 8, 8), 8, metric=3)
BATCH, PER_EPOCH, STEPS = 2, 21, 34  # an epoch is no multiple of the ring
RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (60, 16, 16, 3), np.uint8)
SPLITS = np.resize(np.array([0, 2, 0, 0, 1, 0, 0], np.uint8), 60)
ATTRIBUTES = RANDOM.standard_normal((60, 2)).astype(np.float32)


class LateDevice(HostDevice):
    """Recorded launches are made when somebody waits for them. ``early``: copies are made as soon as they may; else late, too."""

    def __init__(self, early, **options):
        super().__init__(**options)
        self.stream, self.early, self.inside = HostStream(), early, None

    def new_stream(self):
        return LaunchStream() if self.early else HostStream()

    def record(self, body):
        def run():
            self.inside = threading.get_ident()
            body()
            self.inside = None

        return lambda: self.stream.add(run)

    def synchronize(self):
        if self.inside != threading.get_ident():
            self.stream.synchronize()

    def _put(self, array, values):
        self.synchronize()
        super()._put(array, values)

    def _download(self, array):
        self.synchronize()
        return super()._download(array)


DEVICES = {
    "copies are late": HostDevice,
    "launches are late": lambda **options: LateDevice(True, **options),
    "both are late": lambda **options: LateDevice(False, **options),
}


class GPUOnTheCPU(CPUEngine):
    """To the application a GPU: computes as the CPU does, in a whole run, and has a ring. ``full``: it has no room for a data set."""

    def __init__(self, full=False):
        super().__init__("float32", 1)
        self.name, self.host_memory, self.full, self.device = "cuda", False, full, HostDevice()

    def upload_images(self, images):
        if self.full:
            raise OutOfMemory(3 << 30, 200 << 20)
        return np.array(images)

    def ring(self, slots, shape):
        return Ring(self.device, slots, shape)

    def describe(self):
        return {"device": "a fine GPU"}


class Witness:
    """In the place of the model."""

    def __init__(self, engine):
        self.engine, self.seen = engine, []

    def train_step(self, x, eps, z_p, objective, lr, *given, batch):
        self.seen.append([self.engine.to_numpy(a).tobytes() for a in (x, eps, lr, *given)])


def seen_of(engine, monkeypatch, first=0, **settings):
    """What each step from ``first`` on is given, as bytes; the thread has ended."""
    monkeypatch.setattr(Config, "network_spec", lambda self: SPEC)
    config = Config(**{"batch_size": BATCH, "steps": STEPS, "seed": 1 << 40, **settings})
    witness = Witness(engine)
    trainer = Trainer(config, engine, witness, Dataset("noise", IMAGES, SPLITS, ATTRIBUTES, ("A", "B")), None, step=first)
    assert trainer.per_epoch == PER_EPOCH
    try:
        while trainer.step < STEPS:
            trainer.train_step()
        engine.synchronize()
    finally:
        trainer.feed.close()
    assert trainer.feed.streamed == bool(settings.get("stream")) and len(witness.seen) == (STEPS - first) * config.accumulate
    return witness.seen
