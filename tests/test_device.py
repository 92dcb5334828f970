"""What the application does about the device: what it says of it, a GPU that is full, runs that change device or number format."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, assert_same_run, call, command, one_line, tree, write_tiny

import kernels
from kernels import OutOfMemory
from kernels.cpu.engine import CPUEngine
from models.memory import Pool
from models.networks import NetworkSpec
from models.objective import Objective
from models.vaegan import VAEGAN
from vaegan_kernels import data
from vaegan_kernels.runs import checkpoint, estimate
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings import options
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.progress import Progress
from vaegan_kernels.train import main

QUICK = ("--no-animation", "--no-curves", "--draw-every", 100)
SMALL = NetworkSpec("tiny", 16, 3, 8, (8, 8, 16), 16, (16, 8, 8, 8), (8, 8, 16, 16), 12, metric=3)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")


@pytest.fixture(scope="module")
def stopped(packed, tmp_path_factory):
    """A float32 run of four steps, stopped after two."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    done = command("--data", packed, "--out", out, "--steps", 4, "--stop-after", 2, *QUICK, *TINY)
    assert done.returncode == 0, done.stderr
    return out


def as_if_in(precision, run, folder):
    """A copy of a run whose files say that it was made in another number format; its arrays are float32, as they would be."""
    shutil.copytree(run, folder)
    with h5py.File(folder / "checkpoint.h5", "r+") as file:
        config = json.loads(file.attrs["config"]) | {"precision": precision}
        file.attrs["config"] = json.dumps(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# ---- which device ----


class FakeGPU(CPUEngine):
    """As far as the application can see, a GPU."""

    def __init__(self, precision):
        super().__init__("float32")
        self.name, self.precision, self.notice = (
            "cuda",
            "bf16" if precision == "auto" else precision,
            "old: float32" * (precision == "float32"),
        )

    def describe(self):
        return {"device": "a fine GPU"}


def with_gpu(monkeypatch, error=None):
    """`kernels.engine` finds a GPU, or ``error``."""
    real = kernels.engine

    def engine(device="cpu", precision="float32", threads=None, **options):
        if device == "cuda" and error is not None:
            raise error
        return FakeGPU(precision) if device == "cuda" else real(device, precision, threads, **options)

    monkeypatch.setattr(kernels, "engine", engine)


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("auto", "auto", "device: cuda, a fine GPU, bf16 (--device auto found a GPU)"),
        ("cuda", "tf32", "device: cuda, a fine GPU, tf32"),
        ("cuda", "float32", "device: cuda, a fine GPU, float32; old: float32"),
        ("auto", "float64", "float64 (no GPU has --precision float64)"),
        ("cpu", "auto", "float32"),
    ],
)
def test_the_device_is_said_in_a_line(monkeypatch, device, precision, expected):
    with_gpu(monkeypatch)
    engine, line = options.open_engine(Config(device=device, precision=precision))
    assert engine.name == ("cuda" if "cuda" in expected else "cpu")
    assert line.startswith("device: ") and line.endswith(expected) and "\n" not in line


@pytest.mark.parametrize(
    ("error", "device", "precision", "expected"),
    [
        (RuntimeError("device cuda: no driver; install one"), "auto", "auto", "device: cpu"),
        (
            RuntimeError("device cuda: no driver; install one"),
            "cuda",
            "auto",
            "--device cuda: no driver; install one, or use the CPU (--device cpu)",
        ),
        (
            RuntimeError("device cuda: no driver; install one"),
            "auto",
            "bf16",
            "bf16 needs a GPU and the device is cpu (no CUDA: no driver)",
        ),
        (ValueError("precision: got 'bf16', but it has only float32"), "auto", "bf16", "--device cuda: precision: got 'bf16'"),
    ],
)
def test_a_gpu_that_cannot_be_used(monkeypatch, error, device, precision, expected):
    """Only ``auto`` chooses, and never against a precision that was asked for."""
    with_gpu(monkeypatch, error)
    try:
        engine, text = options.open_engine(Config(device=device, precision=precision))
        assert engine.name == "cpu" and "(no CUDA: no driver)" in text
    except UserError as refused:
        text = str(refused)
    assert expected in text


