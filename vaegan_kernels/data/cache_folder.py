"""Where this program keeps what it can make again, and names for it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

CacheDir = str | Path | Literal[False] | None


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
