"""The tiles that a tuner found faster, in the user's cache, one file a chip.

The file is ``tiles-<chip>.json`` in $XDG_CACHE_HOME/vaegan-kernels or ~/.cache/vaegan-kernels, in the format of `tiles.override`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernels.cache import write_atomically
from kernels.cuda.device.chips import Chip
from kernels.cuda.products import tiles
from kernels.cuda.products.tiles import Tile


def cache_path(chip: Chip) -> Path:
    """Where the winners for ``chip`` are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = re.sub(r"[^a-z0-9]+", "-", chip.name.lower()).strip("-")
    return Path(base) / "vaegan-kernels" / f"tiles-{name}.json"


def save(chip: Chip, chosen: dict[str, Tile], settled: Iterable[str] = ()) -> Path:
    """Write winners atomically, together with those of earlier runs. Raises `OSError`.

    Args:
        settled: products that were measured: an earlier winner of theirs that did not win again is removed.
    """
    path = cache_path(chip)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        pairs = old.items() if isinstance(old, dict) else ()
    except (OSError, ValueError):
        pairs = ()
    dropped = set(settled)
    kept = {name: numbers for name, numbers in pairs if name not in dropped and _plausible(numbers)}
    kept |= {name: list(tile) for name, tile in chosen.items()}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    write_atomically(path, f"{{\n{lines}\n}}\n".encode())
    return path


def _plausible(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) == 5 and all(isinstance(n, int) and n > 0 for n in numbers)


def load(chip: Chip) -> str:
    """Use the cached winners for ``chip`` from now on, if there are any; a warning where the file cannot be used, which is no error."""
    path = cache_path(chip)
    if not path.is_file():
        return ""
    try:
        tiles.override(path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        tiles.override(None)
        return f"tuned tiles are not used: {path} is damaged ({' '.join(str(error).split())[:120]}); delete it or tune again"
    return ""