def test_device_json(stopped):
    about = json.loads((stopped / "device.json").read_text())
    assert about["device"] == "cpu" and about["precision"] == "float32" and about["threads"] >= 1
    assert about["versions"]["numpy"] == np.__version__


# ---- a GPU that is full ----


def full(needed=3 << 30, free=200 << 20):
    def raiser(*args, **options):
        raise OutOfMemory(needed, free)

    return raiser


def test_images_that_do_not_fit(packed, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(CPUEngine, "upload_images", full())
    assert call(main, "--data", packed, "--out", tmp_path / "run", "--steps", 2, *TINY) == 2
    line = one_line(capfd.readouterr().err)
    assert "the data set of 40 images needs 3.0 GB, 200.0 MB are free" in line and "--limit" in line and "--device cpu" in line


@pytest.mark.parametrize("dry", [False, True])
def test_a_step_that_does_not_fit(packed, tmp_path, monkeypatch, capfd, dry):
    monkeypatch.setattr(Pool, "take", full())
    assert call(main, "--data", packed, "--out", tmp_path / "run", "--steps", 2, *(["--dry-run"] if dry else []), *TINY) == 2
    line = one_line(capfd.readouterr().err)
    for text in ("out of GPU memory", "needs 3.0 GB, 200.0 MB are free", "--batch-size below 4", "--precision bf16", "--device cpu"):
        assert text in line
    assert "--network" not in line, "there is none smaller"


def test_commands_on_a_full_gpu(stopped, tmp_path, monkeypatch, capfd):
    from vaegan_kernels import sample

    monkeypatch.setattr(Pool, "take", full())
    assert call(sample.main, stopped, "--out", tmp_path / "a.png") == 2
    assert "out of GPU memory" in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == {}


def test_commands_take_a_device(stopped, tmp_path, monkeypatch, capfd):
    from vaegan_kernels import sample

    with_gpu(monkeypatch, RuntimeError("device cuda: no driver; install one"))
    assert call(sample.main, stopped, "--device", "cuda", "--out", tmp_path / "a.png") == 2
    assert "--device cuda: no driver" in one_line(capfd.readouterr().err)
    assert call(sample.main, stopped, "--device", "cdua", "--out", tmp_path / "a.png") == 2
    assert "did you mean cuda?" in one_line(capfd.readouterr().err)
    assert call(sample.main, stopped, "--device", "auto", "--count", 1, "--out", tmp_path / "a.png") == 0


# ---- another number format ----


def test_a_run_of_another_number_format_goes_on(packed, stopped, tmp_path, capfd):
    """bf16 and tf32 runs keep float32 numbers: on the CPU they continue in float32, when that is asked for, and it is said."""
    straight, asked, auto = tmp_path / "straight", as_if_in("bf16", stopped, tmp_path / "a"), as_if_in("tf32", stopped, tmp_path / "b")
    shutil.copytree(stopped, straight)
    assert call(main, "--resume", straight, "--quiet") == 0
    capfd.readouterr()
    assert call(main, "--resume", asked) == 2
    assert "--precision bf16 needs a GPU" in one_line(capfd.readouterr().err)
    for folder, precision, before in ((asked, "float32", "bf16"), (auto, "auto", "tf32")):
        assert call(main, "--resume", folder, "--precision", precision) == 0
        captured = capfd.readouterr()
        assert f"float32; until now the run was in {before}" in captured.out
        assert_same_run(folder, straight)
        assert json.loads((folder / "config.json").read_text())["precision"] == "float32"
    assert call(main, "--resume", straight) == 0
    assert "until now" not in capfd.readouterr().out


@pytest.mark.parametrize(("stored", "asked"), [("float32", "float64"), ("float64", "float32"), ("float64", "bf16")])
def test_float64_is_another_run(stopped, tmp_path, capfd, stored, asked):
    folder = as_if_in(stored, stopped, tmp_path / "run")
    assert call(main, "--resume", folder, "--precision", asked) == 2
    assert f"--precision: got {asked}, but the run in {folder} has {stored}" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_checkpoint_moves_between_engines(tmp_path, precision):
    """CPU → CUDA (its own code, on the host) → CPU: the same bits, and the operands' copies follow."""
    cuda_engine = pytest.importorskip("kernels.cuda.engine", reason="Triton is not installed (Linux only)")
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA C kernels for the host")
    cpu, cuda = kernels.engine("cpu"), cuda_engine.emulated_engine(precision)
    models = [VAEGAN(eng, SMALL, seed=seed) for seed, eng in enumerate((cpu, cuda, cpu))]
    x, eps, z_p = np.zeros((2, 16, 16, 3), np.float32), *np.random.default_rng(0).standard_normal((2, 2, 8)).astype(np.float32)
    models[0].train_step(x, eps, z_p, Objective(gate=False), 1e-3)
    path = tmp_path / "checkpoint.h5"
    for source, target in zip(models, models[1:], strict=False):
        arrays = {name: source.engine.to_numpy(a) for name, a in source.state_arrays().items()}
        checkpoint.save(path, arrays, checkpoint.Header(1, Config(precision=source.engine.precision), "", ""))
        target.load_state(checkpoint.read_arrays(path, target.state_arrays()))
    for name, array in models[0].state_arrays().items():
        assert np.array_equal(array, models[2].state_arrays()[name]), name
    for p in models[1].parameters:
        assert (p.compute is not p.data) == (precision == "bf16" and len(p.shape) > 1), p.name
        master = cuda.to_numpy(p.data)
        assert (np.abs(cuda.to_numpy(p.compute) - master) <= 2**-8 * np.abs(master)).all(), p.name


# ---- time and memory ----


class Slow(CPUEngine):
    """Steps are done later, 0.2 s each, as by a GPU that is given them faster than it works."""

    def record(self, body):
        self.waiting = 0

        def replay():
            body()
            self.waiting += 1

        return replay

    def synchronize(self):
        time.sleep(0.2 * getattr(self, "waiting", 0))
        self.waiting = 0

    def to_numpy(self, array):
        self.synchronize()
        return super().to_numpy(array)


def test_images_per_second_of_a_device_that_runs_behind(packed, tmp_path):
    """Waiting for steps counts as training, even where a checkpoint is written first."""
    engine = Slow("float32", 1)
    config = Config(batch_size=4, steps=6, log_every=3, save_every=1, draw_every=100, precision="float32")
    dataset = data.load_dataset(str(packed), image_size=32, channels=3)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    trainer = Trainer(config, engine, VAEGAN(engine, config.network_spec()), dataset, folder)
    with Progress(6, 0, quiet=True) as progress:
        assert trainer.run(None, progress) is None
    speeds = [line["images_per_second"] for line in read_metrics(folder.metrics)]
    assert len(speeds) == 3 and max(speeds) <= 4 / 0.2
    assert trainer.seconds >= 6 * 0.2
    assert arrays_of(folder.checkpoint)["gate/counts"][0] == 0


def test_memory_of_a_gpu_is_counted_before_it_is_used(monkeypatch, tmp_path, capfd):
    """--dry-run on a GPU: an engine that executes nothing counts what a step at this batch size places."""
    pytest.importorskip("triton", reason="Triton is not installed (Linux only)")
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.engine import dry_engine

    config = Config(batch_size=6, steps=10, precision="bf16", device="cuda").with_data(100)
    rows = estimate.on_gpu(config, config.network_spec(), dry_engine(CHIPS["sm_90"], "bf16"))
    weights = 4 * sum(config.network_spec().parameter_counts().values())
    assert rows["parameters"] == weights and rows["optimiser (mean square)"] == weights
    assert 0 < rows["their copies for products"] < weights / 2 and rows["gradients"] < weights, "Enc's FC gradient is never stored"
    assert rows["working memory of the kernels"] > 0
    double = estimate.on_gpu(dataclasses.replace(config, batch_size=12), config.network_spec(), dry_engine(CHIPS["sm_90"], "bf16"))
    assert double["activations and errors"] == pytest.approx(2 * rows["activations and errors"], rel=0.1)

    engine = dry_engine(CHIPS["sm_90"], "bf16")
    estimate.print_estimate(config, config.network_spec(), engine, RunFolder(tmp_path / "run"), "discs", 40)
    printed = capfd.readouterr().out
    assert "together on the GPU" in printed and "(measured now)" in printed and "working memory of the kernels" in printed
