"""Learning rate against progress."""

from __future__ import annotations


def learning_rate(step: int, steps: int, *, start: float, stop: float, epochs: int = 0) -> float:
    """The rate of step ``step`` (from 0) of ``steps``: start − p^0.75 · (start − stop), the authors' schedule.

    Args:
        start, stop: applied rates (the authors' 0.02 and 1e-5 divided by their batch of 64).
        epochs: p moves in so many equal stairs, e / N, as theirs does; 0: smoothly.
    """
    progress = step / steps if not epochs else (step * epochs // steps) / epochs
    return start - progress**0.75 * (start - stop)
