"""Kernels made ready before they are launched: what a rehearsal notes is what is launched later, whatever the run; many are compiled at
once, the second start compiles none; and what ends a compilation early ends it cleanly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which compiles the GPU kernels, is not installed (Linux only)")
pytest.importorskip("cupy", reason="CuPy, whose arrays the stand-in for a GPU has, is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda", allow_module_level=True)

from app_case import ROOT, call, one_line, write_tiny
from libcuda_case import cleared, libcuda, uncompiled
from stand_in_gpu import StandInGPU

import kernels
from kernels import CompilationError
from kernels.cuda.device import gpu, launcher
from kernels.cuda.device.compile import NotCached, key_of
from kernels.cuda.products import tiles
from kernels.cuda.products.tiles import Tile
from kernels.cuda.tuning import tile_cache
from models.networks import NetworkSpec
from models.vaegan import VAEGAN
from vaegan_kernels import reconstruct, sample, train
from vaegan_kernels.runs.trainer import Trainer

SPEC = NetworkSpec("tiny", 8, 3, 8, (8, 8, 8), 8, (8, 8, 8, 8), (8, 8, 8, 8), 8, metric=3)
SMALL = (
    "--network", "small32", "--batch-size", "4", "--steps", "6", "--draw-every", "4", "--no-animation", "--no-curves", "--device", "cuda",
)  # fmt: skip


class Compilers:
    """In the place of the compilers: code of nothing, and a note of each kernel that was asked for, alone or together with others."""

    def __init__(self):
        self.alone, self.together, self.cached = [], [], set()

    def compile_launch(self, launch, chip, *, cached=False):
        if cached and key_of(launch) not in self.cached:
            raise NotCached
        if not cached:
            self.alone.append(launch)
        return uncompiled(launch)

    def compile_many(self, launches, chip, jobs, progress=None):
        launches = list(launches)
        self.together.append(launches)
        if progress is not None:
            progress(0, len(launches))
        self.cached |= set(map(key_of, launches))
        return {key_of(launch): self.compile_launch(launch, chip, cached=True) for launch in launches}


@pytest.fixture
def compilers(monkeypatch):
    found = Compilers()
    monkeypatch.setattr(launcher, "compile_launch", found.compile_launch)
    monkeypatch.setattr(launcher, "compile_many", found.compile_many)
    return found


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """Every device that was opened; each an H100 that is not there."""
    opened = []

    def open_device(precision=None):
        opened.append(StandInGPU(libcuda()))
        return opened[-1]

    monkeypatch.setattr(gpu, "open_device", open_device)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield opened
    tiles.override(None)


@pytest.fixture(scope="session")
def discs(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


RUNS = {
    "quick": (),
    "paper": ("--preset", "paper"),
    "float32, two pictures": ("--preset", "paper", "--draw-every", "3", "--precision", "float32"),
    "conditional": ("--preset", "paper", "--conditional"),
    "augmented": ("--augment", "--dis-noise", "0.1", "--average", "0.9", "--optimizer", "adam"),
    "streamed": ("--stream", "--conditional"),
    "vae": ("--model", "vae"),
    "gan": ("--model", "gan"),
    "vae-dis": ("--model", "vae-dis", "--gan-steps", "6"),
    "conditional vae": ("--model", "vae", "--conditional", "--reconstruct-from", "mean"),
}
#: What creating a model launches, before there is something to be made ready.
CREATION = {"uniform_init", "fill_bytes", "copy_bytes", "narrow"}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_compiles_nothing_behind_its_rehearsal(run, compilers, devices, discs, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("vaegan_kernels.pictures.artist.RECONSTRUCTED", 5)  # fewer than are measured
    assert call(train.main, "--data", discs, "--out", tmp_path / "run", *SMALL, *RUNS[run]) == 0
    captured = capfd.readouterr()
    rehearsals = 2 if run == "vae-dis" else 1
    assert len(compilers.together) == rehearsals and len(compilers.together[0]) > 20
    assert {launch.name for launch in compilers.alone} <= CREATION
    assert 1 <= devices[0].stream.captured <= rehearsals and devices[0].stream.replayed > 0
    assert devices[0].stream.waits == (6 if run == "streamed" else 0), "each step for its images, before its graph"
    assert re.search(r"compiling kernels for this GPU, once: 0/\d\d", captured.err) and "compiling" not in captured.out


def test_boxes_that_the_driver_refuses(compilers, devices, discs, tmp_path, caplog):
    """What takes their place is compiled together, too."""
    cleared(libcuda()).refused_ranks = 1 << 4 | 1 << 5
    try:
        assert call(train.main, "--data", discs, "--out", tmp_path / "run", *SMALL) == 0
    finally:
        cleared(libcuda())
    assert devices[0].pointers and "loads by pointers" in caplog.text
    assert len(compilers.together) > 1 and {launch.name for launch in compilers.alone} <= CREATION


def test_a_second_start_says_nothing(compilers, devices, discs, tmp_path, capfd):
    for name in ("one", "two"):
        assert call(train.main, "--data", discs, "--out", tmp_path / name, *SMALL) == 0
        said = capfd.readouterr().err
        assert ("compiling" in said) == (name == "one")
    assert len(compilers.together) == 1 and len(devices) == 2


@pytest.mark.parametrize("command", [sample, reconstruct])
def test_commands_compile_together(command, compilers, devices, discs, tmp_path, capfd):
    assert call(train.main, "--data", discs, "--out", tmp_path / "run", *SMALL, "--conditional", "--quiet") == 0
    assert "compiling" not in capfd.readouterr().err
    compilers.__init__()
    images = ("--images", *sorted(map(str, Path(ROOT, "docs").glob("first-f*.png")))) if command is reconstruct else ()
    values = ("--attributes", "Big=1,Red=-1") if command is reconstruct else ()
    code = call(command.main, tmp_path / "run", "--device", "cuda", "--out", tmp_path / "out.png", *images, *values)
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert len(compilers.together) == (2 if command is reconstruct else 1) and {launch.name for launch in compilers.alone} <= CREATION
    assert "compiling kernels for this GPU, once: 0/" in captured.err


def test_a_rehearsal_notes_what_a_step_launches(compilers, devices, discs, monkeypatch, tmp_path):
    """No kernel less and none more, with the tuner's tiles in the cache as without."""
    seen = []

    class Watched(Trainer):
        def run(self, stop_after, progress):
            device = self.engine.device
            device.launches = []
            self.step_body()
            seen.append(set(map(key_of, device.launches)))
            compilers.together.clear()
            device._launcher._loaded.clear()
            compilers.cached.clear()
            self.engine.prepare(self.step_body)
            assert seen[-1] == {key_of(launch) for launch in compilers.together[0]}
            used.append(dict(tiles._used))
            return 2

    used = []
    monkeypatch.setattr(tiles, "_used", {})  # of this test alone
    monkeypatch.setattr("vaegan_kernels.runs.trainer.Trainer", Watched)
    assert call(train.main, "--data", discs, "--out", tmp_path / "one", *SMALL) == 130
    name = next(name for name in used[0] if name.startswith("forward"))
    tile_cache.save(devices[0].chip, {name: Tile(32, 32, 16, 2, 4)})
    assert call(train.main, "--data", discs, "--out", tmp_path / "two", *SMALL) == 130
    assert used[1][name] == Tile(32, 32, 16, 2, 4) != used[0][name] and seen[0] != seen[1]


