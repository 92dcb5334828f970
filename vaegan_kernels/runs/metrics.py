"""``metrics.jsonl``: one JSON object a logged step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaegan_kernels.files import write_atomically

# Keys whose values depend on the machine's speed; all others are the same in a resumed run.
TIMING = ("images_per_second", "seconds")
LONGEST = 1 << 26  # bytes that a follower takes at once; a longer line is passed over


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
    with open(path, "rb") as file:
        yield from filter(None, map(_parsed, file))


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A line; None for one that is cut off or none of ours."""
    try:
        line = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


class Follower:
    """The lines of a metrics file that grows: what was read is not read again, but for a file that a resumed run has made shorter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._read = 0, 0  # the file's number, bytes

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first; not to be changed. None of what is no file, or cannot be read."""
        if not self.path.is_file():  # a pipe would keep its reader waiting
            self._lines, self._read = [], (0, 0)
            return self._lines
        try:
            with open(self.path, "rb") as file:
                state = os.fstat(file.fileno())
                number, start = self._read
                if number != state.st_ino or start > state.st_size:
                    self._lines, start = [], 0
                file.seek(start)
                text = file.read(LONGEST)
        except OSError:
            return self._lines
        whole = text.rfind(b"\n") + 1 or (len(text) if len(text) == LONGEST else 0)
        self._lines += filter(None, map(_parsed, text[:whole].splitlines()))
        self._read = state.st_ino, start + whole
        return self._lines


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
