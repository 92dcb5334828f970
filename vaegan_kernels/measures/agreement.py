"""Does the reconstruction of a built-in face show what the original has: glasses, hair colour, skin, a hat?

A judge reads these off the reconstruction: a regressor (`measures.regressor`) that was trained on the drawings by ``python -m bench.judge``
and is part of the package. N images, S pixels a side.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from kernels.cpu.threads import thread_count
from vaegan_kernels.data import drawn
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.measures.quality_images import as_float
from vaegan_kernels.measures.regressor import RegressorModel, load_regressor

JUDGE = Path(drawn.__file__).with_name("judge.h5")
SIZE = 32  # pixels a side that the judge reads
# A question and its answers. "Hair" has one of its own in every drawing; the others may be answered with none of theirs.
QUESTIONS = {
    "glasses": ("Eyeglasses",),
    "hair": ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair"),
    "skin": ("Dark_Skin", "Pale_Skin"),
    "hat": ("Wearing_Hat",),
}
NAMES = tuple(name for names in QUESTIONS.values() for name in names)


def answers(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Of attributes [N, len(NAMES)], true (+1 or -1) or as the judge sees them, the answer to each question: int [N].

    It is the attribute with the highest score or, but for hair, where none is above 0, none of them.
    """
    result = {}
    for question, names in QUESTIONS.items():
        columns = scores[:, [NAMES.index(name) for name in names]]
        result[question] = (columns if question == "hair" else np.pad(columns, ((0, 0), (1, 0)))).argmax(axis=1)
    return result


def truth_of(dataset: Dataset, indices: np.ndarray) -> np.ndarray | None:
    """The true attributes [N, len(NAMES)] of images of the built-in faces in colour; None for other images: the judge cannot read them."""
    _, size, _, channels = dataset.images.shape
    if dataset.preprocessing.get("source") != "built-in faces" or channels != 3 or size % SIZE:
        return None
    return dataset.attributes_of(NAMES)[indices]


def reduced(images: np.ndarray) -> np.ndarray:
    """float64 [N, 32, 32, 3] in [-1, 1] of images [N, S, S, 3]: means over squares of S / 32 pixels."""
    x = np.clip(as_float(images), -1, 1)
    wide = x.shape[1] // SIZE
    return np.asarray(x.reshape(len(x), SIZE, wide, SIZE, wide, 3).mean(axis=(2, 4)))


@functools.cache
def judge() -> RegressorModel:
    """The judge of the package, on the NumPy engine: it judges alike whichever engine a model is used with, and compiles nothing."""
    return load_regressor(JUDGE, engine="numpy", threads=thread_count())  # the threads are the process's: left as they are


def agreement(images: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The share of ``images`` [N, S, S, 3] in which the judge sees what ``truth`` [N, len(NAMES)] says.

    Returns: ``glasses_agreement``, ``hair_agreement``, ``skin_agreement``, ``hat_agreement``, their mean ``attribute_agreement``, and
    ``constant_agreement``: that mean if each question always got its most frequent answer, whatever the image.
    """
    seen, true = answers(judge().predict(reduced(images))), answers(truth)
    shares = {question: float((seen[question] == true[question]).mean()) for question in QUESTIONS}
    constant = float(np.mean([np.bincount(true[question]).max() / len(truth) for question in QUESTIONS]))
    each = {f"{question}_agreement": share for question, share in shares.items()}
    return {"attribute_agreement": float(np.mean(list(shares.values()))), **each, "constant_agreement": constant}
