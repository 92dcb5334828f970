"""``python -m vaegan_kernels.pack SOURCE OUT.h5``: decode sources of images once, into one file that loads at once."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data import SPLITS, Dataset, check_source, describe_source, read_packed
from vaegan_kernels.data.dataset import FITS, Progress, check_shape
from vaegan_kernels.data.formats.packed import check_writable
from vaegan_kernels.data.joined import joined
from vaegan_kernels.data.packing import Packing
from vaegan_kernels.data.plan import Plan
from vaegan_kernels.data.source import plan_of
from vaegan_kernels.shell.cli import Parser, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

_EXAMPLES = """examples:
  python -m vaegan_kernels.pack ~/pictures faces64.h5 --image-size 64
  python -m vaegan_kernels.pack cifar-10-python.tar.gz cifar32.h5 --image-size 32
  python -m vaegan_kernels.pack lfw lfw64.h5 --landmarks landmarks.txt
  python -m vaegan_kernels.pack holidays weddings old64.h5 both64.h5
  python -m vaegan_kernels.pack --verify both64.h5
  python -m vaegan_kernels.pack celeba celeba64.h5 && python -m vaegan_kernels.train --data celeba64.h5 --network paper64
"""


def make_parser() -> Parser:
    """The command line of pack."""
    p = Parser(
        prog="python -m vaegan_kernels.pack",
        usage="%(prog)s [options] SOURCE [SOURCE ...] OUT.h5\n       %(prog)s --verify FILE.h5 [FILE.h5 ...]",
        description="Decode sources of images once, into one file that loads at once. What was killed goes on with the same command.",
        epilog=_EXAMPLES,
    )
    files = p.add_argument_group("files")
    files.add_argument(
        "paths", nargs="+", metavar="PATH", help="SOURCE: any folder of images; the folder or official archive of CelebA, LFW, CIFAR-10, "
        "STL-10, MNIST or Fashion-MNIST (docs/data.md); a packed .h5; or: faces (the built-in set). The last one: the packed file to write",
    )  # fmt: skip
    files.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it is there")
    files.add_argument("--verify", action="store_true", help="write nothing: hold every byte of packed files against their fingerprints")
    images = p.add_argument_group("images")
    images.add_argument("--image-size", type=whole_number, default=64, metavar="S", help="pixels a side (default: %(default)s)")
    images.add_argument("--channels", type=whole_number, default=3, metavar="C", help="3 colour, 1 grey (default: %(default)s)")
    images.add_argument("--limit", type=whole_number, metavar="N", help="at most N images, spread over the splits (default: all)")
    images.add_argument(
        "--landmarks", type=Path, metavar="FILE",
        help="of LFW: align the faces by 68 landmarks a picture, each line its name, then x1 y1 ... x68 y68 (default: centre crop)",
    )  # fmt: skip
    images.add_argument(
        "--fit", default=FITS[0], choices=FITS, help="of a folder of images: cut out the centred square, or pad with white (default: crop)"
    )
    images.add_argument("--seed", type=whole_number, default=0, metavar="N", help="which built-in faces are drawn (default: %(default)s)")
    work = p.add_argument_group("work")
    work.add_argument("--workers", type=whole_number, metavar="N", help="processes that decode (default: one a core)")
    return p


@contextmanager
def show_progress(*what: str) -> Iterator[list[Progress]]:
    """For each of ``what`` one to call: a bar on a terminal; piped, a line every few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            tasks = [bar.add_task(name, total=None, visible=False) for name in what]
            yield [partial(_move, bar, task) for task in tasks]
    else:
        yield [_plain_lines(name) for name in what]


def _move(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total, visible=True)


def _plain_lines(what: str, every: float = 5.0) -> Callable[[int, int], None]:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return report


