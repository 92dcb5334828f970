"""The images that a trained model is used on: those in ``--data``, or those that its run was trained on."""

from __future__ import annotations

from collections.abc import Callable

from vaegan_kernels import data
from vaegan_kernels.data import Dataset
from vaegan_kernels.data.source import kind_of
from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.cli import tell
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.progress import Counter


def data_of(
    model: Model, source: str | None, *, quiet: bool = False, check: Callable[[str | None], None] = lambda place: None,
    limit: int | None = None,
) -> Dataset:  # fmt: skip
    """The `Dataset` in ``source`` or, for None, the data that the model was trained on.

    ``check`` is called with where the images are before any is read; ``limit``: at most so many images, of all splits. Raises `UserError`
    if they are not there.
    """
    config = model.header.config
    size, _, channels = model.image_shape
    place = source if source is not None else config.data
    try:
        data.check_source(place, image_size=size, channels=channels)
        fit = config.fit if kind_of(place) == "folder" else "crop"
    except UserError as error:
        raise error if source is not None else UserError(f"{error}; --data says where the run's images are now") from None
    check(place)
    limits = [count for count in (limit, config.limit if source is None else None) if count is not None]
    dataset = data.load_dataset(
        place, image_size=size, channels=channels, seed=config.data_seed, limit=min(limits, default=None), fit=fit,
        progress=Counter("reading images" if place else "drawing faces", quiet=quiet),
    )  # fmt: skip
    if dataset.passed_over and not quiet:
        tell(f"{place}: {dataset.passed_over}")
    return dataset
