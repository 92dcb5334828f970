"""``python -m vaegan_kernels.completion bash``: a script that completes ``python -m vaegan_kernels.…``, its flags and their values.

What users type is ``python -m``, for which completion libraries have no form (they complete programs by name); so the script is made
here, from the commands' own parsers.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vaegan_kernels.shell.cli import Parser, check_choice, run_main

SHELLS = ("bash", "zsh")
PACKAGE = Path(__file__).parent
ELSEWHERE = {"vaegan_kernels.import": "vaegan_kernels.portable.import_model"}  # a command named like a keyword: where its main is
EPILOG = """in ~/.bashrc or ~/.zshrc, with the python of the environment that vaegan-kernels is installed in:
  eval "$(.venv/bin/python -m vaegan_kernels.completion bash)"
It completes for python and python3, by any path; after other modules and scripts it completes file names. zsh reads it through
bashcompinit."""


class Found(Exception):
    """Carries a command's parser out of its main."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser


def commands() -> list[str]:
    """The modules that are run with ``python -m``, by name."""
    found = []
    for path in sorted([*PACKAGE.glob("*.py"), *(PACKAGE / "experiments").glob("*.py")]):
        if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8"):  # at a line's start: cli.py speaks of it in a docstring
            found.append(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    return found


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that the command's main makes: main is begun, and left where it would parse its arguments."""
    main: Callable[[list[str]], Any] = importlib.import_module(ELSEWHERE.get(command, command)).main

    def leave(self: argparse.ArgumentParser, *args: Any, **options: Any) -> NoReturn:
        raise Found(self)

    parse, Parser.parse_args = Parser.parse_args, leave  # type: ignore[method-assign]
    try:
        main([])
    except Found as found:
        return found.parser
    finally:
        Parser.parse_args = parse  # type: ignore[method-assign]
    raise AssertionError(f"{command}: its main parses no arguments")


def choices_of(action: argparse.Action) -> list[str]:
    """The values that a flag takes, where they are a few words: argparse's choices, or a metavar {a,b,c}."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return metavar[1:-1].split(",") if metavar.startswith("{") and metavar.endswith("}") else []


def bash_script() -> str:
    """The script for bash."""
    names, cases = commands(), []
    for name in names:
        actions = [action for action in parser_of(name)._actions if action.option_strings]
        flags = [flag for action in actions for flag in action.option_strings if flag.startswith("--")]
        values = [(action.option_strings, choices_of(action)) for action in actions if choices_of(action)]
        lines = [f"    {name})", f'      flags="{" ".join(flags)}"', '      case "$previous" in']
        lines += [f'        {"|".join(strings)}) values="{" ".join(words)}" ;;' for strings, words in values]
        # a flag that takes a value of its own: nothing is offered, and bash completes file names
        free = [flag for action in actions if action.nargs != 0 and not choices_of(action) for flag in action.option_strings]
        lines += [f"        {'|'.join(free)}) free=1 ;;"] if free else []
        cases += [*lines, "      esac ;;"]
    return "\n".join(
        [
            "_vaegan_kernels() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" module="" flags="" values="" free="" i',
            "  COMPREPLY=()",
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    if [[ "${COMP_WORDS[i]}" == -m ]]; then module="${COMP_WORDS[i+1]}"; break; fi',
            "  done",
            '  if [[ "$previous" == -m ]]; then',
            f'    COMPREPLY=($(compgen -W "{" ".join(names)}" -- "$current"))',
            "    return",
            "  fi",
            '  case "$module" in',
            *cases,
            "    *) return ;;",
            "  esac",
            '  if [[ -n "$values" ]]; then',
            '    COMPREPLY=($(compgen -W "$values" -- "$current"))',
            '  elif [[ -z "$free" && "$current" == -* ]]; then',
            '    COMPREPLY=($(compgen -W "$flags" -- "$current"))',
            "  fi",
            "}",
            "complete -o default -F _vaegan_kernels python python3",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = Parser(
        prog="python -m vaegan_kernels.completion",
        description="Print a script that completes this program's commands, their flags and values.",
        epilog=EPILOG,
    )
    parser.add_argument("shell", metavar="{" + ",".join(SHELLS) + "}", help="which shell the script is for")
    arguments = parser.parse_args(argv)
    check_choice("shell", arguments.shell, SHELLS)
    if arguments.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print(bash_script(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
