"""Trains the judge of the drawn faces (`vaegan_kernels.measures.agreement`) for as long as it improves, and puts it into the package.

    python -m bench.judge                                one to two minutes of one CPU core

The training images of the built-in faces, 32 pixels, colour. The number of steps is doubled while that brings more right answers on the
validation images; the best is kept, its weights alone. How well it reads the test images is printed, and is in the file's header.
Longer training still lowers the squared error, but 8,000 steps answer no better, on blurred or noisy drawings either.
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


def right_answers(model: RegressorModel, dataset: Dataset, split: str) -> dict[str, float]:
    """The share of right answers to each question."""
    chosen = dataset.split(split)
    seen, true = answers(model.predict(dataset.images[chosen])), answers(dataset.attributes_of(NAMES)[chosen])
    return {question: float((seen[question] == true[question]).mean()) for question in true}


def main() -> None:
    faces = load_dataset(None, image_size=SIZE, channels=3)
    dataset = Dataset(faces.name, faces.images, faces.splits, faces.attributes_of(NAMES).astype(np.int8), NAMES, faces.preprocessing)
    steps, best = FIRST, 0.0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            out = train_regressor(
                dataset, out=Path(folder) / f"{steps}.h5", steps=steps, batch_size=BATCH, encoder_units=UNITS, device="cpu", threads=1
            )
            model = load_regressor(out, threads=1)
            right = right_answers(model, dataset, "validation")
            print(f"{steps} steps: {right}", flush=True)
            if (mean := float(np.mean(list(right.values())))) <= best:
                break
            best, kept, steps = mean, model, 2 * steps
        arrays = {name: a for name, a in kept.network.state_arrays().items() if not name.startswith("optimizer/")}
        report = {**kept.header.report, "right_answers": right_answers(kept, dataset, "test")}
        regressor_file.save(JUDGE, arrays, dataclasses.replace(kept.header, report=report))
    print(f"{JUDGE}: {JUDGE.stat().st_size:,} bytes, {kept.header.steps} steps; test images: {report['right_answers']}")


if __name__ == "__main__":
    main()
