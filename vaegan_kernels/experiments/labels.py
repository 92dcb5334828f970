"""What the semi-supervised experiment classifies: the classes of a data set's images, and the few of them that keep their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import philox
from vaegan_kernels.shell.cli import close_match
from vaegan_kernels.shell.errors import UserError

BUILT_IN = "Smiling"  # what is classified in the built-in faces: half of them do


@dataclass(frozen=True)
class Target:
    """What is to be recognised: ``name``, ``classes`` (their names) and ``labels``, int32 [n], −1 for an image of no known class."""

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray

    def labelled(self, dataset: Any, split: str) -> np.ndarray:
        """int64 indices of the images of ``split`` that have a label."""
        indices = dataset.split(split)
        return indices[self.labels[indices] >= 0]


def target_of(dataset: Any, asked: str | None, *, built_in: bool = False) -> Target:
    """The class labels of ``dataset`` (``asked`` "labels", or None where it has them), or two classes by an attribute's sign.

    Raises `UserError`: no labels and no attribute named, an unknown attribute, fewer than two classes, no labelled image in a split.
    """
    own = getattr(dataset, "labels", None)
    if asked is None and own is None and built_in:
        asked = BUILT_IN
    if asked in (None, "labels"):
        if own is None:
            names = dataset.attribute_names
            also = f"; name an attribute to be recognised: {', '.join(names)}" if names else ", nor attributes; give data that has either"
            raise UserError(f"--target: {dataset.name} has no class labels{also}")
        names = tuple(getattr(dataset, "label_names", ()))
        count = max(len(names), int(own.max(initial=-1)) + 1)
        target = Target("labels", tuple(names[k] if k < len(names) else str(k) for k in range(count)), own.astype(np.int32))
    elif asked not in dataset.attribute_names:
        near = close_match(str(asked), dataset.attribute_names) or f"; it has {', '.join(dataset.attribute_names) or 'none'}"
        raise UserError(f"--target: {dataset.name} has no attribute {asked!r}{near}")
    else:
        has = dataset.attributes_of([asked])[:, 0] > 0
        target = Target(str(asked), (f"not {asked}", str(asked)), has.astype(np.int32))
    check(target, dataset)
    return target


def check(target: Target, dataset: Any) -> None:
    """Raise `UserError` unless there is something to learn and something to test it on."""
    counts = counts_of(target, dataset)
    if not counts.any():
        raise UserError(f"--target: no training image of {dataset.name} has a label; name an attribute instead, or give other data")
    if (counts > 0).sum() < 2:
        only = target.classes[int(counts.argmax())]
        raise UserError(f"--target: all labelled training images of {dataset.name} are of one class, {only!r}; choose another target")
    if not len(target.labelled(dataset, "test")):
        raise UserError(f"--data: no test image of {dataset.name} has a label; accuracy cannot be measured; give other data")


def counts_of(target: Target, dataset: Any) -> np.ndarray:
    """int64 [K]: labelled training images of each class."""
    return np.bincount(target.labels[target.labelled(dataset, "train")], minlength=len(target.classes))


def check_counts(counts: Sequence[int], target: Target, dataset: Any) -> None:
    """Raise `UserError` unless as many labels can be drawn, equally many of each class."""
    there, classes = counts_of(target, dataset), len(target.classes)
    for count in counts:
        if count < classes:
            raise UserError(f"--labels: got {count}, expected at least {classes}, one of each class")
        for k, quota in enumerate(quotas(count, classes)):
            if quota > there[k]:
                raise UserError(
                    f"--labels: {count} labels take {quota} of the class {target.classes[k]!r}, but only {there[k]} training images of "
                    f"{dataset.name} have it; expected at most {there.min() * classes}"
                )


def quotas(count: int, classes: int) -> list[int]:
    """How many of ``count`` labels each class gets: equally many, one more for the first where it does not come out even."""
    return [count // classes + (k < count % classes) for k in range(classes)]


def draw_labelled(target: Target, dataset: Any, count: int, seed: int) -> np.ndarray:
    """int64 [count]: the training images that keep their labels, ascending.

    Of class k the first of the permutation that Philox draws for (seed, step k, stream `philox.STREAM_LABELS`): a smaller number of
    labels is always a part of a larger one.
    """
    labelled, drawn = target.labelled(dataset, "train"), []
    for k, quota in enumerate(quotas(count, len(target.classes))):
        members = labelled[target.labels[labelled] == k]
        drawn.append(members[philox.permutation(len(members), seed=seed, step=k, stream=philox.STREAM_LABELS)[:quota]])
    return np.sort(np.concatenate(drawn))


def majority(target: Target, dataset: Any) -> dict[str, Any]:
    """The answer that needs no image: the class that most labelled training images have, and its share of the test images."""
    most = int(counts_of(target, dataset).argmax())
    return {"class": target.classes[most], "accuracy": float((target.labels[target.labelled(dataset, "test")] == most).mean())}
