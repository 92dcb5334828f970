"""Bad input: one line on stderr, a non-zero exit, and nothing drawn or written."""

from __future__ import annotations

import importlib.util
import os
import shutil

import h5py
import numpy as np
import pytest
from app_case import TINY, call, command, one_line, tree, write_tiny
from PIL import Image

from vaegan_kernels import data, files
from vaegan_kernels.train import main


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Good and bad inputs, made once: a packed file, a finished run, and files that are broken in one way each."""
    folder = tmp_path_factory.mktemp("inputs")
    packed = write_tiny(folder / "tiny.h5")
    assert call(main, "--data", packed, "--out", folder / "run", "--steps", "2", "--quiet", "--no-animation", "--no-curves", *TINY) == 0
    (folder / "empty").mkdir()
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("no image")
    (folder / "broken").mkdir()
    (folder / "broken" / "a.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    (folder / "truncated.h5").write_bytes(packed.read_bytes()[:5000])
    (folder / "text.h5").write_text("not HDF5")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["x"] = np.zeros(3)
    (folder / "file").write_text("in the way")
    for name in ("truncated", "empty", "foreign", "text"):
        (folder / f"run-{name}").mkdir()
    whole = (folder / "run" / "checkpoint.h5").read_bytes()
    (folder / "run-truncated" / "checkpoint.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "run-empty" / "checkpoint.h5").write_bytes(b"")
    (folder / "run-text" / "checkpoint.h5").write_text("hello")
    shutil.copy(folder / "foreign.h5", folder / "run-foreign" / "checkpoint.h5")
    (folder / "config.json").write_text("{bad json")
    (folder / "odd.json").write_text('{"batch_sise": 4}')
    (folder / "typed.json").write_text('{"batch_size": "four"}')
    make_celeba(folder / "celeba")
    return folder


def make_celeba(folder):
    """CelebA's layout, with an attribute file whose header promises more than its lines hold."""
    (folder / "img_align_celeba").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (178, 218), (60 * i, 90, 120)).save(folder / "img_align_celeba" / f"00000{i + 1}.jpg")
    (folder / "list_attr_celeba.txt").write_text("3\nSmiling Male\n000001.jpg 1 -1\n000002.jpg 1\n000003.jpg x 1\n")
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 0\n000003.jpg 2\n")


