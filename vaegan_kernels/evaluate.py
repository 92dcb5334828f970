"""How good a model is: two numbers at the end of each run, and all there are with ``python -m vaegan_kernels.evaluate RUN``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.measures.quality_images import mean_distance, pixel_mse
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.cli import Parser, add_place, add_weights, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

COUNT = 256  # images, samples

EPILOG = """examples:
  python -m vaegan_kernels.evaluate runs/my-run --data celeba/ --regressor regressor.h5 --out metrics.json
  python -m vaegan_kernels.evaluate runs/my-run --data celeba/ --write-images for-fid/        real/, samples/ and so on: PNGs"""


def evaluate(
    model: Model, held_out: np.ndarray, train: np.ndarray, *, seed: int = 0, attributes: np.ndarray | None = None
) -> dict[str, float]:  # fmt: skip
    """Reconstruction error (of a model that has an encoder) and sample diversity.

    Args:
        model: a `vaegan_kernels.runs.inference.Model`.
        held_out: uint8 [N, S, S, C], images not trained on (test images); the first 256 are used.
        train: uint8 [M, S, S, C], training images, for the mean image.
        attributes: float [N, A], those of ``held_out``, for a conditional model.

    Returns: mean squared pixel errors, pixels in [-1, 1]: ``reconstruction_mse`` (sampled z), ``reconstruction_mse_mean``
    (z = mu), ``mean_image_mse`` (predicting the mean training image for all), ``reconstruction_ratio`` (the first over the
    third); ``sample_diversity`` and ``data_diversity``, the mean distance between two samples and between two of
    ``held_out``, and ``diversity_ratio``.
    """
    real = held_out[:COUNT]
    x = real / 127.5 - 1.0
    given = None if attributes is None else attributes[:COUNT]
    result: dict[str, float] = {}
    if model.has_encoder:
        mean_image = train[: 20 * COUNT].mean(axis=0) / 127.5 - 1.0
        result = {
            "reconstruction_mse": pixel_mse(model.reconstruct(real, seed=seed, attributes=given), x),
            "reconstruction_mse_mean": pixel_mse(model.reconstruct(real, mean=True, attributes=given), x),
            "mean_image_mse": pixel_mse(np.broadcast_to(mean_image, x.shape), x),
        }
        result["reconstruction_ratio"] = result["reconstruction_mse"] / max(result["mean_image_mse"], 1e-12)
    samples = model.sample(max(2, len(real)), seed=seed)
    result["sample_diversity"] = mean_distance(samples)
    result["data_diversity"] = mean_distance(x)
    result["diversity_ratio"] = result["sample_diversity"] / max(result["data_diversity"], 1e-12)
    return {name: float(value) for name, value in result.items()}


def describe(result: dict[str, float]) -> list[str]:
    """The lines that are printed at the end of a run."""
    lines = []
    if "reconstruction_mse" in result:
        lines.append(
            f"reconstruction error  {result['reconstruction_mse']:.4f}  (mean squared, sampled z; {result['reconstruction_ratio']:.0%} of "
            f"the mean image's {result['mean_image_mse']:.4f}; decoding mu: {result['reconstruction_mse_mean']:.4f})"
        )
    return [
        *lines,
        f"sample diversity      {result['sample_diversity']:.3f}   (mean distance of two samples; {result['diversity_ratio']:.0%} of the "
        f"data's {result['data_diversity']:.3f})",
    ]


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.evaluate", epilog=EPILOG,
        description="Measure a trained model on test images: pixel error, SSIM, Dis_l distance, sharpness, Frechet distance, attributes.",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="RUN", help="a run folder or a checkpoint.h5")
    parser.add_argument("--data", metavar="PATH", help="images to measure with (default: the data that the run was trained on)")
    parser.add_argument("--regressor", metavar="FILE", help="the judge, of python -m vaegan_kernels.regressor; needed for the measures")
    parser.add_argument("--metric-from", metavar="CHECKPOINT", help="take Dis_l distances in this model's Dis (default: the run's own)")
    parser.add_argument("--out", metavar="FILE", help="write the measures there, .json")
    parser.add_argument("--write-images", metavar="FOLDER", help="write single images there, at their own size, for FID tools")
    parser.add_argument("--count", type=whole_number, default=500, metavar="N", help="images of each kind written (default: 500)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of the samples and of z (default: 0)")
    add_weights(parser)
    add_place(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    check(arguments)

    from vaegan_kernels import load_model
    from vaegan_kernels.runs.run_data import data_of

    place = place_of(arguments)
    model = load_model(arguments.checkpoint, weights=arguments.weights, **place)
    dataset = data_of(model, arguments.data)
    if arguments.regressor is not None:
        from vaegan_kernels.measures.quality import measure
        from vaegan_kernels.measures.regressor import load_regressor

        regressor = load_regressor(arguments.regressor, **place)
        if regressor.image_shape != model.image_shape:
            raise UserError(
                f"--regressor: it reads images of {regressor.image_shape}, the run has {model.image_shape}; train one of that size"
            )
        metric = load_model(arguments.metric_from, **place) if arguments.metric_from else None
        measured = measure(model, dataset, regressor, metric=metric, seed=arguments.seed)
        for line in lines(measured):
            print(line)
        if arguments.out is not None:
            from vaegan_kernels.files import write_atomically

            source = {"system": model.system, "step": model.header.step, "weights": model.weights, "data": dataset.fingerprint}
            text = json.dumps({**source, **measured}, indent=2) + "\n"
            write_atomically(Path(arguments.out), lambda file: file.write(text.encode()))
            print(arguments.out)
    if arguments.write_images is not None:
        written = write_images(model, dataset, Path(arguments.write_images), arguments.count, arguments.seed)
        print(f"{', '.join(f'{count} in {name}/' for name, count in written.items())} of {arguments.write_images}")
    return 0


def check(arguments: Any) -> None:
    """Raise `UserError` for what cannot be done, before anything is read or written."""
    from vaegan_kernels.files import check_writable, nearest_existing
    from vaegan_kernels.sample import check_count

    check_count("--count", arguments.count, 10**6)
    if arguments.regressor is None and arguments.write_images is None:
        raise UserError("expected --regressor FILE (python -m vaegan_kernels.regressor makes it), --write-images FOLDER, or both")
    if arguments.regressor is None and (arguments.out or arguments.metric_from):
        raise UserError(
            f"--{'out' if arguments.out else 'metric-from'}: needs --regressor FILE (python -m vaegan_kernels.regressor makes it)"
        )
    if arguments.out is not None:
        out = Path(arguments.out)
        if out.suffix != ".json" or out.is_dir():
            raise UserError(f"--out: got {out}, expected the name of a file that ends in .json")
        if not out.absolute().parent.is_dir():
            raise UserError(f"--out: there is no folder {out.parent}; make it first or choose another name")
        check_writable(out.absolute().parent, probe=True, flag="--out", wanted=out)
    if arguments.write_images is not None:
        folder = Path(arguments.write_images)
        existing = nearest_existing(folder)
        if not existing.is_dir():
            raise UserError(f"--write-images: {existing} is a file, expected a folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"--write-images: the folder {folder} is not empty; choose a new or an empty folder")
        check_writable(existing, probe=True, flag="--write-images", wanted=folder)


def lines(measured: Mapping[str, Any], indent: str = "") -> list[str]:
    """The measures as text; what is None is left out, as are the single attributes."""
    result = []
    for name, value in measured.items():
        if isinstance(value, Mapping) and name != "attributes":
            result += [f"{indent}{name}", *lines(value, indent + "  ")]
        elif isinstance(value, float):
            result.append(f"{indent}{name:<{24 - len(indent)}} {value:.4f}")
        elif isinstance(value, int):
            result.append(f"{indent}{name:<{24 - len(indent)}} {value}")
    return result


def write_images(model: Model, dataset: Dataset, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Write real/, samples/ and, of a model with an encoder, reconstructions/ as PNGs 00000.png, …; returns how many of each.

    Real images are the test images, as many as there are, reconstructions theirs; samples ``count``.
    """
    from PIL import Image

    from vaegan_kernels.files import save_image
    from vaegan_kernels.pictures.artist import held_out
    from vaegan_kernels.pictures.figures import to_uint8

    chosen = held_out(dataset)[:count]
    real = dataset.images[chosen]
    given = dataset.attributes_of(model.attribute_names)[chosen] if model.attribute_names else None
    sets = {"real": real, "samples": model.sample(count, seed=seed)}
    if model.has_encoder:
        sets["reconstructions"] = model.reconstruct(real, seed=seed, attributes=given)
    for name, images in sets.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(to_uint8(images)):
            save_image(folder / name / f"{index:05d}.png", Image.fromarray(image))
    return {name: len(images) for name, images in sets.items()}


if __name__ == "__main__":
    sys.exit(run_main(main))
