"""The weights of VAE_Dis_l's metric, on validation images: ``python -m bench.metric --data c32.h5 --runs FOLDER``.

For each seed a GAN of 3,000 steps, then a vae-dis of 1,000 with each pair of weights: of Dis's first convolution, and of Dis_l. Each is
measured on validation images, with its averaged weights; rows of the same data are replaced in bench/results/metric.json.
docs/vae-dis.md says what came out. Runs that are finished in FOLDER are not trained again.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

import vaegan_kernels
from vaegan_kernels.data import load_dataset
from vaegan_kernels.evaluate import evaluate_on
from vaegan_kernels.experiments.common import ensure_run
from vaegan_kernels.files import write_json
from vaegan_kernels.pictures import figures
from vaegan_kernels.runs.metrics import read_metrics

RESULTS = Path(__file__).with_name("results") / "metric.json"
WEIGHTS = ((3.0, 0.3), (6.0, 0.3), (12.0, 0.3), (0.0, 1.0))  # of the first convolution and of Dis_l; the last are the paper's
QUIET = ("--threads", "1", "--no-animation", "--no-curves", "--draw-every", "100000", "--save-every", "100000")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.metric", description=__doc__)
    parser.add_argument("--data", metavar="PATH", help="as train's (default: drawn faces)")
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--gan-steps", type=int, default=3000, metavar="N")
    parser.add_argument("--steps", type=int, default=1000, metavar="N")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    arguments = parser.parse_args()
    flags = [*QUIET, *(("--data", arguments.data) if arguments.data else ())]
    dataset = load_dataset(arguments.data, image_size=32, channels=3)
    rows = []
    for seed in range(arguments.seeds):
        gan = ensure_run(arguments.runs / f"gan-seed{seed}", system="gan", seed=seed, flags=flags, steps=arguments.gan_steps)
        for first, weight in WEIGHTS:
            name = f"vae-dis-{first:g}-{weight:g}"
            settings = {"steps": arguments.steps, "gan": gan, "metric_first": first, "metric_weight": weight}
            run = ensure_run(arguments.runs / f"{name}-seed{seed}", system="vae-dis", seed=seed, flags=flags, **settings)
            row = {"data": dataset.name, "first": first, "weight": weight, "seed": seed, "steps": arguments.steps}
            rows.append({**row, "gan_steps": arguments.gan_steps, **measures(run, dataset), "date": f"{datetime.date.today()}"})
            print(rows[-1], flush=True)
            if seed == 0:
                draw(run, dataset, arguments.runs / f"{name}.png")
    log = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"command": "python -m bench.metric", "rows": []}
    write_json(arguments.out, {**log, "rows": [row for row in log["rows"] if row["data"] != dataset.name] + rows})


def measures(run: Path, dataset: Any) -> dict[str, float]:
    """Of 256 validation images: mse over the mean image's; Laplacian energies over the originals': all of the reconstructions' (sharp),
    that of the mean residual, which a fixed pattern alone has (grid), and what lies where the original has it (detail); of samples:
    diversity, sharpness, colour noise over the data's; KL of the last steps, nats."""
    model, shown = vaegan_kernels.load_model(run, threads=1), dataset.split("validation")[:256]
    x, rebuilt, usual = dataset.images[shown] / 127.5 - 1.0, model.reconstruct(dataset.images[shown]), evaluate_on(model, dataset, shown)
    theirs, ours = laplacian(x), laplacian(rebuilt)
    energy = np.mean(theirs**2)
    found = {
        "mse": usual["reconstruction_ratio"], "sharp": np.mean(ours**2) / energy,
        "grid": np.mean(laplacian((rebuilt - x).mean(axis=0, keepdims=True)) ** 2) / energy, "detail": np.mean(theirs * ours) / energy,
        "diversity": usual["diversity_ratio"], "samples_sharp": np.mean(laplacian(model.sample(256)) ** 2) / energy,
        "colour_noise": usual["colour_noise_ratio"],
        "kl": np.mean([line["prior"] for line in read_metrics(run / "metrics.jsonl")[-10:]]),
    }  # fmt: skip
    return {name: round(float(value), 3) for name, value in found.items()}


def laplacian(images: np.ndarray) -> np.ndarray:
    """Four times each value minus its four neighbours, edges repeated; [N, S, S, C]."""
    x = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return np.asarray(4 * x[:, 1:-1, 1:-1] - x[:, :-2, 1:-1] - x[:, 2:, 1:-1] - x[:, 1:-1, :-2] - x[:, 1:-1, 2:])


def draw(run: Path, dataset: Any, path: Path) -> None:
    """16 validation images over their reconstructions."""
    model, originals = vaegan_kernels.load_model(run, threads=1), dataset.images[dataset.split("validation")[:16]]
    figures.pairs(originals, model.reconstruct(originals), 16, path.stem, "", "rebuilt").save(path)


if __name__ == "__main__":
    main()
