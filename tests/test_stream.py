"""Images that are read ahead of the steps: the bits of a run that has them all on the GPU, whatever comes late; failures; the end."""

from __future__ import annotations

import dataclasses
import errno
import json
import mmap
import threading
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from app_case import TINY, assert_same_run, call, one_line, write_tiny
from conftest import emulated
from stream_case import BATCH, DEVICES, IMAGES, PER_EPOCH, SPLITS, STEPS, GPUOnTheCPU, Witness, seen_of

import kernels
from kernels import OutOfMemory
from kernels.cuda.device.ring import Ring
from models.regressor import Regressor
from vaegan_kernels import train
from vaegan_kernels.runs import feed
from vaegan_kernels.runs.feed import SLOTS, Feed, Reader, pages_of
from vaegan_kernels.runs.supervised import Schedule, train_steps
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError

KINDS = {
    "flips": {},
    "augmented": {"augment": True},
    "conditional": {"conditional": True, "attributes": "A,B", "flip": False},
    "two batches a step": {"batch_size": BATCH // 2, "accumulate": 2, "conditional": True, "attributes": "A,B"},
}
assert STEPS > PER_EPOCH > 2 * SLOTS and PER_EPOCH % SLOTS, "the ring turns twice in an epoch, and not just then"


@pytest.fixture(autouse=True)
def threads_end():
    yield
    assert not [thread for thread in threading.enumerate() if isinstance(thread, Reader)]


def engine_on(device):
    engine = emulated("float32")
    engine.device = DEVICES[device](chip=engine.device.chip)
    return engine


@pytest.fixture(scope="module")
def resident():
    """What the steps of each kind of run are given with all images on the device."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return {kind: seen_of(engine_on("copies are late"), monkeypatch, **settings) for kind, settings in KINDS.items()}


# ---- the same bits ----


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_given_the_same(kind, device, resident, monkeypatch):
    assert seen_of(engine_on(device), monkeypatch, stream=True, **KINDS[kind]) == resident[kind]
    assert len({x for x, *_ in resident[kind]}) >= STEPS


@pytest.mark.parametrize("first", [1, SLOTS + 2, PER_EPOCH - 1, PER_EPOCH + 4])
def test_a_run_is_resumed_within_an_epoch(first, resident, monkeypatch):
    assert seen_of(engine_on("both are late"), monkeypatch, first, stream=True) == resident["flips"][first:]


@pytest.mark.parametrize("device", DEVICES)
def test_a_slow_disk(device, resident, monkeypatch):
    rows = Trainer.batch_indices
    monkeypatch.setattr(Trainer, "batch_indices", lambda *a: time.sleep(0.004) or rows(*a))
    assert seen_of(engine_on(device), monkeypatch, stream=True) == resident["flips"]


def without(what):
    """A ring's constructor, after which ``what`` of it waits for nothing."""

    def change(ring, device, slots, shape, init=Ring.__init__):
        init(ring, device, slots, shape)
        if what == "host":
            ring.host = lambda slot: ring._host[slot]
        elif what == "copy":
            ring._stream.wait_event = lambda event: None
        else:
            setattr(ring, what, lambda slot: None)

    return change


NEEDED = {"host": "both are late", "wait": "copies are late", "release": "launches are late", "copy": "launches are late"}


@pytest.mark.parametrize(("what", "device"), NEEDED.items())
def test_each_wait_is_needed(what, device, resident, monkeypatch):
    """Without it some step is given other images, on the device that does what it should have waited for late."""
    monkeypatch.setattr(Ring, "__init__", without(what))
    assert seen_of(engine_on(device), monkeypatch, stream=True) != resident["flips"]


def test_a_slot_is_not_filled_before_its_step_is_launched(resident, monkeypatch):
    monkeypatch.setattr(Reader, "_may_fill", lambda self: time.sleep(0.001) or not self.ending)
    rows = Trainer.batch_indices
    monkeypatch.setattr(Trainer, "batch_indices", lambda self, step: rows(self, min(step, STEPS)))
    monkeypatch.setattr(Witness, "train_step", lambda *a, own=Witness.train_step, **k: time.sleep(0.01) or own(*a, **k))
    assert seen_of(engine_on("copies are late"), monkeypatch, stream=True) != resident["flips"]


# ---- where it is done ----


def feed_of(engine, stream=None):
    return Feed(engine, IMAGES, (1, BATCH), lambda step: np.arange(BATCH) + step, stream)


def test_what_does_not_fit_is_streamed(monkeypatch):
    assert not feed_of(GPUOnTheCPU()).streamed and feed_of(GPUOnTheCPU(), True).streamed and feed_of(GPUOnTheCPU(full=True)).streamed
    assert not feed_of(kernels.engine("cpu"), True).streamed, "a CPU reads them where they are"
    with pytest.raises(UserError, match="data set of 60 images needs 3.0 GB, 200.0 MB are free; .*--limit, leave --no-stream out, or"):
        feed_of(GPUOnTheCPU(full=True), False)


@pytest.mark.parametrize("stream", [None, False])
def test_images_that_leave_no_room_for_the_step(stream):
    engine, calls = GPUOnTheCPU(), []
    images = feed_of(engine, stream)

    def prepare(body):
        body()

    def body():
        calls.append(images.images is not None and images.streamed)
        if not images.streamed:
            raise OutOfMemory(1, 0)

    engine.prepare = prepare
    if stream is False:
        with pytest.raises(OutOfMemory):
            images.prepare(body)
    else:
        images.prepare(body)
    assert calls == ([False] if stream is False else [False, True])


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


def run(monkeypatch, discs, folder, *more, full=False):
    """A run of ten steps, seven an epoch, on what looks like a GPU."""
    monkeypatch.setattr(kernels, "engine", lambda *a, **k: GPUOnTheCPU(full))
    words = [*TINY[:-1], "cuda", "--no-animation", "--no-curves", "--draw-every", 100, "--steps", 10]
    return call(train.main, "--data", discs, "--out", folder, *words, *more)


def test_whole_runs(discs, tmp_path, monkeypatch, capfd):
    more = ("--augment", "--conditional")
    assert run(monkeypatch, discs, tmp_path / "resident", *more) == 0
    assert "read ahead" not in capfd.readouterr().out
    assert run(monkeypatch, discs, tmp_path / "streamed", "--stream", "--stop-after", 4, *more) == 0
    assert "images: read ahead of the steps, 8 steps' on the GPU\n" in capfd.readouterr().out
    with h5py.File(tmp_path / "streamed" / "checkpoint.h5", "r+") as file:  # as one from before there was the flag
        file.attrs["config"] = json.dumps({k: v for k, v in json.loads(file.attrs["config"]).items() if k != "stream"})
    monkeypatch.setattr(kernels, "engine", lambda *a, **k: GPUOnTheCPU(full=True))
    assert call(train.main, "--resume", tmp_path / "streamed") == 0
    assert "8 steps' on the GPU: not all fit there" in capfd.readouterr().out
    assert_same_run(tmp_path / "resident", tmp_path / "streamed")
    assert not json.loads((tmp_path / "streamed" / "config.json").read_text())["stream"]


def test_a_dry_run_counts_the_ring(monkeypatch):
    from vaegan_kernels.runs import estimate

    said = []
    monkeypatch.setattr("builtins.print", lambda *a, **k: said.append(str(a[0])))
    config = Config(batch_size=4, stream=True, device="cuda").with_data(100)
    monkeypatch.setattr(estimate, "rehearsal", lambda engine: None)
    estimate.print_estimate(config, config.network_spec(), GPUOnTheCPU(), SimpleNamespace(path="run", gan="gan"), "discs", 1000)
    assert "images (8 steps', read ahead) 96.0 KB" in "\n".join(said)


def test_the_regressor_streams_too():
    schedule, states = Schedule(steps=12, batch_size=4, learning_rate=1e-3, seed=3), []
    images, spec = np.repeat(np.repeat(IMAGES, 2, 1), 2, 2), Config().network_spec()
    for engine in (GPUOnTheCPU(), GPUOnTheCPU(full=True)):
        model = Regressor(engine, dataclasses.replace(spec), 2)
        known = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)
        train_steps(model, images, known, np.flatnonzero(SPLITS == 0), schedule, what="it", save=lambda step: None, every=12, quiet=True)
        states.append({p.name: p.data.tobytes() for p in model.parameters})
    assert states[0] == states[1]


