"""How good a model is: the measures of the end of each run, by ``python -m vaegan_kernels.evaluate RUN`` too, there with a judge's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.files import NOT_MEASURED, plain, shown
from vaegan_kernels.measures.quality_images import colour_noise, mean_distance, mean_image_error, pixel_mse, ratio, sharpness
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.cli import CHECKPOINT, Parser, add_place, add_weights, place_of, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

COUNT, TRAIN = 256, 5120  # images and samples that are measured; training images behind the mean image

EPILOG = """examples:
  python -m vaegan_kernels.evaluate runs/my-run                                                            as at the end of the run
  python -m vaegan_kernels.evaluate runs/my-run --data celeba/ --regressor regressor.h5 --out metrics.json
  python -m vaegan_kernels.evaluate runs/my-run --data celeba/ --write-images for-fid/        real/, samples/ and so on: PNGs"""


def evaluate(
    model: Model, held_out: np.ndarray, train: np.ndarray, *, seed: int = 0, attributes: np.ndarray | None = None,
    drawn: np.ndarray | None = None,
) -> dict[str, float | None]:  # fmt: skip
    """What is measured at the end of a run: reconstruction error (of a model that has an encoder), diversity, sharpness and colour noise.

    Args:
        model: a `vaegan_kernels.runs.inference.Model`.
        held_out: uint8 [N, S, S, C], images not trained on (test images); the first 256 are used.
        train: uint8 [M, S, S, C], training images, for the mean image.
        attributes: float [N, A], those of ``held_out``, for a conditional model.
        drawn: of built-in faces, the true attributes of ``held_out`` by `measures.agreement.truth_of`.

    Returns: mean squared pixel errors, pixels in [-1, 1]: ``reconstruction_mse`` (sampled z), ``reconstruction_mse_mean``
    (z = mu), ``mean_image_mse`` (predicting the mean training image for all), ``reconstruction_ratio`` (the first over the
    third); ``sample_diversity`` and ``data_diversity``, the mean distance between two samples and between two of
    ``held_out``, and ``diversity_ratio``; ``sharpness_ratio`` and ``colour_noise_ratio``, those of samples over those of ``held_out``
    (`measures.quality_images`); with ``drawn`` what `measures.agreement.agreement` gives of the reconstructions (sampled z). None is what
    cannot be had: the mean image of no images, the diversity of one, a ratio to nothing (grey images' colour noise).
    """
    real = held_out[:COUNT]
    x = real / 127.5 - 1.0
    given = None if attributes is None else attributes[:COUNT]
    result: dict[str, float | None] = {}
    if model.has_encoder:
        rebuilt = model.reconstruct(real, seed=seed, attributes=given)
        result["reconstruction_mse"] = error = pixel_mse(rebuilt, x)
        result["reconstruction_mse_mean"] = pixel_mse(model.reconstruct(real, mean=True, attributes=given), x)
        result["mean_image_mse"] = scale = mean_image_error(train[:TRAIN], x)
        result["reconstruction_ratio"] = ratio(error, scale)
        if drawn is not None:
            from vaegan_kernels.measures.agreement import agreement

            result.update(agreement(rebuilt, drawn[:COUNT]))
    samples = model.sample(max(2, len(real)), seed=seed)
    result["sample_diversity"] = diversity = mean_distance(samples)
    result["data_diversity"] = scale = mean_distance(x) if len(x) > 1 else None
    result["diversity_ratio"] = ratio(diversity, scale)
    result["sharpness_ratio"] = sharpness(samples, x)
    result["colour_noise_ratio"] = ratio(colour_noise(samples), colour_noise(x))
    return plain(result)


def measured(model: Model, dataset: Dataset, indices: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """(indices, attributes of a conditional model) of the images that `evaluate_on` measures."""
    from vaegan_kernels.pictures.artist import held_out

    shown = (held_out(dataset) if indices is None else indices)[:COUNT]
    return shown, dataset.attributes_of(model.attribute_names)[shown] if model.attribute_names else None


def evaluate_on(model: Model, dataset: Dataset, indices: np.ndarray | None = None, *, seed: int = 0) -> dict[str, float | None]:
    """`evaluate` on the images at ``indices`` of ``dataset`` (None: those that were not trained on), of which the first 256 are used."""
    from vaegan_kernels.measures.agreement import truth_of

    shown, own = measured(model, dataset, indices)
    train = dataset.images[dataset.split("train")[:TRAIN]]
    return evaluate(model, dataset.images[shown], train, seed=seed, attributes=own, drawn=truth_of(dataset, shown))


RATIOS = (  # key, its name in print, what it says
    ("sharpness_ratio", "sample sharpness", "over the data's; below 1 blurred, above 1 noisy"),
    ("colour_noise_ratio", "sample colour noise", "over the data's; above 1: specks of colour"),
)


def describe(result: dict[str, float | None]) -> list[str]:
    """The lines that are printed at the end of a run."""

    def of(name: str, whose: str, scale: str, form: str) -> str:
        known = result[name] is not None
        return f"{result[name]:.0%} of {whose} {shown(result[scale], form)}" if known else f"share of {whose}: {NOT_MEASURED}"

    lines = []
    if "reconstruction_mse" in result:
        share = of("reconstruction_ratio", "the mean image's", "mean_image_mse", ".4f")
        lines.append(
            f"reconstruction error  {shown(result['reconstruction_mse'], '.4f')}  (mean squared, sampled z; {share}; "
            f"decoding mu: {shown(result['reconstruction_mse_mean'], '.4f')})"
        )
    share = of("diversity_ratio", "the data's", "data_diversity", ".3f")
    lines.append(f"sample diversity      {shown(result['sample_diversity'], '.3f')}   (mean distance of two samples; {share})")
    lines += [f"{title:<21} {shown(result[name], '.2f')}    ({about})" for name, title, about in RATIOS]
    if "attribute_agreement" in result:
        each = ", ".join(f"{name} {result[f'{name}_agreement']:.0%}" for name in ("glasses", "hair", "skin", "hat"))
        lines.append(
            f"attribute agreement   {result['attribute_agreement']:.0%}     (of reconstructions with their originals: {each}; "
            f"without looking: {result['constant_agreement']:.0%})"
        )
    return lines


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.evaluate", epilog=EPILOG,
        description="Measure a trained model on test images: pixel error, SSIM, Dis_l distance, sharpness, Frechet distance, attributes.",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="RUN", help=CHECKPOINT)
    parser.add_argument("--data", metavar="PATH", help="images to measure with (default: the data that the run was trained on)")
    parser.add_argument("--regressor", metavar="FILE", help="a judge, of python -m vaegan_kernels.regressor: more measures")
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
    found: dict[str, Any] = evaluate_on(model, dataset, seed=arguments.seed)
    for line in describe(found):
        print(line)
    if arguments.regressor is not None:
        judged = measure(model, dataset, regressor, metric=metric, seed=arguments.seed)
        for line in lines(judged):
            print(line)
        found = {**judged, "summary": found}
    if arguments.out is not None:
        from vaegan_kernels.files import write_json

        source = {"system": model.system, "step": model.header.step, "weights": model.weights, "data": dataset.fingerprint}
        write_json(Path(arguments.out), {**source, **found})
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
    if arguments.regressor is None and arguments.metric_from:
        raise UserError("--metric-from: needs --regressor FILE (python -m vaegan_kernels.regressor makes it)")
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
    """The measures as text; the single attributes are left out."""
    result = []
    for name, value in measured.items():
        if isinstance(value, Mapping):
            result += [f"{indent}{name}", *lines(value, indent + "  ")] if name != "attributes" else []
        else:
            result.append(f"{indent}{name:<{24 - len(indent)}} {value if isinstance(value, int) else shown(value, '.4f')}")
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
