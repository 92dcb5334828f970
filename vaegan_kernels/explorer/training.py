"""What the training of a run has written so far: curves and grids, read as they grow."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from vaegan_kernels.files import plain
from vaegan_kernels.pictures.figures import PANELS, drawn_steps
from vaegan_kernels.runs.metrics import Follower
from vaegan_kernels.runs.run_folder import RunFolder

POINTS = 600  # of a curve, about
LARGEST = 1 << 25  # bytes of a grid


class Training:
    """A run's folder. ``kinds``: {"samples": its folder, ...}."""

    def __init__(self, path: Path) -> None:
        folder = RunFolder(path)
        self.kinds = {"samples": folder.samples, "reconstructions": folder.reconstructions}
        self.begun = folder.config.is_file() or folder.metrics.is_file()  # else it is a folder of weights alone
        self._metrics, self._follower, self._lock = folder.metrics, Follower(folder.metrics), threading.Lock()

    def about(self) -> dict[str, Any]:
        """JSON: ``curves``, as in curves.png, over ``steps``; the steps of the ``grids``; how many seconds ago a line was written."""
        with self._lock:
            lines = list(self._follower.lines())
        shown = lines[:: max(1, len(lines) // POINTS)]
        shown += lines[-1:] if shown[-1:] != lines[-1:] else []
        curves = []
        for title, series, scale in PANELS if lines else ():
            found = {label: [_number(line.get(key)) for line in shown] for key, label in series if key in lines[-1]}
            curves += [{"title": title, "scale": scale, "series": found}] if found else []
        try:
            age = time.time() - self._metrics.stat().st_mtime if lines else None
        except OSError:
            age = None
        about = {
            "age": None if age is None else round(max(0.0, age), 1),
            "steps": [line["step"] for line in shown],
            "curves": curves,
            "grids": {kind: list(self._drawn(kind)) for kind in self.kinds},
        }
        return dict(plain(about))  # a run that went astray has numbers that JSON has not

    def grid(self, kind: str, step: int) -> bytes | None:
        """The picture of a step, as PNG: one of those that are listed, never a file that the question names."""
        path = self._drawn(kind).get(step) if kind in self.kinds else None
        if path is None or path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            return None
        picture = path.read_bytes()
        return picture if picture.startswith(b"\x89PNG") else None

    def _drawn(self, kind: str) -> dict[int, Path]:
        folder = self.kinds[kind]
        return {} if folder.is_symlink() else dict(drawn_steps(folder))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
