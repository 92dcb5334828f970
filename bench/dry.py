"""The launches of a whole training step, from the engine's own code on a device that executes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import philox
from kernels.augmentation import AUTHORS
from kernels.ranks.device import DeviceRanks
from kernels.ranks.engine import RankedEngine
from kernels.ranks.ranks import Ranks
from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN

DATA_SET = 1000  # images of the data set that the batches are gathered from; no launch depends on it


def step_body(
    engine: Any, model: VAEGAN, batch: int, objective: Objective, images: Any = None, *, augment: bool = False, dis_noise: bool = False
) -> Any:  # fmt: skip
    """What the trainer does in one step, batch and noise included, as a function of nothing; the images varied with ``augment``, those
    that Dis is shown with ``dis_noise``; an average moves where the model keeps one."""
    spec = model.spec
    shape = (batch, spec.image_size, spec.image_size, spec.channels)
    if images is None:
        images = engine.empty((DATA_SET, *shape[1:]), np.uint8)
    x, eps, z_p = engine.empty(shape), engine.empty((batch, spec.latent), engine.wide), engine.empty((batch, spec.latent), engine.wide)
    order, counter = engine.empty((len(images),), np.int32), engine.empty((1,), np.int64)
    rates, rate = engine.empty((100,), engine.wide), engine.empty((1,), engine.wide)
    noise = (engine.empty((3 * batch, *shape[1:])), engine.empty((1,), engine.wide)) if dis_noise else None
    blend = engine.empty((1,), engine.wide)
    attributes = all_attributes = None
    if spec.attributes:
        attributes = engine.empty((batch, spec.attributes), engine.wide)
        all_attributes = engine.empty((len(images), spec.attributes), engine.wide)

    def body() -> None:
        options = {"per_epoch": len(images) // batch, "seed": 0, "flip": True}
        if augment:
            engine.augment_batch(x, images, order, counter, strengths=AUTHORS, **options)
        else:
            engine.gather_batch(x, images, order, counter, **options)
        if attributes is not None:
            engine.gather_rows(attributes, all_attributes, order, counter, per_epoch=len(images) // batch)
        engine.normal(eps, seed=0, step=counter, stream=philox.STREAM_EPS)
        engine.normal(z_p, seed=0, step=counter, stream=philox.STREAM_PRIOR)
        engine.look_up_rate(rate, rates, counter)
        if noise:
            engine.normal(noise[0], seed=0, step=counter, stream=philox.STREAM_DIS_NOISE)
        model.train_step(x, eps, z_p, objective, rate, attributes, noise=noise, blend=blend if model.followed else 1.0)
        engine.advance(counter)

    return body


class OneOf(Ranks):
    """Process ``rank`` of ``size``, where there are no others: for a device that executes nothing."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    def exchange(self, value: Any) -> list[Any]:
        return [value] * self.size

    def largest(self, number: int) -> int:
        return number


def shared(engine: Any, rank: int, size: int, images: int) -> RankedEngine:
    """``engine``, on a device that executes nothing, as that of process ``rank`` of ``size`` that share ``images`` a step."""
    return RankedEngine(engine, DeviceRanks(OneOf(rank, size), engine.device), images)


def infer(model: VAEGAN, batch: int) -> None:
    """Encode, decode and judge a batch."""
    spec = model.spec
    images = np.zeros((batch, spec.image_size, spec.image_size, spec.channels), np.float32)
    attributes = np.zeros((batch, spec.attributes), np.float32) if spec.attributes else None
    model.encode(images, attributes)
    model.decode(np.zeros((batch, spec.latent), np.float32), attributes)
    model.discriminate(images, attributes)


def record_step(engine: Any, name: str, batch: int, objective: Objective | None = None, *, inference: bool = False) -> list[Any]:
    """The launches of one step of network ``name`` once every buffer is allocated, in order; with ``inference``, then those of
    encoding, decoding and judging a batch."""
    model = VAEGAN(engine, network(name), seed=0)
    body = step_body(engine, model, batch, objective or Objective())
    body()  # allocates every buffer, as a run's first step does
    engine.device.launches, engine.device.collectives = [], []
    body()
    if inference:
        infer(model, batch)
    launches, engine.device.launches = engine.device.launches, []
    return launches
