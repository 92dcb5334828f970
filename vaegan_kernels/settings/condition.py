"""``--attributes "Smiling=1,Male=-1"``: what a conditional model is given, for the commands that use one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vaegan_kernels.runs.inference import Model
from vaegan_kernels.shell.cli import close_match
from vaegan_kernels.shell.errors import UserError


def add_attributes(parser: Any, others: str) -> None:
    """Add the flag; ``others`` says what attributes that are not named get."""
    text = f"of a conditional model: values of attributes, 1 with and -1 without as in CelebA; {others}"
    parser.add_argument("--attributes", metavar="NAME=X,...", help=text)


def parse(text: str | None) -> dict[str, float]:
    """``"Smiling=1,Male=-1"`` as {name: value}. Raises `UserError` for anything else."""
    values: dict[str, float] = {}
    for part in [] if text is None else text.split(","):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (name and equals and math.isfinite(value)):
            raise UserError(f"--attributes: got {part!r}, expected NAME=NUMBER, several with commas between: Smiling=1,Male=-1")
        if name in values:
            raise UserError(f"--attributes: {name} is given twice; give it once")
        values[name] = value
    return values


def set_attributes(model: Model, values: dict[str, float], rows: np.ndarray) -> np.ndarray:
    """``rows`` [N, A] of ``model``'s attributes with those named in ``values`` set. Raises `UserError` for an unknown name."""
    rows = np.array(rows, np.float32)
    for name, value in values.items():
        if name not in model.attribute_names:
            near = close_match(name, model.attribute_names) or f"; it has {', '.join(model.attribute_names)}"
            raise UserError(f"--attributes: the model has no attribute {name!r}{near}")
        rows[:, model.attribute_names.index(name)] = value
    return rows


def check_conditional(model: Model, values: dict[str, float]) -> None:
    """Raise `UserError` if attributes are given to a model that takes none."""
    if values and not model.attribute_names:
        raise UserError("--attributes: the model is not conditional, it takes no attributes; leave them out")
