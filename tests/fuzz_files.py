"""Damaged files of every kind, read in processes of their own: ``python tests/fuzz_files.py --count 10000``.

Each is made from a good file by flipped bits, overwritten runs, a cut, or a piece moved. It must be read, or refused with a `UserError` of
one line. Anything else is an ending that docs/reliability.md counts: another exception, a process that dies, one that takes longer than
`PATIENCE`, or more than `MEMORY`.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from app_case import call, write_tiny
from data_case import tar_of, write_cifar, write_idx, write_stl
from lfw_case import write_lfw
from PIL import Image

import vaegan_kernels
from vaegan_kernels.data import check_source, load_dataset
from vaegan_kernels.shell.errors import UserError

PATIENCE, MEMORY = 30.0, 3 << 30  # seconds and bytes of a process
TAKEN = 25  # files that one process reads, so that one that dies is found soon


def samples(folder):
    """{kind: (a good file, its name in a folder of its own, what reads that folder)}."""
    from test_data_celeba import write_celeba

    from vaegan_kernels import export, train

    folder.mkdir(parents=True, exist_ok=True)
    data = write_tiny(folder / "packed.h5", n=30)
    run = folder / "run"
    flags = ("--steps", 1, "--batch-size", 4, "--device", "cpu", "--threads", 1, "--no-curves", "--no-animation", "--quiet")
    assert call(train.main, "--data", data, "--out", run, *flags) == 0
    assert call(export.main, run, "--format", "checkpoint", "--out", folder / "small") == 0
    found = {"checkpoint": (run / "checkpoint.h5", "checkpoint.h5", "model"), "packed": (data, "packed.h5", "data")}
    found["weights alone"] = (folder / "small" / "checkpoint.h5", "checkpoint.h5", "model")
    cifar, stl = write_cifar(folder / "a", "py")[0], write_stl(folder / "b")[0]
    found["CIFAR-10"] = (tar_of(cifar, folder / "cifar-10-python.tar.gz"), "cifar-10-python.tar.gz", "data")
    found["CIFAR-10 binary"] = (tar_of(write_cifar(folder / "c", "bin")[0], folder / "bin.tgz"), "cifar-10-binary.tar.gz", "data")
    found["CIFAR-10 pickle"] = (cifar / "data_batch_1", "data_batch_1", "folder")
    found["STL-10"] = (tar_of(stl, folder / "stl.tar", "w"), "stl10_binary.tar", "data")
    found["STL-10, packed"] = (tar_of(stl, folder / "stl10_binary.tar.gz"), "stl10_binary.tar.gz", "data")
    write_idx(folder / "d", packed=True)
    found["MNIST"] = (next((folder / "d").glob("train-images*")), "train-images-idx3-ubyte.gz", "folder")
    found["LFW"] = (tar_of(write_lfw(folder / "e") / "lfw", folder / "lfw.tgz"), "lfw.tgz", "data")
    celeba = write_celeba(folder / "f", zipped=True)
    found["CelebA"] = (celeba / "img_align_celeba.zip", "img_align_celeba.zip", "data")
    found["CelebA's list"] = (write_celeba(folder / "g") / "list_attr_celeba.txt", "list_attr_celeba.txt", "beside")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8))
    for ending in ("jpg", "png", "gif", "webp", "tif", "bmp", "ppm", "jp2", "tga"):
        noise.save(folder / f"picture.{ending}")
        found[f"picture, {ending}"] = (folder / f"picture.{ending}", f"a.{ending}", "folder")
    return found


def damaged(content, rng):
    """A damaged copy of ``content``."""
    content = bytearray(content)
    way = rng.randrange(5)
    if way == 0:
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif way == 1:  # where structure is: near the beginning
        for _ in range(rng.choice((1, 4))):
            content[rng.randrange(min(len(content), 4096))] = rng.randrange(256)
    elif way == 2:
        start, length = rng.randrange(len(content)), rng.choice((4, 16, 300))
        content[start : start + length] = bytes(rng.choice((0, 255, rng.randrange(256))) for _ in range(length))
    elif way == 3:
        del content[rng.randrange(len(content)) :]
    else:
        a, b, length = rng.randrange(len(content)), rng.randrange(len(content)), rng.choice((8, 64, 512))
        content[a : a + length] = content[b : b + length]
    return bytes(content)


def read(folder, name, how):
    """What becomes of one damaged file: "read", "refused", or the ending that must not be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if how == "model":
                model = vaegan_kernels.load_model(folder / name, threads=1)
                model.sample(1)
            else:
                source = folder / name if how == "data" else folder
                check_source(source, image_size=32, channels=3)
                load_dataset(source, image_size=32, channels=3, cache_dir=False, workers=1)
        return "read"
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"more than one line: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def work(pipe, jobs):
    """In a process: read each of ``jobs``, tell what became of it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError):
        pass
    for job in jobs:
        pipe.send(read(*job))


def fuzz(count, seed=0, report=lambda done: None):
    """{kind: Counter of endings} of ``count`` damaged files, and a list of (kind, ending, its number) that must not be."""
    rng, results, wrong = random.Random(seed), collections.defaultdict(collections.Counter), []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        good = samples(Path(place) / "good")
        kinds = [kind for kind in good for _ in range(6 if "checkpoint" in kind or "weights" in kind else 3 if kind == "packed" else 1)]
        number = 0
        while number < count:
            jobs, made = [], []
            for k in range(min(TAKEN, count - number)):
                kind = kinds[(number + k) % len(kinds)]
                file, name, how = good[kind]
                folder = Path(place) / "bad" / str(number + k)
                if how == "beside":
                    shutil.copytree(file.parent, folder)
                else:
                    folder.mkdir(parents=True)
                (folder / name).write_bytes(damaged(file.read_bytes(), rng))
                jobs.append((folder, name, "folder" if how == "beside" else how))
                made.append(kind)
            here, there = context.Pipe(False)
            process = context.Process(target=work, args=(there, jobs), daemon=True)
            process.start()
            there.close()
            for k, kind in enumerate(made):
                try:
                    ending = here.recv() if here.poll(PATIENCE) else f"longer than {PATIENCE:.0f} s"
                except EOFError:
                    process.join()
                    ending = f"the process died ({process.exitcode})"
                results[kind][ending if ending in ("read", "refused") else "wrong"] += 1
                if ending not in ("read", "refused"):
                    wrong.append((kind, ending, number + k))
                number += 1
                if "longer" in ending or "died" in ending:  # the others of this process are made anew
                    break
            process.kill()
            process.join()
            shutil.rmtree(Path(place) / "bad", ignore_errors=True)
            report(number)
    return results, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results, wrong = fuzz(arguments.count, arguments.seed, lambda done: print(f"\r{done}", end="", file=sys.stderr, flush=True))
    print(f"\n{'kind':22} {'files':>6} {'read':>6} {'refused':>8} {'wrong':>6}")
    for kind, found in results.items():
        print(f"{kind:22} {sum(found.values()):6} {found['read']:6} {found['refused']:8} {found['wrong']:6}")
    for line in wrong:
        print(*line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
