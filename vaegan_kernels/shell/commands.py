"""The commands: their names, their modules, and what each does in one line."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

from vaegan_kernels.shell.cli import Parser

PACKAGE = Path(__file__).parent.parent


def names() -> list[str]:
    """The modules of the package that are run with ``python -m``: "augment", …, "experiments.walk"."""
    found = []
    for path in [*sorted(PACKAGE.glob("[!_]*.py")), *sorted(PACKAGE.glob("experiments/[!_]*.py"))]:
        if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8"):
            found.append(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    return found


def module(name: str) -> ModuleType:
    """The module of a command: it has ``main(argv)`` and ``make_parser()``."""
    return importlib.import_module(f"vaegan_kernels.{name}")


def parser_of(name: str) -> Parser:
    """The command's own parser."""
    parser: Parser = module(name).make_parser()
    return parser


def summary(parser: Parser) -> str:
    """What a command does: the first sentence of its description, up to a colon."""
    text = " ".join((parser.description or "").split())
    return re.split(r"[:;]|\.(?= [A-Z]|$)", text, maxsplit=1)[0]
