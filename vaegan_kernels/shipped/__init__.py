"""Models that come with the program: the name of one stands wherever a run's folder or a checkpoint does."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODELS = ("faces",)  # faces.h5: the built-in drawn faces; docs/export.md says how it was made


def shipped(name: str | Path) -> Path | None:
    """The checkpoint of the model ``name``; None where none is called that, or something in the working directory is."""
    return FOLDER / f"{name}.h5" if str(name) in MODELS and not os.path.lexists(name) else None
