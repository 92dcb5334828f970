"""The cache of drawn and decoded images: packed files in a folder of the user's. Losing it costs time, never correctness."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.data.formats.packed import read_packed, write_packed
from vaegan_kernels.shell.errors import UserError

CacheDir = str | Path | Literal[False] | None
_log = logging.getLogger("vaegan_kernels")


def cache_folder(cache_dir: CacheDir = None) -> Path | None:
    """The cache's folder: ``cache_dir``, else $VAEGAN_KERNELS_CACHE, $XDG_CACHE_HOME/vaegan-kernels or ~/.cache/vaegan-kernels.

    None where ``cache_dir`` is False: no cache.
    """
    if cache_dir is False:
        return None
    if cache_dir is not None:
        return Path(cache_dir)
    if own := os.environ.get("VAEGAN_KERNELS_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "vaegan-kernels"


def key_of(facts: Any) -> str:
    """16 hexadecimal digits that name ``facts`` (JSON-able)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


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
