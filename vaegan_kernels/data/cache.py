"""The cache of drawn and decoded images: packed files in a folder of the user's. Losing it costs time, never correctness."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vaegan_kernels.data.cache_folder import CacheDir, cache_folder, key_of
from vaegan_kernels.data.dataset import Dataset, Progress, limited
from vaegan_kernels.data.formats.packed import read_packed, write_packed
from vaegan_kernels.data.plan import Plan, gather
from vaegan_kernels.shell.errors import UserError

_log = logging.getLogger("vaegan_kernels")


def load(plan: Plan, *, limit: int | None, cache_dir: CacheDir, progress: Progress | None, workers: int | None) -> Dataset:
    """The pictures of ``plan``, at most ``limit`` of them: decoded, or taken from the cache if nothing has changed."""
    key = key_of(plan.facts if plan.stamps is None else [plan.facts, plan.stamps, limit])
    return cached(cache_dir, plan.stem, key, lambda: gather(plan, limited(plan.splits, limit), progress, workers))


def cached(cache_dir: CacheDir, stem: str, key: str, make: Callable[[], Dataset]) -> Dataset:
    """The data set cached as ``stem``-``key``.h5, else what ``make`` returns, which is then cached in place of older keys of that stem.

    A cached file that is damaged is made again. A cache that cannot be written is told in one line, and is no error.
    """
    folder = cache_folder(cache_dir)
    if folder is None:
        return make()
    path = folder / f"{stem}-{key}.h5"
    if path.is_file():
        try:
            return read_packed(path)
        except UserError as error:
            _log.warning("cache: %s is not used and made again (%s)", path.name, error)
    dataset = make()
    try:
        write_packed(path, dataset)
        for old in folder.glob(f"{stem}-{'[0-9a-f]' * 16}.h5"):
            if old != path:
                old.unlink(missing_ok=True)
    except (UserError, OSError) as error:
        _log.warning("cache: not kept, the next start takes as long: %s", error)
    return dataset
