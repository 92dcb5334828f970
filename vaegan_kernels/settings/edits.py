"""``--add``, ``--remove`` and ``--strength``: which attribute vectors are added to z, and how much of them. L latent numbers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import numpy as np

from vaegan_kernels.shell.cli import Parser, close_match
from vaegan_kernels.shell.errors import UserError

STRENGTH = 1.5


def add_edits(parser: Parser) -> None:
    """Add --add, --remove and --strength."""
    for flag, what in (("--add", "added to"), ("--remove", "subtracted from")):
        text = f"attribute vectors {what} z; several with commas between, or the flag repeated"
        parser.add_argument(flag, action="append", default=[], metavar="NAME,...", help=text)
    parser.add_argument("--strength", type=float_of, metavar="X", help=f"times how much (default: {STRENGTH:g})")


def float_of(text: str) -> float:
    """argparse type: a finite number of a size that Dec can make something of."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from -100 to 100")
    return value


def names_of(values: Iterable[str]) -> list[str]:
    """``["Smiling,Male", "Young"]`` as three names."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def direction(vectors: dict[str, np.ndarray], add: Sequence[str], remove: Sequence[str], strength: float | None) -> np.ndarray:
    """What is added to z, [L]: strength times the sum of the vectors ``add`` minus those of ``remove`` (strength None: `STRENGTH`).

    Raises `UserError` for a name that there is no vector of, or one given twice.
    """
    for flag, names in (("--add", add), ("--remove", remove)):
        for name in names:
            if name not in vectors:
                near = close_match(name, vectors) or f"; it has {', '.join(vectors)}"
                raise UserError(f"{flag}: the checkpoint has no vector of the attribute {name!r}{near}")
    twice = [name for name in vectors if [*add, *remove].count(name) > 1]
    if twice:
        raise UserError(f"--add, --remove: {twice[0]} is given twice; give it once, --strength makes it stronger")
    parts = [vectors[name] for name in add] + [-vectors[name] for name in remove]
    return np.asarray((STRENGTH if strength is None else strength) * np.sum(parts, axis=0, dtype=np.float64))


def wording(add: Sequence[str], remove: Sequence[str], strength: float | None) -> str:
    """``"+Smiling -Eyeglasses, strength 1.5"``."""
    names = [f"+{name}" for name in add] + [f"-{name}" for name in remove]
    return f"{' '.join(names)}, strength {STRENGTH if strength is None else strength:g}"