# ---- failures, the end ----


def failing(monkeypatch, at, error):
    rows = Trainer.batch_indices

    def batch_indices(self, step):
        if step == at:
            raise error
        return rows(self, step)

    monkeypatch.setattr(Trainer, "batch_indices", batch_indices)


def test_a_disk_that_fails(discs, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(feed, "AHEAD", 0)
    failing(monkeypatch, 6, OSError(errno.EIO, "Input/output error", "discs.h5"))
    assert run(monkeypatch, discs, tmp_path / "run", "--stream", "--save-every", 4) == 2
    line = one_line(capfd.readouterr().err)
    assert "step 6: the images cannot be read (Input/output error) (discs.h5); the checkpoint of step 4 is kept" in line
    assert line.endswith(f"; --resume {tmp_path / 'run'}") and "room" not in line


@pytest.mark.parametrize("error", [UserError("a line"), MemoryError("much"), ValueError("a mistake")])
def test_other_errors_are_what_they_were(error, monkeypatch):
    failing(monkeypatch, 3, error)
    with pytest.raises(type(error), match=str(error)):
        seen_of(engine_on("copies are late"), monkeypatch, stream=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, UserError("the loss is not finite")])
def test_the_thread_ends_with_the_run(stop, discs, tmp_path, monkeypatch, capfd):
    """`threads_end` looks for it."""
    step, running = Trainer.train_step, []

    def train_step(self):
        step(self)
        if self.step == 3:
            running.append(self.feed.reader.is_alive())
            raise stop

    monkeypatch.setattr(Trainer, "train_step", train_step)
    assert run(monkeypatch, discs, tmp_path / "run", "--stream") == (130 if stop is KeyboardInterrupt else 2)
    assert running == [True]


def test_pages_are_asked_for():
    asked = []

    class Noted(mmap.mmap):
        def madvise(self, *what):
            asked.append(what)
            return super().madvise(*what)

    file = Noted(-1, 64 * mmap.PAGESIZE)
    images = np.ndarray((20, 64, 64, 3), np.uint8, file, 100)
    part = np.asarray(images)[2:]
    pages_of(part)(np.array([3, 0]))
    size, page = 64 * 64 * 3, mmap.PAGESIZE
    assert asked.pop(0) == (mmap.MADV_RANDOM,)
    for (what, start, count), row in zip(asked, (5, 2), strict=True):
        first = 100 + row * size
        assert what == mmap.MADV_WILLNEED and start % page == 0 and first - page < start <= first and start + count == first + size
    asked.clear()
    for memory in (np.array(images), part[:, ::2]):
        pages_of(memory)(np.array([3, 0]))
    assert not asked
