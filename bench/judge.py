"""Trains the judge of the drawn faces (`vaegan_kernels.measures.agreement`) for as long as it improves, and puts it into the package.

    python -m bench.judge                                about four minutes on one CPU core

The training images of the built-in faces, 32 pixels, colour. The number of steps is doubled while that lowers the squared error on the
validation images; the best is kept, its weights alone. How well it reads the test images is printed, and is in the file's header.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from vaegan_kernels.data import load_dataset
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.measures.agreement import JUDGE, NAMES, SIZE, answers
from vaegan_kernels.measures.regressor import RegressorModel, load_regressor, train_regressor
from vaegan_kernels.runs import regressor_file

FIRST, UNITS, BATCH = 1000, 64, 64  # steps of the first attempt; of the FC layer, so that the file is small; images in a step


def predict(model: RegressorModel, dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What the judge sees in the images of ``split``, and what is true: two [N, A]."""
    chosen = dataset.split(split)
    return model.predict(dataset.images[chosen]), dataset.attributes_of(NAMES)[chosen]


def shares(model: RegressorModel, dataset: Dataset, split: str) -> dict[str, float]:
    """The share of right answers to each question."""
    seen, true = map(answers, predict(model, dataset, split))
    return {question: float((seen[question] == true[question]).mean()) for question in true}


def main() -> None:
    faces = load_dataset(None, image_size=SIZE, channels=3)
    dataset = Dataset(faces.name, faces.images, faces.splits, faces.attributes_of(NAMES).astype(np.int8), NAMES, faces.preprocessing)
    steps, best = FIRST, np.inf
    with tempfile.TemporaryDirectory() as folder:
        while True:
            out = train_regressor(
                dataset, out=Path(folder) / f"{steps}.h5", steps=steps, batch_size=BATCH, encoder_units=UNITS, device="cpu", threads=1
            )
            model = load_regressor(out, threads=1)
            seen, true = predict(model, dataset, "validation")
            error = float(((seen - true) ** 2).sum(axis=1).mean())
            print(f"{steps} steps: squared error {error:.4f}, right answers {shares(model, dataset, 'validation')}", flush=True)
            if error >= best:
                break
            best, kept, steps = error, model, 2 * steps
        arrays = {name: a for name, a in kept.network.state_arrays().items() if not name.startswith("optimizer/")}
        report = {**kept.header.report, "right_answers": shares(kept, dataset, "test")}
        regressor_file.save(JUDGE, arrays, dataclasses.replace(kept.header, report=report))
    print(f"{JUDGE}: {JUDGE.stat().st_size:,} bytes, {kept.header.steps} steps; test images: {report['right_answers']}")


if __name__ == "__main__":
    main()
