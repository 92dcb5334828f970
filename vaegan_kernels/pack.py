"""``python -m vaegan_kernels.pack SOURCE OUT.h5``: decode a source of images once, into one file that loads at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vaegan_kernels.data import SPLITS, Dataset, check_source, describe_source, load_dataset, write_packed
from vaegan_kernels.data.dataset import FITS, Progress, check_shape
from vaegan_kernels.data.formats.packed import check_writable
from vaegan_kernels.shell.cli import Parser, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

_EXAMPLES = """examples:
  python -m vaegan_kernels.pack ~/pictures faces64.h5 --image-size 64
  python -m vaegan_kernels.pack cifar-10-python.tar.gz cifar32.h5 --image-size 32
  python -m vaegan_kernels.pack lfw lfw64.h5 --landmarks landmarks.txt
  python -m vaegan_kernels.pack celeba celeba64.h5 && python -m vaegan_kernels.train --data celeba64.h5 --network paper64
"""


def make_parser() -> Parser:
    """The command line of pack."""
    p = Parser(
        prog="python -m vaegan_kernels.pack",
        description="Decode a source of images once, into one file that loads at once.",
        epilog=_EXAMPLES,
    )
    files = p.add_argument_group("files")
    files.add_argument(
        "source", metavar="SOURCE", help="any folder of images; the folder or official archive of CelebA, LFW, CIFAR-10, STL-10, MNIST or "
        "Fashion-MNIST (docs/data.md); a packed .h5; or: faces (the built-in set)",
    )  # fmt: skip
    files.add_argument("out", metavar="OUT.h5", type=Path, help="the packed file to write")
    files.add_argument("--overwrite", action="store_true", help="replace OUT.h5 if it is there")
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
def show_progress(what: str) -> Iterator[Progress]:
    """A bar on a terminal; piped, a line every few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _plain_lines(what)


def _plain_lines(what: str, every: float = 5.0) -> Callable[[int, int], None]:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return report


def summary(dataset: Dataset, out: Path) -> str:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; ``argv`` without the program's name. Raises UserError before anything is decoded where it can be known."""
    args = make_parser().parse_args(argv)
    source = None if args.source == "faces" and not Path("faces").exists() else args.source
    check_shape(args.image_size, args.channels, args.limit)
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers: got {args.workers}, expected at least 1")
    if args.seed < 0:
        raise UserError(f"--seed: got {args.seed}, expected 0 or more")
    if args.out.exists() and not args.out.is_dir() and not args.overwrite:
        raise UserError(f"{args.out}: exists already; choose another name, or replace it with --overwrite")
    check_source(source, image_size=args.image_size, channels=args.channels, landmarks=args.landmarks, fit=args.fit)
    check_writable(args.out)
    kind, count = describe_source(source, args.image_size)
    print(f"{kind}: {count} images", flush=True)
    with show_progress("drawing" if source is None else "decoding") as progress:
        dataset = load_dataset(
            source,
            image_size=args.image_size,
            channels=args.channels,
            seed=args.seed,
            limit=args.limit,
            cache_dir=False,
            progress=progress,
            workers=args.workers,
            landmarks=args.landmarks,
            fit=args.fit,
        )
    write_packed(args.out, dataset)
    print(summary(dataset, args.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_main(main))
