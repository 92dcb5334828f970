"""A field of `Config`: its flag, its type, the rules of its values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vaegan_kernels.shell.cli import check_choice
from vaegan_kernels.shell.errors import UserError


def option(default: Any, group: str, text: str, **rules: Any) -> Any:
    """A dataclass field with its command-line group, help text and rules (``choices``, ``minimum``, ``above``, ``maximum``)."""
    return dataclasses.field(default=default, metadata={"group": group, "help": text, **rules})


def flag(name: str) -> str:
    """``batch_size`` → ``--batch-size``."""
    return "--" + name.replace("_", "-")


def field_type(field: dataclasses.Field[Any]) -> type:
    """The plain type of a field whose annotation may end in ``| None``."""
    return {"str": str, "int": int, "float": float, "bool": bool}[str(field.type).split(" |")[0]]


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Raise `UserError` if ``value`` breaks the rules that the field declares."""
    rules, name = field.metadata, flag(field.name)
    if value is None:
        return
    if "choices" in rules:
        if field_type(field) is str:
            check_choice(name, value, rules["choices"])
        elif value not in rules["choices"]:
            raise UserError(f"{name}: got {value}, expected one of {', '.join(map(str, rules['choices']))}")
    if field_type(field) is float and not math.isfinite(value):
        raise UserError(f"{name}: got {value}, expected a finite number{bounds(rules)}")
    if (
        ("minimum" in rules and value < rules["minimum"])
        or ("above" in rules and value <= rules["above"])
        or ("below" in rules and value >= rules["below"])
        or ("maximum" in rules and value > rules["maximum"])
    ):
        kind = "a whole number" if field_type(field) is int else "a number"
        raise UserError(f"{name}: got {value}, expected {kind}{bounds(rules)}")


def bounds(rules: Mapping[str, Any]) -> str:
    """The range of a field in words: ``" above 0 and below 1"``."""
    words = {"minimum": "of at least", "above": "above", "below": "below", "maximum": "of at most"}
    parts = [f"{word} {rules[key]:g}" for key, word in words.items() if key in rules]
    return " " + " and ".join(parts) if parts else ""


def coerce(field: dataclasses.Field[Any], value: Any) -> Any:
    """``value`` as the field's type if JSON could have meant it (an int for a float), else `UserError`."""
    wanted = field_type(field)
    if value is None and field.default is None:
        return None
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise UserError(f"{flag(field.name)}: got {value!r}, expected {words[wanted]}")
    return value