def test_a_kernel_that_does_not_compile_is_one_line(compilers, devices, discs, monkeypatch, tmp_path, capfd):
    def broken(*_):
        raise CompilationError("2 of 71 kernels do not compile for H100: convolve: no | wgrad: no")

    monkeypatch.setattr(launcher, "compile_many", broken)
    assert call(train.main, "--data", discs, "--out", tmp_path / "run", *SMALL) == 2
    line = one_line(capfd.readouterr().err)
    assert line.startswith("error: --device cuda: 2 of 71 kernels do not compile for H100: convolve: no") and "--device cpu works" in line


def test_an_emulated_engine_rehearses_too(cuda32):
    """Nothing is launched or read meanwhile, and nothing that a later call needs is left out."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3))
    model = VAEGAN(cuda32, SPEC, seed=0)
    seen, ones = [], cuda32.asarray(np.ones(3))
    cuda32.prepare(lambda: cuda32.fill(ones, 2.0))
    assert cuda32.to_numpy(ones).tolist() == [1, 1, 1]
    cuda32.prepare(lambda: seen.append(model.decode(np.ones((2, SPEC.latent)))))
    assert not seen[0].any() and cuda32.device.launches is None and not cuda32.device.rehearsing
    reference = VAEGAN(kernels.engine("cpu"), SPEC, seed=0)
    np.testing.assert_allclose(model.encode(images)[0], reference.encode(images)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.decode(np.ones((2, SPEC.latent))), reference.decode(np.ones((2, SPEC.latent))), rtol=1e-4, atol=1e-5)


# ---- real compilers, other processes ----


def script(how, *, cache, source=None):
    """prepare_case.py as a script without a main guard, or given to Python in another way."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(cache / "triton"), "XDG_CACHE_HOME": str(cache)}
    text = (ROOT / "tests" / "prepare_case.py").read_text()
    given = {"file": [str(ROOT / "tests" / "prepare_case.py")], "stdin": ["-"], "command": ["-c", text]}[source or "file"]
    done = subprocess.run(
        [sys.executable, *given, libcuda(), how], cwd=ROOT, env=env, text=True, capture_output=True, timeout=300,
        input=text if source == "stdin" else None,
    )  # fmt: skip
    return done


@pytest.mark.parametrize("source", ["file", "stdin", "command"])
def test_processes_compile_and_the_second_start_is_fast(source, tmp_path):
    first, second = (script("all", cache=tmp_path, source=source) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["begun", "0/3", "1/3", "2/3", "3/3", "launched", "2"]
    assert second.returncode == 0 and second.stdout.split() == ["begun", "launched", "0"], second.stderr


@pytest.mark.parametrize("how, processes", [("one-core", 0), ("nothing", 0), ("short-lived", 2)])
def test_this_process_compiles_where_no_other_does(how, processes, tmp_path):
    done = script(how, cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["begun", "0/3", "1/3", "2/3", "3/3", "launched", str(processes)]


def test_an_interrupt_ends_every_process(tmp_path):
    done = script("interrupt", cache=tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stdout.splitlines()[-1] == "interrupted; left: []" and "Traceback" not in done.stderr
    again = script("all", cache=tmp_path)  # what was compiled is kept, nothing is half-written
    assert again.returncode == 0 and "0/2" in again.stdout
