"""What all charts share: a figure of matplotlib, whatever display the surroundings name, and text that can always be drawn."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from vaegan_kernels.files import write_atomically


def new_figure(width: float, height: float) -> Any:
    """A figure of so many inches. Imports matplotlib, slow, only here, and not the backend that a notebook or $MPLBACKEND asks for."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return Figure(figsize=(width, height))


def save_figure(figure: Any, out: Path, dpi: int = 110) -> None:
    """Write a figure as PNG. Its text is drawn as it stands: a $ begins no formula, letters without a glyph are boxes."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of missing glyphs
        write_atomically(out, lambda file: figure.savefig(file, format="png", dpi=dpi))


def printable(text: str) -> str:
    """``text`` without what no font draws: bytes of a file's name that are no text."""
    return text.encode("utf-8", "replace").decode("utf-8")
