"""Runs that are killed at random moments, of training, saving, drawing, resuming and packing: ``python tests/kill_runs.py --count 200``.

A run of small32 that saves and draws in every step is killed (SIGKILL), resumed, killed and so on until it is done, then the next begins,
until so many kills have been. After every kill the checkpoint must load; each run must end with the bits of one that was never killed.
Every fourth kill is one of `pack`: its file must be whole, or the old one, or absent.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from app_case import TINY, argv, arrays_of, assert_same_run, call, environment, write_tiny
from PIL import Image

from vaegan_kernels import train
from vaegan_kernels.data import read_packed

SCHEDULE = ("--steps", "12", "--save-every", "1", "--draw-every", "3", "--threads", "1", "--seed", "5", *TINY)


def killed(command, seconds):
    """Whether the command was still running when it was killed after ``seconds``."""
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    _, errors = process.communicate()
    assert b"Traceback" not in errors, errors.decode()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=3.0, metavar="S", help="a process is killed after 0 to S seconds (default: 3)")
    arguments = parser.parse_args()
    moments, kills = random.Random(arguments.seed), {"train": 0, "resume": 0, "pack": 0}
    runs, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data, whole = write_tiny(place / "data.h5"), place / "whole"
        assert call(train.main, "--data", data, "--out", whole, *SCHEDULE, "--quiet") == 0
        for i in range(40):
            path = place / "photos" / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (300, 300), (6 * i, 0, 0)).save(path)
        packing = [sys.executable, "-m", "vaegan_kernels.pack", str(place / "photos"), str(place / "out.h5"), "--overwrite"]
        while sum(kills.values()) < arguments.count:
            out, done, tries = place / f"run{runs}", False, 0
            while not done:
                tries += 1  # on a busy machine a process may need longer to begin than it is given
                resumed = (out / "config.json").exists()
                words = ("--resume", out) if resumed else ("--data", data, "--out", out, *SCHEDULE)
                done = not killed(argv(*words), moments.uniform(0, arguments.longest * (1 + tries / 8)))
                kills["resume" if resumed else "train"] += not done
                if (out / "checkpoint.h5").exists():
                    assert arrays_of(out / "checkpoint.h5")
                if sum(kills.values()) % 4 == 3:
                    kills["pack"] += killed(packing, moments.uniform(0, arguments.longest))
                    assert not (place / "out.h5").exists() or len(read_packed(place / "out.h5")) == 40
                print(f"\r{sum(kills.values())} kills, {runs} runs", end="", file=sys.stderr, flush=True)
            assert_same_run(out, whole)
            assert not list(out.rglob("*.tmp")), "left over"
            runs += 1
    print(f"\n{kills}, {runs} runs ended with the bits of one that was never killed; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