# name: (arguments with {x} for the folder of inputs, what the line must contain). "+" puts good arguments before.
CASES = {
    "empty path": ("--data=", "--data: got an empty text"),
    "missing path": ("--data {x}/nowhere", "nowhere"),
    "empty folder": ("--data {x}/empty", "empty"),
    "no image in the folder": ("--data {x}/texts", "texts"),
    "no readable image": ("--data {x}/broken", "broken"),
    "truncated h5": ("--data {x}/truncated.h5", "truncated.h5"),
    "h5 of another program": ("--data {x}/foreign.h5", "foreign.h5"),
    "h5 that is text": ("--data {x}/text.h5", "text.h5"),
    "wrong attribute file": ("--data {x}/celeba --batch-size 1", "list_attr_celeba.txt"),
    "images of another size": ("--data {x}/tiny.h5 --network paper64", "64"),
    "images of other channels": ("--data {x}/tiny.h5 --image-channels 1", "channel"),
    "batch 0": ("+ --batch-size 0", "--batch-size: got 0"),
    "batch larger than the data": ("+ --batch-size 50", "--batch-size: got 50"),
    "batch larger than the training split": ("+ --batch-size 29", "only 28"),
    "batch larger than the drawn faces": ("--batch-size 5401", "only 5400"),
    "batch negative": ("+ --batch-size=-3", "--batch-size"),
    "batch no number": ("+ --batch-size many", "'many'"),
    "unknown network": ("+ --network papr64", "did you mean paper64?"),
    "unknown precision": ("+ --precision fp32", "--precision"),
    "unknown preset": ("+ --preset papier", "did you mean paper?"),
    "unknown device": ("+ --device gpu", "auto, cpu, cuda"),
    "unknown flag": ("+ --batchsize 4", "did you mean --batch-size?"),
    "bf16 on the CPU": ("+ --precision bf16", "needs a GPU"),
    "negative learning rate": ("+ --learning-rate=-0.1", "--learning-rate: got -0.1"),
    "NaN learning rate": ("+ --learning-rate nan", "--learning-rate: got nan"),
    "infinite learning rate": ("+ --learning-rate inf", "--learning-rate: got inf"),
    "NaN gamma": ("+ --gamma nan", "--gamma: got nan"),
    "negative gamma": ("+ --gamma=-1", "--gamma: got -1"),
    "real weight of 1": ("+ --real-weight 1", "--real-weight"),
    "stop rate above the start": ("+ --learning-rate 1e-5 --learning-rate-stop 1e-3", "--learning-rate-stop"),
    "steps 0": ("+ --steps 0", "--steps: got 0"),
    "stop-after 0": ("+ --stop-after 0", "--stop-after: got 0"),
    "steps and epochs": ("+ --steps 3 --epochs 2", "both given"),
    "seed negative": ("+ --seed=-1", "--seed: got -1"),
    "threads 0": ("+ --threads 0", "--threads: got 0"),
    "limit 0": ("+ --limit 0", "--limit: got 0"),
    "CUDA without a GPU": ("+ --device cuda", "--device cuda"),
    "resume with nothing": ("--resume {x}/empty", "nothing to resume"),
    "resume of no folder": ("--out {x}/nowhere --resume", "nothing to resume"),
    "resume without a name": ("--resume", "--resume FOLDER"),
    "resume truncated": ("--resume {x}/run-truncated", "truncated"),
    "resume empty": ("--resume {x}/run-empty", "empty"),
    "resume foreign": ("--resume {x}/run-foreign", "not a checkpoint"),
    "resume text": ("--resume {x}/run-text", "not an HDF5 file"),
    "resume as another network": ("--resume {x}/run --network paper32", "--network: got paper32"),
    "resume at another rate": ("--resume {x}/run --learning-rate 1.234e-3", "--learning-rate"),
    "resume with other steps": ("--resume {x}/run --steps 9", "--stop-after"),
    "two folders": ("--resume {x}/run --out {x}/empty", "different folders"),
    "out not empty": ("+ --out {x}/run", "--resume"),
    "out is a file": ("+ --out {x}/file", "is a file"),
    "out below a file": ("+ --out {x}/file/run", "is a file"),
    "config missing": ("+ --config {x}/nowhere.json", "no such file"),
    "config no JSON": ("+ --config {x}/config.json", "JSON"),
    "config with a typing error": ("+ --config {x}/odd.json", "did you mean batch_size?"),
    "config of the wrong type": ("+ --config {x}/typed.json", "'four'"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", [[], ["--dry-run"]], ids=["train", "dry-run"])
def test_bad_input(name, mode, base, tmp_path, monkeypatch, capfd):
    text, expected = CASES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    before = tree(base)
    good = ["--data", str(base / "tiny.h5"), "--batch-size", "4"]
    words = [word.format(x=base) for word in text.split()]
    words = good + words[1:] if words[0] == "+" else words
    code = call(main, *words, *mode)
    assert code not in (0, None)
    line = one_line(capfd.readouterr().err)
    assert expected in line
    assert tree(base) == before and tree(tmp_path) == {}


def test_an_unwritable_folder(base, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid() == 0:  # root may write anywhere but where the system itself refuses

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files.tempfile, "mkdtemp", refuse)
    else:
        folder.chmod(0o500)
    assert call(main, "--data", base / "tiny.h5", "--out", folder / "run", *TINY) == 2
    assert "cannot write" in one_line(capfd.readouterr().err)
    assert tree(folder) == {}


def test_no_room_is_said_beforehand(base, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    assert call(main, "--data", base / "tiny.h5", "--out", tmp_path / "run", *TINY) == 2
    assert "left, a run needs about" in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == {}


def test_full_disk_keeps_the_last_checkpoint(base, tmp_path):
    """A file-size limit stops the write of a checkpoint in the middle, as a full disk does."""
    out = tmp_path / "run"
    common = ("--no-animation", "--no-curves", "--draw-every", "100")
    done = command("--data", base / "tiny.h5", "--out", out, "--steps", "4", "--stop-after", "2", *common, *TINY)
    assert done.returncode == 0, done.stderr
    good = (out / "checkpoint.h5").read_bytes()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))"
    full = command("--resume", out, *common[1:], before=limit)
    assert full.returncode == 2
    line = one_line(full.stderr)
    assert "the disk is full" in line and "step 2 is kept" in line and "--resume" in line
    assert (out / "checkpoint.h5").read_bytes() == good
    assert not list(out.glob("*.tmp"))
    again = command("--resume", out)
    assert again.returncode == 0, again.stderr


def test_nan_stops_and_keeps_the_last_checkpoint(base, tmp_path, capfd):
    out = tmp_path / "run"
    arguments = ("--data", base / "tiny.h5", "--out", out, "--steps", "50", "--save-every", "1", "--no-animation", "--no-curves", *TINY)
    assert call(main, *arguments, "--draw-every", "100", "--learning-rate", "1e30") == 2
    line = one_line(capfd.readouterr().err)
    assert "became" in line and "step" in line and "kept" in line
    from vaegan_kernels import load_model

    step = load_model(out).header.step
    assert 1 <= step < 50 and f"step {step} is kept" in line


def test_changed_data_is_refused_on_resume(base, tmp_path, capfd):
    out = tmp_path / "run"
    packed = shutil.copy(base / "tiny.h5", tmp_path / "mine.h5")
    assert call(main, "--data", packed, "--out", out, "--steps", "2", "--stop-after", "1", "--quiet", *TINY) == 0
    write_tiny(tmp_path / "mine.h5", seed=5)
    before = tree(tmp_path)
    capfd.readouterr()
    assert call(main, "--resume", out) == 2
    assert "not those" in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == before


def test_a_corrupt_image_is_skipped_and_counted(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(16):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"\x89PNG nothing")
    assert call(main, "--data", folder, "--out", tmp_path / "run", "--steps", "1", *TINY) == 0
    assert "1 unreadable skipped" in capfd.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is not None, reason="tensorboardX is installed")
def test_tensorboard_missing_is_said_beforehand(base, tmp_path, capfd):
    assert call(main, "--data", base / "tiny.h5", "--out", tmp_path / "run", "--tensorboard", *TINY) == 2
    assert "pip install" in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == {}


def test_nothing_is_drawn_before_the_checks(tmp_path, monkeypatch, capfd):
    def draw(*args, **kwargs):
        raise AssertionError("the data was loaded before everything was checked")

    monkeypatch.setattr(data, "load_dataset", draw)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("")
    assert call(main, "--out", tmp_path / "run") == 2
    assert "not empty" in one_line(capfd.readouterr().err)
