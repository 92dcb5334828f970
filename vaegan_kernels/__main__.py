"""``vaegan COMMAND …``, or ``python -m vaegan_kernels COMMAND …``: every command by its name; without one, a list of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vaegan_kernels.shell import commands
from vaegan_kernels.shell.cli import Parser, close_match, run_main
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.version import __version__

HELP: tuple[list[str], ...] = ([], ["-h"], ["--help"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names (after ``experiments``: the second too). Only its module is imported."""
    words = list(sys.argv[1:] if argv is None else argv)
    group = words[:1] if words[:1] == ["experiments"] else []
    own, rest = words[: len(group) + 1], words[len(group) + 1 :]
    every = [name for name in commands.names() if name.startswith("experiments.") or not group]
    if words[len(group) :] in HELP:
        print(listing(every))
        return 0
    if words == ["--version"]:
        print(f"vaegan-kernels {__version__}")
        return 0
    name, shown = ".".join(own), " ".join(own)
    if name not in every:
        near = close_match(shown, [one.replace(".", " ") for one in every])
        raise UserError(f"unknown command {shown!r}{near or ' (vaegan alone lists them all)'}")
    Parser.front = "vaegan"
    code: int = commands.module(name).main(rest)
    return code


def listing(names: Sequence[str]) -> str:
    """A line for each command: its name and what it does, from its own description."""
    rows = [(name.replace(".", " "), commands.summary(commands.parser_of(name))) for name in names]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:{width}}  {text}" for name, text in rows]
    return "\n".join(["usage: vaegan COMMAND ...   (--help after it tells its options)", "", *lines])


def run() -> int:
    """What ``vaegan`` calls."""
    return run_main(main)


if __name__ == "__main__":
    sys.exit(run())
