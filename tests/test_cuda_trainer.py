"""The training loop's own part of a step on the CUDA engine (CUDA C emulated): batch, noise, rate and counter of every step are the
NumPy engine's, in a whole run and in one that is stopped and resumed. The model's part is in test_cuda_step."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_check import relative_error, tolerance

import kernels
from models.networks import NetworkSpec
from vaegan_kernels.data import Dataset
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.config import Config

SPEC = NetworkSpec("tiny", 16, 3, 8, (8, 8, 8), 8, (8, 8, 8, 8), (8, 8, 8, 8), 8, metric=3)
STEPS = 6  # of two images each, of five in an epoch: two steps an epoch
CONFIG = Config(batch_size=2, steps=STEPS, seed=1 << 40, learning_rate=1e-3, learning_rate_stop=1e-5, dis_noise=0.2, average=0.9)
SPLITS = np.array([0, 2, 0, 0, 1, 0, 0], np.uint8)
IMAGES = np.random.default_rng(5).integers(0, 256, (7, 16, 16, 3), np.uint8)


class Witness:
    """In the place of the model: keeps what each step was given."""

    def __init__(self, engine):
        self.engine, self.seen = engine, []

    def train_step(self, x, eps, z_p, objective, lr, *, noise, blend, batch):
        assert (eps.dtype, z_p.dtype, lr.dtype) == (self.engine.wide,) * 3 and x.dtype == self.engine.dtype
        self.seen.append([self.engine.to_numpy(a).copy() for a in (x, noise[0], eps, z_p, lr, noise[1], blend)])


def steps_of(engine, monkeypatch, first=0):
    """[(x, eps, z_p, lr)] of the steps from ``first`` on."""
    monkeypatch.setattr(Config, "network_spec", lambda self: SPEC)
    witness = Witness(engine)
    trainer = Trainer(CONFIG, engine, witness, Dataset("noise", IMAGES, SPLITS), None, step=first)
    while trainer.step < STEPS:
        trainer.train_step()
    assert int(engine.to_numpy(trainer.counter)[0]) == STEPS
    return witness.seen


@pytest.fixture(params=["float32", "bf16"])
def cuda(request):
    from conftest import emulated

    return emulated(request.param)


def test_every_step_is_given_what_the_numpy_engine_gives(cuda, monkeypatch):
    expected, got = steps_of(kernels.engine("cpu"), monkeypatch), steps_of(cuda, monkeypatch)
    assert len(got) == len(expected) == STEPS
    for one, two in zip(got, expected, strict=True):
        limits = *[tolerance(cuda.precision, "act")] * 2, 1e-6, 1e-6, 0.0, 0.0, 0.0
        for array, reference, limit in zip(one, two, limits, strict=True):
            assert relative_error(array, reference) <= limit
    for at, first in ((4, 1e-3), (5, 0.2), (6, 0.9)):  # the rate, the noise's deviation, the average's share: all fall
        values = [float(step[at][0]) for step in got]
        assert values[0] == np.float32(first) and sorted(values, reverse=True) == values and len(set(values)) == STEPS
    batches = {x.tobytes() for x, *_ in got}
    assert len(batches) == STEPS, "two steps were given the same batch"


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_resumed_run_is_given_the_same(cuda, monkeypatch, first):
    whole, rest = steps_of(cuda, monkeypatch), steps_of(cuda, monkeypatch, first)
    assert len(rest) == STEPS - first
    for one, two in zip(rest, whole[first:], strict=True):
        assert [a.tobytes() for a in one] == [a.tobytes() for a in two]
