"""Kernels that may break a rule of bench.aot_rules, each with its reason. One that nothing needs any more fails the check."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Exemption(NamedTuple):
    """Patterns (`fnmatch`) of the key behind chip and precision, of the chip and of the precision; the rule; why.

    ``everywhere``: needed by the kernels of CI, not only by those of --all.
    """

    kernel: str
    chip: str
    precision: str
    rule: str
    reason: str
    everywhere: bool = True

    def covers(self, key: str, chip: str, precision: str) -> bool:
        name = key.split(" ", 2)[2]
        return fnmatchcase(name, self.kernel) and fnmatchcase(chip, self.chip) and fnmatchcase(precision, self.precision)


EXCEPTIONS: tuple[Exemption, ...] = ()