def summary(dataset: Dataset, out: Path, not_kept: Sequence[str] = ()) -> str:
    """What was packed, for a person."""
    n, size, _, channels = dataset.images.shape
    splits = ", ".join(f"{len(dataset.split(name))} {name}" for name in SPLITS)
    attributes = f"{len(dataset.attribute_names)} ({', '.join(dataset.attribute_names)})" if dataset.attribute_names else "none"
    return "\n".join(
        (
            f"packed      {n} images of {size} x {size} x {channels} from {dataset.name}",
            f"skipped     {dataset.skipped} that could not be read",
            *([f"cut off     {dataset.cut} that lack their last bytes, and were read"] if dataset.cut else []),
            *(f"left out    {count} with {why}" for why, count in dataset.left_out.items()),
            f"splits      {splits}",
            f"attributes  {attributes}",
            f"labels      {labels_of(dataset)}",
            *(f"not kept    {what}" for what in not_kept),
            f"written     {out} ({out.stat().st_size / 1e6:.1f} MB)",
        )
    )


def labels_of(dataset: Dataset) -> str:
    """How many images each class has, and how many have no label."""
    if dataset.labels is None:
        return "none"
    known = dataset.labels[dataset.labels >= 0]
    counts = np.bincount(known, minlength=len(dataset.label_names)).tolist()
    names = dataset.label_names or tuple(map(str, range(len(counts))))
    classes = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    return f"{len(counts)} classes ({classes}), {len(dataset) - len(known)} unlabelled"


def verify(paths: Sequence[Path]) -> int:
    """Hold packed files against their fingerprints. Raises UserError for the first that is not whole."""
    for path in paths:
        with show_progress("checking") as (progress,):
            dataset = read_packed(path, progress=progress, verify=True)
        print(f"{path}: whole, {len(dataset)} images, fingerprint {dataset.fingerprint}", flush=True)
    return 0


def check(args: argparse.Namespace) -> tuple[list[str | None], Path]:
    """(sources, OUT.h5). Raises UserError for what cannot be done, before anything is listed or decoded."""
    *words, last = args.paths
    if not words:
        raise UserError("missing argument: OUT.h5, the packed file to write (see --help)")
    check_shape(args.image_size, args.channels, args.limit)
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers: got {args.workers}, expected at least 1")
    if args.seed < 0:
        raise UserError(f"--seed: got {args.seed}, expected 0 or more")
    sources = [None if word == "faces" and not Path("faces").exists() else word for word in words]
    places = [source and os.path.realpath(source) for source in sources]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UserError(f"{words[i]}: is given twice; its images would be there twice")
    if os.path.realpath(last) in places:
        raise UserError(f"{last}: is a source too; write to another file")
    return sources, Path(last)


def plans_of(sources: Sequence[str | None], args: argparse.Namespace) -> list[Plan]:
    """The plan of each source, which is told. Raises UserError for one that cannot be used."""
    size = {"image_size": args.image_size, "channels": args.channels}
    options = {**size, "landmarks": args.landmarks, "fit": args.fit}
    plans = []
    for source in sources:
        kind, count = describe_source(source, args.image_size)
        where = f" in {source}" if len(sources) > 1 and source is not None else ""
        print(f"{kind}: {count} images{where}", flush=True)
        with show_progress("checking") as (progress,):
            plans.append(plan_of(source, **options, seed=args.seed, progress=progress))
    return plans


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; ``argv`` without the program's name. Raises UserError before anything is decoded where it can be known."""
    args = make_parser().parse_args(argv)
    if args.verify:
        return verify([Path(path) for path in args.paths])
    sources, out = check(args)
    refusal = UserError(f"{out}: exists already; choose another name, or replace it with --overwrite")
    refused = out.exists() and not out.is_dir() and not args.overwrite
    if refused and not out.with_name(f".{out.name}.part.log").exists():
        raise refusal
    for source in sources:
        check_source(source, image_size=args.image_size, channels=args.channels, landmarks=args.landmarks, fit=args.fit)
    check_writable(out)
    plan = joined(plans_of(sources, args))
    packing = Packing(plan, out, args.limit)
    if not packing.ended():
        if refused:
            raise refusal
        if packing.begun():
            print(f"going on after {packing.done} of {len(packing.chosen)}, which an earlier call has done", flush=True)
        with show_progress("drawing" if sources == [None] else "decoding", "checking") as (progress, checking):
            packing.run(progress=progress, checking=checking, workers=args.workers)
    print(summary(read_packed(out), out, plan.not_kept))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_main(main))
