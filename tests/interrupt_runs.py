"""Ctrl-C at many moments of many commands: ``python tests/interrupt_runs.py --count 200``.

Half of the moments are events, evenly spread over all that a command does (tests/interrupting/sitecustomize.py), half are times, many of
them within the first half second. Each command must end with status 130 (or be done), with no traceback, at most a line on stderr, no
.tmp file and no process left over.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from app_case import ROOT, TINY, call, environment, write_tiny
from PIL import Image

from vaegan_kernels import attribute_vectors, train

EVENTS = Path(__file__).with_name("interrupting")
FIRST = {"vaegan_kernels/__init__.py", "vaegan_kernels/shell/__init__.py", "vaegan_kernels/shell/interrupt.py"}
PLACE = ("--threads", "1", "--engine", "numpy")


def make_inputs(place):
    """A packed file, a folder of enough pictures for a pool of processes, a run with attribute vectors."""
    place.mkdir(exist_ok=True)
    data = write_tiny(place / "data.h5")
    assert call(train.main, "--data", data, "--out", place / "run", *TINY, *PLACE, "--steps", "2", "--quiet") == 0
    assert call(attribute_vectors.main, place / "run", *PLACE) == 0
    (place / "photos").mkdir()
    for i in range(300):
        Image.new("RGB", (90, 60), (i % 250, 90, 30)).save(place / "photos" / f"{i}.png")
    return place


def commands(place):
    """{name: words}; {out} is an empty folder."""
    run, photos, one = place / "run", place / "photos", place / "photos" / "0.png"
    found = {
        "train": f"train --data {photos} --out {{out}}/r --steps 2 --draw-every 2 --save-every 1 --no-animation {' '.join(TINY)}",
        "native": f"train --data {place}/data.h5 --out {{out}}/r --steps 2 {' '.join(TINY)} --engine native --threads 2",
        "pack": f"pack {photos} {{out}}/p.h5 --image-size 32 --workers 2",
        "evaluate": f"evaluate {run} --out {{out}}/m.json --write-images {{out}}/images --count 8",
        "sample": f"sample {run} --out {{out}}/s.png",
        "edit": f"edit {one} --add Big --checkpoint {run} --out {{out}}/e.png",
        "reconstruct": f"reconstruct {run} --images {photos} --out {{out}}/r.png",
        "interpolate": f"interpolate {run} --from 1 --to {one} --out {{out}}/w.gif",
        "compare": f"compare {run} faces --out {{out}}/c",
        "export": f"export {run} --out {{out}}/x --format safetensors,onnx",
    }
    placed = {"train", "evaluate", "sample", "edit", "reconstruct", "interpolate"}
    return {name: f"{words} {' '.join(PLACE)}".split() if name in placed else words.split() for name, words in found.items()}


def left_over(session):
    """The processes that know the folder ``session``, by its name in their environment (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={session}\0".encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue  # it has ended
    return found


def run(words, out, *, at=0, seconds=None, count_to=None):
    """(status, stderr) of a command that is interrupted at an event or after a time; ``count_to``: a file for the number of its events."""
    out.mkdir()
    temp = out.with_name(f"{out.name}-temp")
    temp.mkdir()
    paths = os.pathsep.join([str(EVENTS), str(ROOT)])
    more = {"INTERRUPT_AT": str(at), "INTERRUPT_COUNT": str(count_to or ""), "TMPDIR": str(temp), "PYTHONPATH": paths}
    if "native" in words:
        more["XDG_CACHE_HOME"] = str(temp)  # so that the kernels are compiled
    process = subprocess.Popen(
        [sys.executable, "-m", f"vaegan_kernels.{words[0]}", *(word.format(out=out) for word in words[1:])],
        env={**environment(), **more}, cwd=temp, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if seconds is not None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def check(status, errors, out, *, early=False):
    """Raise AssertionError unless a command ended as it should. ``early``: it may be Python itself that was interrupted."""
    if early and status in (1, -signal.SIGINT) and not set(re.findall(r'File ".*/(vaegan_kernels/.*?)"', errors)) - FIRST:
        return
    lines = errors.splitlines()
    if status == -signal.SIGINT and lines[-1:] == ["interrupted"]:
        status = 130  # of a Ctrl-C within exec() of a text, dataclasses do so, Python itself makes this at its end; so do shells
    assert "Traceback" not in errors and "Exception ignored" not in errors, errors
    assert status in (0, 130), (status, errors)
    assert status == 0 or lines[-1:] == ["interrupted"] or not lines, errors
    assert sum(line == "interrupted" or line.startswith("error") for line in lines) <= 1, errors
    temp = out.with_name(f"{out.name}-temp")
    assert not [*out.rglob("*.tmp"), *temp.rglob("*.tmp")], "a file is left over"
    end = time.monotonic() + 3
    while processes := left_over(temp):
        assert time.monotonic() < end, processes
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="NAME")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored, and would be in the commands
    moments, ended = random.Random(arguments.seed), Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = make_inputs(Path(folder) / "in")
        chosen = {name: words for name, words in commands(place).items() if arguments.only in (None, name)}
        for name, words in chosen.items():
            start = time.monotonic()
            status, errors = run(words, place / f"{name}-whole", count_to=place / "count")
            assert status == 0, errors
            whole, events, each = time.monotonic() - start, int((place / "count").read_text()), arguments.count // len(chosen)
            for k in range(each):
                out, how = place / f"{name}-{k}", {"at": 1 + (k + moments.randrange(2)) * events // each}
                if k % 2:
                    how = {"seconds": moments.uniform(0.02, 0.5 if k % 4 == 1 else whole)}
                status, errors = run(words, out, **how)
                try:
                    check(status, errors, out, early=how.get("seconds", 1) < 0.3)
                except AssertionError as error:
                    print(f"\n{name} {how}: {error}")
                    ended["wrong"] += 1
                ended[f"{name} {status}"] += 1
                print(f"\r{sum(ended.values())}", end="", file=sys.stderr, flush=True)
            print(f"\n{name}: {events} events, {whole:.1f} s", file=sys.stderr)
    print(dict(sorted(ended.items())))


if __name__ == "__main__":
    main()
