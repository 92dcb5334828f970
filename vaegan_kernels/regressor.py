"""``python -m vaegan_kernels.regressor``: trains the judge of attributes (`measures.regressor`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from models.networks import network as network_spec
from vaegan_kernels import data
from vaegan_kernels.measures.regressor import BATCH, SCORES, STEPS, train_regressor
from vaegan_kernels.runs import regressor_file
from vaegan_kernels.runs.supervised import RATE
from vaegan_kernels.sample import check_count
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.cli import Parser, add_place, place_of, real_number, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.regressor --data celeba/ --out regressor.h5
  python -m vaegan_kernels.regressor --data celeba/ --out regressor.h5          once more: resumes where it was stopped"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.regressor", description="Train the network that reads attributes off images.", epilog=EPILOG
    )
    parser.add_argument("--data", metavar="PATH", help="images with attributes, as for train (default: built-in drawn faces)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the regressor, .h5; its report is written beside it, .json")
    parser.add_argument("--network", default=Config.network, metavar="NAME", help="network family and image size (default: small32)")
    parser.add_argument("--image-channels", type=whole_number, default=3, metavar="{1,3}", help="1 (grey) or 3 (colour) (default: 3)")
    parser.add_argument("--encoder-units", type=whole_number, metavar="N", help="width of the top layer (default: the network's)")
    parser.add_argument("--steps", type=whole_number, default=STEPS, metavar="N", help=f"training steps (default: {STEPS})")
    parser.add_argument("--batch-size", type=whole_number, default=BATCH, metavar="N", help=f"images in a step (default: {BATCH})")
    parser.add_argument("--learning-rate", type=real_number, default=RATE, metavar="X", help=f"at the start (default: {RATE})")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of weights, order and mirrors (default: 0)")
    parser.add_argument("--resume", action="store_true", help="expect a file that was stopped (without it, it is resumed too)")
    add_place(parser, "auto")
    parser.add_argument("--quiet", action="store_true", help="print only the result and errors")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    out = Path(arguments.out)
    if out.suffix != ".h5":
        raise UserError(f"--out: got {out}, expected a name that ends in .h5")
    if arguments.resume and not out.exists():
        raise UserError(f"--resume: there is no {out}; leave --resume out to begin")
    places = {name: getattr(arguments, name) for name in ("device", "engine", "threads", "seed")}
    asked = {name: getattr(arguments, name) for name in ("network", "image_channels", "encoder_units")}
    Config(**asked, **places).validate()
    check_count("--steps", arguments.steps, 10**9)
    check_count("--batch-size", arguments.batch_size, 10**6)
    if not 0 < arguments.learning_rate < float("inf"):
        raise UserError(f"--learning-rate: got {arguments.learning_rate}, expected a number above 0")
    from vaegan_kernels.shell.progress import Counter

    form = {"image_size": network_spec(arguments.network).image_size, "channels": arguments.image_channels}
    data.check_source(arguments.data, **form)
    dataset = data.load_dataset(arguments.data, **form, progress=Counter("reading images", quiet=arguments.quiet))
    names = ("network", "encoder_units", "steps", "batch_size", "learning_rate", "seed", "quiet")
    train_regressor(dataset, out=out, **place_of(arguments), **{name: getattr(arguments, name) for name in names})
    report = regressor_file.read_header(out).report
    for name, row in sorted(report["attributes"].items(), key=lambda item: -(item[1]["correlation"] or -1)):
        shown = [f"{row[key]:.2f}" if row[key] is not None else "   -" for key in ("share", *SCORES)]
        print(f"  {name:22} with it {shown[0]}   accuracy {shown[1]}   balanced {shown[2]}   correlation {shown[3]}")
    print(f"{report['images']} test images: accuracy {report['accuracy']:.3f}, balanced {report['balanced_accuracy']:.3f}, ", end="")
    print(f"correlation {report['correlation']:.3f}; squared error {report['mse']:.2f} summed over attributes")
    print(f"{out}, and the table in {out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
