"""``python -m vaegan_kernels.augment``: a picture of what ``train --augment`` makes of training images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.augmentation import Augmentation
from vaegan_kernels.files import check_output, save_image
from vaegan_kernels.settings.checks import check_data, configuration
from vaegan_kernels.settings.config import FIELDS
from vaegan_kernels.settings.fields import flag
from vaegan_kernels.shell.cli import Parser, real_number, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.augment --data ~/photos --out augmented.png
  python -m vaegan_kernels.augment --augment-rotation 0.2 --augment-translation 0.05 --no-flip --out strong.png"""


def make_parser() -> Parser:
    """The command line: the flags of train that bear on it."""
    p = Parser(prog="python -m vaegan_kernels.augment", description="Draw training images as --augment varies them.", epilog=EPILOG)
    data = p.add_argument_group("Data")
    data.add_argument("--data", metavar="PATH", help="as for train (default: built-in drawn faces)")
    data.add_argument("--image-size", type=whole_number, metavar="{32,64,128}", help="pixels a side (default: 32; a packed file's own)")
    data.add_argument("--image-channels", type=whole_number, metavar="{1,3}", help="1 (grey) or 3 (default: 3; a packed file's own)")
    strengths = p.add_argument_group("Strengths, as for train (0: none)")
    for name in Augmentation._fields:
        field = FIELDS[f"augment_{name}"]
        text = f"{field.metadata['help']} (default: {field.default:g})"
        strengths.add_argument(flag(field.name), type=real_number, default=field.default, metavar="X", help=text)
    strengths.add_argument("--no-flip", action="store_true", help="mirror no image")
    picture = p.add_argument_group("Picture")
    picture.add_argument("--out", default="augmented.png", metavar="FILE", help="the picture to write (default: augmented.png)")
    picture.add_argument("--rows", type=whole_number, default=6, metavar="N", help="training images (default: 6)")
    picture.add_argument("--columns", type=whole_number, default=8, metavar="N", help="variations of each (default: 8)")
    picture.add_argument("--seed", type=whole_number, default=0, metavar="N", help="seed of the draws (default: 0)")
    picture.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    return p


def variations(images: np.ndarray, columns: int, strengths: Augmentation, *, seed: int, flip: bool) -> np.ndarray:
    """float32 [n, columns + 1, S, S, C] of uint8 ``images`` [n, S, S, C]: each image, and what training sees of it in so many steps."""
    import kernels

    engine = kernels.engine("cpu", "float32", implementation="numpy")  # nothing to compile for a few images
    n = len(images)
    out = np.empty((n, columns + 1, *images.shape[1:]), np.float32)
    out[:, 0] = images / np.float32(127.5) - 1
    x, order = np.empty(images.shape, np.float32), np.arange(n, dtype=np.int32)
    for step in range(columns):
        counter = np.array([step])
        engine.augment_batch(x, images, order, counter, per_epoch=1, seed=seed, flip=flip, strengths=strengths)
        out[:, step + 1] = x
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    from vaegan_kernels import data
    from vaegan_kernels.pictures.labelled_grid import labelled_grid
    from vaegan_kernels.shell.progress import Counter

    arguments = make_parser().parse_args(argv)
    for name, most in (("rows", 100), ("columns", 30)):
        if not 1 <= getattr(arguments, name) <= most:
            raise UserError(f"{flag(name)}: got {getattr(arguments, name)}, expected a whole number from 1 to {most}")
    if not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed: got {arguments.seed}, expected a whole number of at least 0")
    given: dict[str, Any] = {name: value for name, value in vars(arguments).items() if value is not None}
    given |= {"augment": True, "batch_size": 1}
    config = configuration(given)
    assert config.augmentation is not None
    spec = config.network_spec()
    out = check_output(arguments.out, overwrite=arguments.overwrite, suffixes=(".png", ".jpg", ".webp"))
    check_data(config, spec)
    dataset = data.load_dataset(
        config.data, image_size=spec.image_size, channels=spec.channels, limit=None if config.data else 100, fit=config.fit,
        progress=Counter("reading images" if config.data else "drawing faces", quiet=False),
    )  # fmt: skip
    chosen = dataset.split("train")[: arguments.rows]
    shown = variations(dataset.images[chosen], arguments.columns, config.augmentation, seed=arguments.seed, flip=not arguments.no_flip)
    names = ["as it is", *(str(i + 1) for i in range(arguments.columns))]
    words = ", ".join(f"{name} {value:g}" for name, value in config.augmentation._asdict().items())
    picture = labelled_grid(shown.reshape(-1, *shown.shape[2:]), names, title="Training images, varied", note=words, gaps=(1,))
    save_image(out, picture)
    print(f"{len(chosen)} images of {dataset.name}, {arguments.columns} variations of each in {out}: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
