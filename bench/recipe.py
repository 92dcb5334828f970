"""The search for the default recipe: ``python -m bench.recipe --name "margin 0.45" --seeds 0,1,2 -- --margin 0.45``.

Trains with `train`'s own flags (behind --), measures what the end of a run measures, but on *validation* images, and appends each trial
to bench/results/recipe.json: its name, all settings, seed, data, figures of the averaged and of the raw weights. ``--split test`` is for
the end. ``--grids FOLDER`` draws samples and reconstructions to look at. docs/recipe.md says what came out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vaegan_kernels.data import load_dataset
from vaegan_kernels.evaluate import evaluate_on
from vaegan_kernels.files import save_image, write_json
from vaegan_kernels.pictures import figures
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.settings.checks import configuration
from vaegan_kernels.settings.config import Config
from vaegan_kernels.settings.options import make_parser, open_engine
from vaegan_kernels.shell.progress import Progress

RESULTS = Path(__file__).with_name("results") / "recipe.json"
NOT_SETTINGS = {"data", "device", "engine", "threads", "precision", "seed", "steps", "log_every", "draw_every", "save_every", "animation"}
NOT_SETTINGS |= {"curves", "tensorboard", "reconstruct_from", "preset"}
NEVER = 10**9  # steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recipe", description=__doc__)
    parser.add_argument("--name", required=True, help="what is tried, in words")
    parser.add_argument("--seeds", default="0", metavar="A,B,...")
    parser.add_argument("--split", default="validation", choices=("validation", "test"))
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--grids", type=Path, metavar="FOLDER")
    parser.add_argument("flags", nargs="*", help="flags of train, behind --")
    arguments = parser.parse_args()
    given = vars(make_parser().parse_args(arguments.flags))
    for seed in map(int, arguments.seeds.split(",")):
        config = configuration({**given, "seed": seed, "draw_every": NEVER, "save_every": NEVER})
        found = trial(config, arguments.name, arguments.split, arguments.grids)
        log = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"command": "python -m bench.recipe", "trials": []}
        write_json(arguments.out, {**log, "trials": [*log["trials"], found]})
        print(found["name"], found["data"], seed, f"{found['seconds']} s", found.get("average", found["raw"]), flush=True)


def trial(config: Config, name: str, split: str, grids: Path | None) -> dict[str, Any]:
    """Train one run and measure it; the entry of the file."""
    spec, start = config.network_spec(), time.perf_counter()
    engine, _ = open_engine(config)
    dataset = load_dataset(config.data, image_size=spec.image_size, channels=spec.channels)
    config = config.with_data(len(dataset.split("train")))
    network, steps = config.system(engine), config.steps or 0
    with tempfile.TemporaryDirectory() as folder, Progress(steps, 0, quiet=True) as progress:
        if Trainer(config, engine, network, dataset, RunFolder(folder)).run(None, progress) is not None:
            raise SystemExit("interrupted")
        lines = read_metrics(RunFolder(folder).metrics)
    settings = {name: value for name, value in config.to_dict().items() if name not in NOT_SETTINGS and value is not None}
    result: dict[str, Any] = {
        "name": name, "data": dataset.name, "seed": config.seed, "steps": steps, "split": split, "settings": settings,
        "seconds": round(time.perf_counter() - start, 1), "threads": engine.threads, "date": f"{datetime.date.today()}",
    }  # fmt: skip
    for key in ("dec_update_rate", "dis_update_rate"):
        result |= {key: round(float(np.mean([line[key] for line in lines])), 3)} if key in lines[0] else {}
    header, shown = checkpoint.Header(steps, config, dataset.fingerprint, dataset.name), dataset.split(split)
    for weights in checkpoint.WEIGHTS if config.average else ("raw",):
        measured = evaluate_on(Model(network, spec, header, weights=weights), dataset, shown)
        result[weights] = {key: None if value is None else round(value, 4) for key, value in measured.items()}
    if grids:
        draw(Model(network, spec, header), dataset.images[shown[:32]], f"{name}, {dataset.name}, seed {config.seed}", grids)
    return result


def draw(model: Model, originals: np.ndarray, title: str, folder: Path) -> None:
    """Samples over originals and reconstructions, as one picture."""
    above = figures.grid(model.sample(64), 16, title, "")
    below = figures.pairs(originals, model.reconstruct(originals), 16, "", "", "rebuilt")
    page = Image.new("RGB", (max(above.width, below.width), above.height + below.height), "white")
    page.paste(above, (0, 0))
    page.paste(below, (0, above.height))
    folder.mkdir(parents=True, exist_ok=True)
    save_image(folder / ("-".join(title.replace(",", "").replace("/", " ").split()) + ".png"), page)


if __name__ == "__main__":
    main()
