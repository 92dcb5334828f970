"""Tables in Markdown, and pages that hold them between markers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vaegan_kernels.shell.errors import UserError

END = "<!-- /table -->"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits without an exponent: 0.00123, 12.3, 1,230. A dash for None and for what is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 8)}f}"


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """``"0.206 ± 0.004"``: the mean and the sample standard deviation; the value alone for one, a dash for none."""
    mean, deviation, _ = mean_and_deviation(values)
    if mean is None or deviation is None:
        return number(mean, digits)
    places = max(0, digits - 1 - math.floor(math.log10(max(abs(mean), deviation)))) if mean or deviation else 0
    return f"{mean:,.{min(places, 8)}f} ± {deviation:,.{min(places, 8)}f}"


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float | None, float | None, int]:
    """The mean and the sample standard deviation of the numbers among ``values``, None where there are too few, and how many they are."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None, None, 0
    mean, count = sum(known) / len(known), len(known)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in known) / (count - 1)) if count > 1 else None, count


def numbers_of(values: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The numbers of a dictionary and of those in it, ``{"a": {"b": 1}}`` as ``{"a b": 1}``. Truth values, texts and None are left out."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{before}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[before + name] = value
    return found


def marker(name: str) -> str:
    """The line before a table."""
    return f"<!-- table: {name} -->"


def markers(page: str) -> list[str]:
    """The names of the tables that a page has room for, in order. Raises `UserError` for a marker without its end."""
    names = re.findall(r"<!-- table: ([\w-]+) -->", page)
    if len(re.findall(re.escape(END), page)) != len(names):
        raise UserError(f"the page has {len(names)} table markers and another number of {END}; each table needs both")
    return names


def insert(page: str, tables: Mapping[str, str]) -> str:
    """The page with each of ``tables`` between its markers, everything else as it was. Tables without a marker are left out."""
    markers(page)

    def put(match: re.Match[str]) -> str:
        return f"{marker(match[1])}\n{tables[match[1]]}\n{END}" if match[1] in tables else match[0]

    return re.sub(r"<!-- table: ([\w-]+) -->\n.*?" + re.escape(END), put, page, flags=re.DOTALL)
