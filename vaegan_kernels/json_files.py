"""JSON files that are written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaegan_kernels.run_folder import write_atomically


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` whole or not at all. NumPy numbers become plain ones, numbers that are not finite become null."""
    text = json.dumps(plain(value), indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


def plain(value: Any) -> Any:
    """``value`` with NumPy's numbers and arrays, tuples and paths made into what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
