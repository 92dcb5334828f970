"""The search for the default recipe: `python -m bench.recipe --name "margin 0.35" --seeds 0,1,2 -- --margin 0.35`.

Trains by `train`'s own flags (behind --), measures on *validation* images, appends every trial to bench/results/recipe.json: name,
settings that differ from the preset's, seed, data, figures of the averaged and of the raw weights. Test images are used with
``--split test``, at the end. ``--grids FOLDER`` draws samples and reconstructions to look at. What came out: docs/recipe.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.presets import PRESETS
from vaegan_kernels.data import load_dataset
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.evaluate import evaluate
from vaegan_kernels.files import save_image, write_json
from vaegan_kernels.pictures import figures
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.checks import configuration
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import make_parser, open_engine
from vaegan_kernels.shell.progress import Progress
from vaegan_kernels.runs import checkpoint

RESULTS = Path(__file__).with_name("results") / "recipe.json"
WHERE = {"data", "engine", "threads", "device", "precision", "seed", "animation", "curves", "draw_every", "save_every", "log_every"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recipe", description=__doc__)
    parser.add_argument("--name", required=True, help="what is tried, in words")
    parser.add_argument("--seeds", default="0", metavar="A,B,...")
    parser.add_argument("--split", default="validation", choices=("validation", "test"))
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--grids", type=Path, metavar="FOLDER")
    parser.add_argument("flags", nargs="*", help="flags of train, behind --")
    arguments = parser.parse_args()
    given = make_parser().parse_args(arguments.flags)
    for seed in map(int, arguments.seeds.split(",")):
        config = dataclasses.replace(configuration(vars(given)), seed=seed, animation=False, curves=False)
        append(arguments.out, trial(config, arguments.name, arguments.split, arguments.grids))


def trial(config: Config, name: str, split: str, grids: Path | None) -> dict[str, Any]:
    """Train one run and measure it."""
    spec = config.network_spec()
    engine, _ = open_engine(config)
    dataset = load_dataset(config.data, image_size=spec.image_size, channels=spec.channels)
    config = config.with_data(len(dataset.split("train")))
    network, start = config.system(engine), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(dataclasses.replace(config, draw_every=10**9, save_every=10**9), engine, network, dataset, RunFolder(folder))
        with Progress(config.steps or 0, 0, quiet=True) as progress:
            if trainer.run(None, progress) is not None:
                raise SystemExit("interrupted")
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    gate = [json.loads(line) for line in lines]
    preset = PRESETS[config.preset]
    differs = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Config)
        if field.name not in WHERE and getattr(config, field.name) not in (preset.get(field.name, field.default), None)
    }
    header = checkpoint.Header(config.steps or 0, config, dataset.fingerprint, dataset.name)
    result: dict[str, Any] = {
        "name": name, "data": dataset.name, "seed": config.seed, "preset": config.preset, "settings": differs, "steps": config.steps,
        "split": split, "seconds": round(time.perf_counter() - start, 1), "threads": engine.threads,
        "dis_updated": round(float(np.mean([line.get("dis_update_rate", 1.0) for line in gate])), 3),
        "dec_updated": round(float(np.mean([line.get("dec_update_rate", 1.0) for line in gate])), 3),
    }  # fmt: skip
    for weights in ("average", "raw") if config.average else ("raw",):
        model = Model(network, spec, header, weights=weights)
        result[weights] = measured(model, dataset, split)
    if grids:
        draw(
            Model(network, spec, header),
            dataset,
            split,
            grids / f"{name.replace(' ', '-').replace('/', '-')}-{dataset.name.split()[0]}-{config.seed}.png",
        )
    return result


def measured(model: Model, dataset: Dataset, split: str) -> dict[str, float]:
    """The measures of the end of a run, on the images of ``split``."""
    shown = dataset.split(split)[:300]
    found = evaluate(model, dataset.images[shown], dataset.images[dataset.split("train")[:5120]])
    found |= extra(model, dataset, shown)
    return {
        key: round(value, 4)
        for key, value in found.items()
        if key.endswith(("ratio", "mean", "agreement", "glasses", "hair", "skin", "hat"))
    }


def extra(model, dataset, shown):
    from vaegan_kernels.measures.quality_images import laplacian_variance

    real = dataset.images[shown] / 127.5 - 1
    samples = model.sample(len(real), seed=1)

    def noise(x):
        d = x - x.mean(axis=3, keepdims=True)
        s = sum(d[:, i : d.shape[1] - 2 + i, j : d.shape[2] - 2 + j] for i in range(3) for j in range(3)) / 9
        return float(((d[:, 1:-1, 1:-1] - s) ** 2).mean())

    out = {"colour_noise_ratio": noise(samples) / noise(real), "sharpness_ratio": laplacian_variance(samples) / laplacian_variance(real)}
    rebuilt = model.reconstruct(real.astype(np.float32), seed=0)
    out["rebuilt_sharpness_ratio"] = laplacian_variance(rebuilt) / laplacian_variance(real)
    mean = np.broadcast_to(dataset.images[dataset.split("train")[:5120]].mean(axis=0) / 127.5 - 1, real.shape)
    out["mean_ratio"] = float(((model.reconstruct(real.astype(np.float32), mean=True) - real) ** 2).mean() / ((mean - real) ** 2).mean())
    if dataset.name == "built-in faces":
        from vaegan_kernels.measures.regressor import load_regressor

        judge = load_regressor("/work/search/judge.h5", threads=1)
        seen = judge.predict(np.clip(rebuilt, -1, 1))
        names = list(judge.attribute_names)
        true = dataset.attributes[shown]
        col = lambda n: names.index(n)
        hair = [col(n) for n in ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair")]
        ok = true[:, hair].max(axis=1) > 0
        out["hair"] = float((seen[:, hair].argmax(1) == true[:, hair].argmax(1))[ok].mean())
        sk = lambda a: np.where(a[:, col("Pale_Skin")] > 0, 1, np.where(a[:, col("Dark_Skin")] > 0, 2, 0))
        out["skin"] = float((sk(seen) == sk(true)).mean())
        out["glasses"] = float(((seen[:, col("Eyeglasses")] > 0) == (true[:, col("Eyeglasses")] > 0)).mean())
        out["hat"] = float(((seen[:, col("Wearing_Hat")] > 0) == (true[:, col("Wearing_Hat")] > 0)).mean())
        out["agreement"] = float(np.mean([out[k] for k in ("glasses", "hair", "skin", "hat")]))
    return out


def draw(model: Model, dataset: Dataset, split: str, path: Path) -> None:
    """Samples over originals and reconstructions."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    originals = dataset.images[dataset.split(split)[:32]]
    above = figures.grid(model.sample(64), 16, path.stem, "")
    below = figures.pairs(originals, model.reconstruct(originals), 16, "", "", "rebuilt")
    size = max(above.width, below.width), above.height + below.height
    page = Image.new("RGB", size, "white")
    page.paste(above, (0, 0))
    page.paste(below, (0, above.height))
    save_image(path, page)


def append(out: Path, found: dict[str, Any]) -> None:
    """Put a trial behind those that the file has."""
    trials = json.loads(out.read_text())["trials"] if out.exists() else []
    write_json(out, {"trials": [*trials, found]})
    best = found.get("average", found["raw"])
    print(found["name"], found["data"], found["seed"], f"{found['seconds']} s", best, flush=True)


if __name__ == "__main__":
    main()
