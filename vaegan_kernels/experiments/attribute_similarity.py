"""``python -m vaegan_kernels.experiments.attribute_similarity``: can attributes be read off samples that were given them? (Table 2, Fig. 6)

Conditional models draw samples for the attributes of the test images, and a regressor trained on real images says what attributes it
sees. ``attribute_similarity.json`` is written after every run of sampling, so that a stopped experiment resumes where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.experiments.attribute_vectors import check_attributes, check_regressor
from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, parse, run_name, run_of
from vaegan_kernels.experiments.results import about, add_regressor, load_data, open_model, read_json, regressor_of
from vaegan_kernels.experiments.samples import list_of
from vaegan_kernels.experiments.similarity import cosine_rows, described, squared_errors, table
from vaegan_kernels.files import plain, save_image, write_json
from vaegan_kernels.pictures.artist import held_out
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, run_main, whole_number
from vaegan_kernels.shell.progress import Counter

SYSTEMS = ("vae", "gan", "vaegan")  # the paper's table

EPILOG = """examples:
  python -m vaegan_kernels.experiments.attribute_similarity --data celeba/ --out results/
  python -m vaegan_kernels.experiments.attribute_similarity --data celeba/ --out results/ --systems vae,vae-dis,gan,vaegan"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.attribute_similarity", epilog=EPILOG,
        description="Draw samples of conditional models for the attributes of test images, and let a regressor judge them.",
    )  # fmt: skip
    add_common(parser)
    parser.add_argument(
        "--systems", default=",".join(SYSTEMS), metavar="A,B", help=f"which, of {','.join(ORDER)} (default: {','.join(SYSTEMS)})"
    )
    parser.add_argument("--seeds", type=whole_number, default=1, metavar="N", help="models of a system, seeds --seed and up (default: 1)")
    parser.add_argument("--repeats", type=whole_number, default=25, metavar="N", help="samples for each test vector (default: 25)")
    parser.add_argument(
        "--best-of", type=whole_number, default=10, metavar="N", help="samples that the best cosine is taken of (default: 10)"
    )
    parser.add_argument("--test-images", type=whole_number, default=1000, metavar="N", help="use at most N test images (default: 1000)")
    parser.add_argument("--rows", type=whole_number, default=8, metavar="N", help="attribute vectors in the figure (default: 8)")
    parser.add_argument("--columns", type=whole_number, default=4, metavar="N", help="samples of each system in the figure (default: 4)")
    add_regressor(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--seeds", arguments.seeds, 100)
    check_count("--repeats", arguments.repeats, 10_000)
    check_count("--best-of", arguments.best_of, arguments.repeats)
    check_count("--test-images", arguments.test_images, 10**7, 2)
    check_count("--rows", arguments.rows, 50)
    check_count("--columns", arguments.columns, 50)
    systems = list_of("--systems", arguments.systems, ORDER)
    check_attributes(arguments)
    out, dataset = Path(arguments.out), load_data(arguments)
    regressor = regressor_of(arguments, dataset)  # before the runs: a --regressor that cannot be used is told at once
    check_regressor(regressor, dataset, ())
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    wanted = {system: {row_name(system, seed, seeds): seed for seed in seeds} for system in systems}
    folders = {
        name: run_of(arguments, system, conditional=True, seed=seed) for system, names in wanted.items() for name, seed in names.items()
    }
    facts = about(arguments, dataset, list(folders.values()))
    models = {name: open_model(arguments, folder) for name, folder in folders.items()}
    judge = Judge(regressor, dataset, next(iter(models.values())).attribute_names, arguments.test_images)

    file = out / "attribute_similarity.json"
    about_all = {"test_images": len(judge.targets), "repeats": arguments.repeats, "best_of": arguments.best_of, "attributes": judge.names}
    results: dict[str, Any] = {"test set": judge.test_set(), "training mean": judge.training_mean()}
    base = {"judge": digest(arguments), "data": dataset.fingerprint, "test_images": len(judge.targets), "best_of": arguments.best_of}
    keys = {name: {**base, "step": m.header.step, "created": m.header.created} for name, m in models.items()}
    results |= taken_over(read_json(file) if file.is_file() else {}, base, keys)
    for name, model in models.items():
        progress = Counter(f"{folders[name].name}, runs of {len(judge.targets)} samples", quiet=arguments.quiet)
        row = results.setdefault(name, {"key": keys[name], "mse": [], "other_mse": [], "best": [-1.0] * len(judge.targets)})
        for seed in range(len(row["mse"]), arguments.repeats):
            judge.run(model, row, seed, arguments.best_of)
            write_json(file, {**facts, **about_all, "systems": results})
            progress(seed + 1, arguments.repeats)
    rows = {name: [results[name]] for name in ("test set", "training mean")}
    shown = table(rows | {NAMES[system]: [results[name] for name in names] for system, names in wanted.items()}, arguments.repeats)
    write_json(file, {**facts, **about_all, "systems": results, "tables": {"attribute-similarity": shown}})
    first = {system: models[next(iter(names))] for system, names in wanted.items()}
    figure = draw(first, judge, out / "attribute_similarity.png", rows=arguments.rows, columns=arguments.columns, seed=arguments.seed)
    print(shown)
    print(f"{file}; samples: {figure}")
    return 0


def row_name(system: str, seed: int, seeds: range) -> str:
    """What a model's numbers are kept under: the system's name for the first seed, ``vae-seed1`` and so on for others."""
    return system if seed == seeds[0] else run_name(system, seed=seed)


def taken_over(stored: dict[str, Any], base: dict[str, Any], keys: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The results of an earlier start that still hold: of the same data and regressor and, for the systems asked for, the same runs."""
    known = {name: row for name, row in stored.get("systems", {}).items() if "key" in row}
    same = {name: row for name, row in known.items() if {**row["key"], **plain(base)} == row["key"]}
    return {name: row for name, row in same.items() if row["key"] == plain(keys.get(name, row["key"]))}


class Judge:
    """The regressor, and the attributes [N, A] of the test images that it is held against. A attributes of the condition."""

    def __init__(self, regressor: Any, dataset: Any, names: Sequence[str], count: int) -> None:
        check_regressor(regressor, dataset, names)
        self.regressor, self.dataset, self.names = regressor, dataset, tuple(names)
        self.columns = [regressor.attribute_names.index(name) for name in names]
        self.test = held_out(dataset)[:count]
        attributes = dataset.attributes_of(names)
        self.targets = attributes[self.test].astype(np.float64)
        self.mean = attributes[dataset.split("train")].mean(axis=0, dtype=np.float64)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """float64 [N, A]: the attributes that the regressor sees."""
        return np.asarray(self.regressor.predict(images), np.float64)[:, self.columns]

    def score(self, predicted: np.ndarray) -> dict[str, Any]:
        """Mean squared error against the test images' attributes, the same against those of the next image, and cosines [N].

        The second number is that of samples which are like faces of the data, but do not listen to the attributes.
        """
        other = np.roll(self.targets, 1, axis=0)
        return {
            "mse": float(squared_errors(predicted, self.targets).mean()),
            "other_mse": float(squared_errors(predicted, other).mean()),
            "cosines": cosine_rows(predicted, self.targets),
        }

    def run(self, model: Model, row: dict[str, Any], seed: int, best_of: int) -> None:
        """One sample for each test image's attributes, its numbers put into ``row``; after ``best_of`` runs the best cosines are known."""
        images = model.decode(model.prior(len(self.targets), seed), self.targets)
        score = self.score(self.predict(images))
        row["mse"].append(score["mse"])
        row["other_mse"].append(score["other_mse"])
        if seed < best_of:
            row["best"] = np.maximum(row["best"], score["cosines"]).round(6).tolist()
        if seed == best_of - 1:
            row["cosine"] = float(np.mean(row.pop("best")))

    def test_set(self) -> dict[str, Any]:
        """The numbers of the test images themselves."""
        return self.constant(self.predict(self.dataset.images[self.test]))

    def training_mean(self) -> dict[str, Any]:
        """The numbers of no images at all: the mean attributes of the training images, for every test image."""
        return self.constant(np.broadcast_to(self.mean, self.targets.shape))

    def constant(self, predicted: np.ndarray) -> dict[str, Any]:
        """A row of the results without runs."""
        score = self.score(predicted)
        return {"mse": [score["mse"]], "other_mse": [score["other_mse"]], "cosine": float(score["cosines"].mean())}


def digest(arguments: argparse.Namespace) -> str:
    """SHA-256 of the regressor's file: other numbers of another regressor are not taken over."""
    path = Path(arguments.regressor or Path(arguments.out) / "regressor.h5")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw(models: dict[str, Any], judge: Judge, out: Path, *, rows: int, columns: int, seed: int = 0) -> Path:
    """Write the figure: for some test images' attributes, which are listed beside them, samples of each system. No real images."""
    from kernels import philox
    from vaegan_kernels.pictures.figures import to_uint8
    from vaegan_kernels.pictures.labelled_grid import labelled_grid

    order = philox.permutation(len(judge.targets), seed=seed, step=0, stream=philox.STREAM_FIGURE_PRIOR)[:rows]
    targets = judge.targets[order]
    given = np.repeat(targets, columns, axis=0)
    parts = []
    for model in models.values():
        images = to_uint8(model.decode(model.prior(len(given), seed), given))
        parts.append(images.reshape(len(targets), columns, *images.shape[1:]))
    images = np.concatenate(parts, axis=1)
    heads = [(k * columns, (k + 1) * columns - 1, NAMES[system]) for k, system in enumerate(models)]
    picture = labelled_grid(
        images.reshape(-1, *images.shape[2:]), [""] * images.shape[1], [described(judge.names, row) for row in targets],
        title="Samples given attributes of test images", beside=260, heads=heads, gaps=[first for first, _, _ in heads[1:]],
    )  # fmt: skip
    save_image(out, picture)
    return out


if __name__ == "__main__":
    sys.exit(run_main(main))
