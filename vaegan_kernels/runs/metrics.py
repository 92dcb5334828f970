"""``metrics.jsonl``: one JSON object a logged step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaegan_kernels.files import write_atomically

# Keys whose values depend on the machine's speed; all others are the same in a resumed run.
TIMING = ("images_per_second", "seconds")


def append_metrics(path: Path, line: dict[str, Any]) -> None:
    """Append one line and hand it to the system at once, so that the file can be followed and survives a kill."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, oldest first; an absent file has none, a line cut off by a kill is left out."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield line


def truncate_metrics(path: Path, step: int) -> float:
    """Drop the lines after ``step``, which a resumed run writes again; the file is replaced as a whole.

    Returns: the training seconds of the last line that stays, 0 if none does.
    """
    if not path.exists():
        return 0.0
    kept = [line for line in _lines(path) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_atomically(path, lambda file: file.write(text.encode()))
    return float(kept[-1].get("seconds", 0.0)) if kept else 0.0
