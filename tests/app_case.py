"""What the application's tests share: a tiny packed data set, commands run in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from vaegan_kernels.data import Dataset, write_packed
from vaegan_kernels.runs.metrics import TIMING, read_metrics
from vaegan_kernels.shell.cli import run_main

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--network", "small32", "--batch-size", "4", "--log-every", "1", "--device", "cpu")


def write_tiny(path, *, n=40, seed=0, size=32, channels=3):
    """Pack ``n`` images of coloured discs: 28 train, 4 validation, 8 test."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = np.empty((n, size, size, channels), np.uint8)
    for image in images:
        inside = (y - random.uniform(10, 22)) ** 2 + (x - random.uniform(10, 22)) ** 2 < random.uniform(5, 11) ** 2
        image[:] = np.where(inside[..., None], random.integers(0, 256, channels), random.integers(0, 256, channels))
    splits = np.zeros(n, np.uint8)
    splits[-8:], splits[-12:-8] = 2, 1
    attributes = random.choice(np.array([-1, 1], np.int8), (n, 2))
    write_packed(path, Dataset("discs", images, splits, attributes, ("Big", "Red")))
    return path


def call(main, *arguments):
    """Run a command's main in this process as `python -m` does; returns the exit code."""
    try:
        return run_main(lambda: main([str(a) for a in arguments]))
    except SystemExit as stop:
        return stop.code or 0


def environment():
    """The environment of a child process that finds this repository."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def command(*arguments, before="", timeout=120, **options):
    """Run ``train`` with ``arguments`` in a process of its own, the code ``before`` first (to stop it somewhere)."""
    return subprocess.run(
        argv(*arguments, before=before), env=environment(), capture_output=True, text=True, timeout=timeout, check=False, **options
    )


def argv(*arguments, before=""):
    """The command line of `command`."""
    code = (
        f"{before}\nimport sys\nfrom vaegan_kernels import train\nfrom vaegan_kernels.shell import cli\nsys.exit(cli.run_main(train.main))"
    )
    return [sys.executable, "-c", code, *map(str, arguments)]


def arrays_of(path):
    """Every array of a checkpoint, by name, read with h5py alone."""
    arrays = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def assert_same_run(a, b):
    """The two run folders hold the same bits, and the same metrics but for what a clock says."""
    one, two = arrays_of(Path(a) / "checkpoint.h5"), arrays_of(Path(b) / "checkpoint.h5")
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name
    lines = [
        [{key: value for key, value in line.items() if key not in TIMING} for line in read_metrics(Path(folder) / "metrics.jsonl")]
        for folder in (a, b)
    ]
    assert lines[0] == lines[1]


def tree(folder):
    """Every file below a folder with its size, to see that nothing was written."""
    return {str(path.relative_to(folder)): path.stat().st_size if path.is_file() else -1 for path in Path(folder).rglob("*")}


def one_line(captured):
    """The only line of an error; fails on anything that a user should not see."""
    lines = [line for line in captured.splitlines() if line.strip()]
    assert len(lines) == 1, captured
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured and "usage:" not in captured
    return lines[0]
