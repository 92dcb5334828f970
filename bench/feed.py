"""How fast a ring of `vaegan_kernels.runs.feed` is filled at random order: ``python -m bench.feed``. Needed: 23,000 images/s, 64 pixels.

On the CPU, the default, a device that executes nothing takes the batches: what is timed is the reading and the hand-over from thread to
thread, without the copy to a GPU. With ``--device cuda`` the ring is a GPU's, each step gathers its batch there, and the last is compared.

The file is laid out as a packed one. *memory*: its pages are in the system's memory. *disk*: none is, as in a data set that is far larger.
*disk, not asked ahead*: as that, without asking for the pages of later batches. *16 threads of read()*: as many images by plain reads, many
at once, to see what the disk can do.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.harness import busy_cores, machine
from kernels import Engine, engine, philox
from vaegan_kernels.files import human_size, write_json
from vaegan_kernels.hdf5 import mapped
from vaegan_kernels.runs import feed

NEEDED = 23_000  # images/s: paper64 on an H100, by the time model, with a margin
RESULTS = Path(__file__).with_name("results") / "feed.json"
STEPS = {"memory": 3000, "disk": 1000, "disk, not asked ahead": 50, "disk, 16 threads of read()": 1000}
BLOCK = 4096  # images written at a time


def write(path: Path, count: int, size: int) -> None:
    """A file of ``count`` images of noise, [count, size, size, 3], in one piece."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (count, size, size, 3), np.uint8)
        for start in range(0, count, BLOCK):
            images[start : start + BLOCK] = rng.integers(0, 256, (min(BLOCK, count - start), size, size, 3), np.uint8)
    with open(path, "rb+") as raw:
        os.fsync(raw.fileno())


def forget(path: Path) -> None:
    """Have the system drop the file's pages. Nobody may have it mapped."""
    with open(path, "rb") as raw:
        os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read() -> int:
    """By this process from disks, so far."""
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("read_bytes")).split()[1])


def measure(path: Path, eng: Engine, batch: int, where: str, seed: int) -> dict[str, float]:
    """{"images_per_s", "bytes_read" (over the images' own bytes)} of the steps of ``where``, by the order of ``seed``."""
    if where != "memory":
        forget(path)
    with h5py.File(path) as file:
        images = mapped(file["images"], path)
    assert images is not None
    if where == "memory":
        images.max()
    order = philox.permutation(len(images), seed=seed, step=0, stream=philox.STREAM_SHUFFLE)
    per_epoch, steps, asking = len(images) // batch, STEPS[where], feed.pages_of

    def rows(step: int) -> np.ndarray:
        return np.asarray(order[step % per_epoch * batch :][:batch])

    fed = feed.Feed(eng, images, (1, batch), rows, stream=True)
    launch, check = consumer(eng, fed, images, rows, batch)
    feed.pages_of = (lambda images: lambda rows: None) if "not" in where else asking  # type: ignore[assignment]
    start, read = time.perf_counter(), bytes_read()
    try:
        for step in range(steps):
            fed.step(step, launch)
        eng.synchronize()
        seconds = time.perf_counter() - start
    finally:
        fed.close()
        feed.pages_of = asking
    check(steps - 1)
    share = (bytes_read() - read) / (steps * batch * images[0].nbytes)
    assert where == "memory" or share > 0.9, "pages were left in memory"
    return {"images_per_s": round(steps * batch / seconds), "bytes_read": round(share, 2)}


def plain_reads(path: Path, batch: int, steps: int, seed: int, threads: int = 16) -> dict[str, float]:
    """As `measure`: images at random places of the file."""
    forget(path)
    with h5py.File(path) as file:
        images = file["images"]
        start, count, size = images.id.get_offset(), len(images), images[0].nbytes
    places = start + size * philox.permutation(count, seed=seed, step=1, stream=philox.STREAM_SHUFFLE)[: steps * batch].astype(np.int64)
    with open(path, "rb") as raw, ThreadPoolExecutor(threads) as pool:
        begun, read = time.perf_counter(), bytes_read()

        def work(part: np.ndarray) -> None:
            for place in part.tolist():
                os.pread(raw.fileno(), size, place)

        list(pool.map(work, np.array_split(places, threads)))
        seconds = time.perf_counter() - begun
    return {"images_per_s": round(len(places) / seconds), "bytes_read": round((bytes_read() - read) / (len(places) * size), 2)}


def consumer(eng: Engine, fed: feed.Feed, images: np.ndarray, rows: Callable[[int], np.ndarray], batch: int) -> tuple[Any, Any]:
    """(what a step launches, a check of the last step): the gathering of the batch on a GPU; nothing where nothing is executed."""
    if not eng.device.executes:
        return (lambda: None), (lambda step: None)
    x, counter, unused = eng.empty((batch, *images.shape[1:])), eng.empty((1,), np.int64), eng.empty((1,), np.int32)
    eng.put(counter, [0])

    def body() -> None:
        placed, order, per_epoch = fed.gathered(unused, 1)
        eng.gather_batch(x, placed, order, counter, per_epoch=per_epoch, seed=0, flip=False)
        eng.advance(counter)

    def check(step: int) -> None:
        expected = images[rows(step)] / 127.5 - 1
        assert np.abs(eng.to_numpy(x) - expected).max() < 0.01, "the last step was given other images"

    return eng.record(body), check


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.feed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=400_000, metavar="N", help="in the file (default: 400000, 4.9 GB at 64 pixels)")
    parser.add_argument("--image-size", type=int, default=64, metavar="N")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--folder", type=Path, help="where the file is written, and deleted (default: the system's for temporary files)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        eng = engine("cuda")
    else:
        from kernels.cuda.device.chips import CHIPS
        from kernels.cuda.engine import dry_engine

        eng = dry_engine(CHIPS["sm_90"])
    rounds: dict[str, list[dict[str, float]]] = {where: [] for where in STEPS}
    busy = busy_cores()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "images.h5"
        write(path, arguments.images, arguments.image_size)
        size = path.stat().st_size
        print(f"{arguments.images:,} images, {human_size(size)}; needed: {NEEDED:,} images/s of 64 pixels", flush=True)
        for seed in range(arguments.rounds):
            for where, measured in rounds.items():
                plain = "threads" in where
                measured.append(
                    plain_reads(path, arguments.batch_size, STEPS[where], seed)
                    if plain
                    else measure(path, eng, arguments.batch_size, where, seed)
                )
                print(f"{where:28} {measured[-1]['images_per_s']:9,} images/s, bytes read {measured[-1]['bytes_read']:.2f}", flush=True)
    about = {name: value for name, value in machine().items() if name not in ("threads", "torch")}
    about |= {"device": arguments.device, "kernel": platform.release(), "busy_cores_before": busy}
    if arguments.device == "cuda":
        about["engine"] = eng.describe()
    write_json(arguments.out, {
        "command": " ".join(["python -m bench.feed", *(sys.argv[1:] if argv is None else argv)]), "machine": about,
        "images": arguments.images, "image_size": arguments.image_size, "batch_size": arguments.batch_size, "file_bytes": size,
        "needed_images_per_s": NEEDED, "cases": [{"where": where, "rounds": measured} for where, measured in rounds.items()],
    })  # fmt: skip


if __name__ == "__main__":
    main()
