"""What a run leaves behind, file by file; names of new folders; what a person sees on a terminal and in a log."""

from __future__ import annotations

import json
import os
import sys

import pytest
from app_case import TINY, call, command, tree, write_tiny
from PIL import Image

from vaegan_kernels import train
from vaegan_kernels.files import human_size, write_atomically
from vaegan_kernels.runs.run_folder import fresh_folder
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.progress import Progress, duration


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps with everything on, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    packed = write_tiny(folder / "tiny.h5")
    done = command("--data", packed, "--steps", 4, "--draw-every", 2, "--log-every", 2, *TINY[:4], "--device", "auto", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "runs" / "small32-quick-tiny.h5-001", done.stdout


def test_files(finished):
    out, _ = finished
    grids = {f"{folder}/step_{step:06d}.png" for folder in ("samples", "reconstructions") for step in (2, 4)}
    expected = {"config.json", "device.json", "metrics.jsonl", "checkpoint.h5", "summary.json", "curves.png", "convergence.gif"} | grids
    assert {name for name, size in tree(out).items() if size >= 0} == expected
    for name in grids:
        with Image.open(out / name) as picture:
            assert picture.width > 800


def test_config_json(finished):
    values = json.loads((finished[0] / "config.json").read_text())
    config = Config.from_dict(values)
    assert (config.steps, config.batch_size, config.precision) == (4, 4, "float32")
    assert config.encoder_units == config.network_spec().encoder_units


def test_metrics(finished):
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4]
    for line in lines:
        wanted = {"step", "epoch", "prior", "like", "gan_real", "gan_generated", "dec_update_rate", "dis_update_rate"}
        assert wanted | {"learning_rate", "images_per_second", "seconds"} <= line.keys()
        assert 0 <= line["dec_update_rate"] <= 1 and line["images_per_second"] > 0
    assert lines[0]["learning_rate"] == Config.from_dict(json.loads((finished[0] / "config.json").read_text())).learning_rate


def test_summary_and_last_words(finished):
    out, printed = finished
    summary = json.loads((out / "summary.json").read_text())
    for name in ("reconstruction_mse", "reconstruction_mse_mean", "mean_image_mse", "reconstruction_ratio", "sample_diversity"):
        assert summary[name] >= 0
    assert {"data_diversity", "diversity_ratio", "seconds", "images_per_second"} <= summary.keys()
    for text in ("device: cpu", "no CUDA", "step 1/4", "step 4/4", "reconstruction error", "sample diversity", "images/s", "28 train"):
        assert text in printed


def test_dry_run_says_everything_and_writes_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    assert call(train.main, "--dry-run", "--out", tmp_path / "run", "--batch-size", 16) == 0
    printed = capfd.readouterr().out
    for text in ("batch_size           16", "parameters: encoder", "memory:", "optimiser", "time: about", "built-in faces, about 6000"):
        assert text in printed
    assert tree(tmp_path) == {}


def test_quiet_prints_the_result_alone(tmp_path, capfd):
    options = ("--steps", 1, "--quiet", "--no-animation", "--no-curves", "--reconstruct-from", "mean")
    packed = write_tiny(tmp_path / "grey.h5", channels=1)
    assert call(train.main, "--data", packed, "--image-channels", 1, "--out", tmp_path / "run", *options, *TINY) == 0
    captured = capfd.readouterr()
    assert captured.out.startswith("reconstruction error") and captured.err == ""


def test_fresh_folder(tmp_path):
    assert fresh_folder("n", "p", "my photos/é", tmp_path).name == "n-p-my_photos-001"
    for name in ("n-p-d-001", "n-p-d-007", "n-p-d-x", "n-p-dd-009"):
        (tmp_path / name).mkdir()
    assert fresh_folder("n", "p", "d", tmp_path).name == "n-p-d-008"


def test_write_atomically(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, lambda file: file.write(b"one"))

    def fail(file):
        file.write(b"tw")
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["a"]


LINE = {
    "step": 5, "like": 123.4, "prior": 4.5, "gan_real": 0.6, "gan_generated": 0.7, "dec_update_rate": 1.0, "dis_update_rate": 0.4,
    "images_per_second": 321.0,
}  # fmt: skip


def test_plain_lines(capfd):
    with Progress(10, 0, live=False) as progress:
        for step in range(1, 11):
            progress.advance(step)
            progress.log({**LINE, "step": step}, 65.0)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "10/10"]
    assert "like 123.4" in lines[0] and "321 img/s" in lines[0] and "1:05 left" in lines[0]


def test_live_bar(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    with Progress(10, 3, live=True) as progress:
        progress.log(LINE, 1.0)
        progress.advance(10)
        progress.note("a note [not markup]")
    printed = capfd.readouterr().out
    assert "10/10" in printed and "like 123.4" in printed and "a note [not markup]" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_a_terminal_gets_the_live_bar(tmp_path):
    """The whole command on a pseudo-terminal."""
    import pty
    import subprocess

    from app_case import argv, environment

    packed = write_tiny(tmp_path / "tiny.h5")
    ours, theirs = pty.openpty()
    options = ("--steps", 3, "--no-animation", "--no-curves", *TINY)
    process = subprocess.Popen(
        argv("--data", packed, "--out", tmp_path / "run", *options), env={**environment(), "COLUMNS": "150", "TERM": "xterm"},
        stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    _, errors = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 0, errors
    assert b"3/3" in seen and b"img/s" in seen and b"step 1/3" not in seen


def test_words():
    assert [duration(s) for s in (0.4, 65, 3725)] == ["0:00", "1:05", "1:02:05"]
    assert [human_size(s) for s in (12, 1536, 5 << 20, 3 << 40)] == ["12 bytes", "1.5 KB", "5.0 MB", "3.0 TB"]
