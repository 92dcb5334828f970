"""The training loop on the CUDA engine's own code, Triton interpreted and CUDA C emulated: the NumPy engine's run, stopped and resumed too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from gradcheck import relative_error

import kernels
from models.networks import NetworkSpec
from models.vaegan import VAEGAN
from vaegan_kernels import checkpoint
from vaegan_kernels.config import Config
from vaegan_kernels.data import Dataset
from vaegan_kernels.inference import Model
from vaegan_kernels.metrics import read_metrics
from vaegan_kernels.progress import Progress
from vaegan_kernels.run_folder import RunFolder
from vaegan_kernels.trainer import Trainer

TINY = NetworkSpec("tiny", 16, 3, 8, (16, 16, 32), 32, (32, 16, 16, 16), (16, 16, 32, 32), 24, metric=3)
STEPS = 4  # of two images each: the epoch of five images ends behind the second
CONFIG = Config(batch_size=2, steps=STEPS, log_every=2, draw_every=100, save_every=100, gamma=0.05, learning_rate=1e-3, gate=False)
LIMIT = 1e-4


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(Config, "network_spec", lambda self: TINY)


def discs():
    random = np.random.default_rng(5)
    splits = np.array([0, 2, 0, 0, 1, 0, 0], np.uint8)
    return Dataset("discs", random.integers(0, 256, (7, 16, 16, 3), np.uint8), splits)


def train(engine, folder, *, stop_after=None):
    """A run in ``folder``, from its checkpoint if it has one."""
    folder = RunFolder(folder)
    folder.create()
    model, step = VAEGAN(engine, TINY, seed=3), 0
    if folder.checkpoint.exists():
        step = checkpoint.read_header(folder.checkpoint).step
        model.load_state(checkpoint.read_arrays(folder.checkpoint, model.state_arrays()))
    trainer = Trainer(CONFIG, engine, model, discs(), folder, step=step)
    with Progress(STEPS, step, quiet=True) as progress:
        assert trainer.run(stop_after, progress) is None
    return model, folder


def state_of(model):
    return {name: model.engine.to_numpy(array).copy() for name, array in model.state_arrays().items()}


@pytest.fixture(scope="module")
def runs(cuda32, tmp_path_factory):
    """The same run on both engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "network_spec", lambda self: TINY)
        return [train(engine, tmp_path_factory.mktemp(engine.name)) for engine in (kernels.engine("cpu"), cuda32)]


def test_a_run_is_the_numpy_engines(runs):
    """Batches, mirrors, noise, rates, losses, updates: state and metrics of the whole run."""
    (reference, folder), (model, other) = runs
    expected, got = state_of(reference), state_of(model)
    start = state_of(VAEGAN(kernels.engine("cpu"), TINY, seed=3))
    for name, array in expected.items():
        if np.any(array):
            assert relative_error(got[name], array) < LIMIT, name
        if name.startswith("parameters/"):
            assert not np.array_equal(array, start[name]), f"{name} stood still"
    lines, others = read_metrics(folder.metrics), read_metrics(other.metrics)
    assert [line["step"] for line in lines] == [line["step"] for line in others] == [1, 2, 4]
    for line, twin in zip(lines, others, strict=True):
        for key in line.keys() - {"seconds", "images_per_second"}:
            assert twin[key] == pytest.approx(line[key], rel=LIMIT), key


def test_stopped_and_resumed_gives_the_same_bits(cuda32, runs, tmp_path):
    train(cuda32, tmp_path, stop_after=1)
    model, folder = train(cuda32, tmp_path)
    assert checkpoint.read_header(folder.checkpoint).step == STEPS
    expected, got = state_of(runs[1][0]), state_of(model)
    for name, array in expected.items():
        assert got[name].tobytes() == array.tobytes(), name


def test_a_trained_model_gives_numpy_arrays(runs):
    header = checkpoint.Header(STEPS, CONFIG, "", "")
    reference, model = (Model(network, TINY, header) for network, _ in runs)
    images = discs().images[:3]
    for got, expected in (
        (model.encode(images)[0], reference.encode(images)[0]),
        (model.sample(2, seed=1), reference.sample(2, seed=1)),
        (model.reconstruct(images), reference.reconstruct(images)),
        (model.discriminate(images), reference.discriminate(images)),
    ):
        assert isinstance(got, np.ndarray) and got.dtype == np.float32
        assert relative_error(got, expected) < 10 * LIMIT
    assert json.dumps(model.engine.describe())
