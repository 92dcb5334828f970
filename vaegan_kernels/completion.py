"""``python -m vaegan_kernels.completion bash``: a script that completes the commands, their flags and values.

shtab makes it, from the commands' own parsers, for ``vaegan``. ``python -m vaegan_kernels.train …`` has no form there: a few lines of shell
call the same function with ``vaegan train …``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vaegan_kernels.shell import commands
from vaegan_kernels.shell.cli import Parser, check_choice, run_main

EPILOG = """in ~/.bashrc, or in ~/.zshrc after compinit, with the python of the environment that vaegan-kernels is installed in:
  eval "$(.venv/bin/python -m vaegan_kernels.completion bash)"
It completes for vaegan, and for python and python3, by any path; after other modules and scripts it completes file names."""

# Added to shtab's script; MODULES stands for the names that follow python -m.
MODULE_FORM = {
    "bash": """
complete -o default -F _shtab_vaegan vaegan
_vaegan_kernels() {
  local i at=0 words
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ "${COMP_WORDS[i]}" == -m ]]; then at=$((i + 1)); break; fi
  done
  COMPREPLY=()
  if ((at && at == COMP_CWORD)); then
    COMPREPLY=($(compgen -W "MODULES" -- "${COMP_WORDS[at]}"))
  elif [[ "${COMP_WORDS[at]}" == vaegan_kernels?(.*) ]]; then
    words="${COMP_WORDS[at]#vaegan_kernels}"
    words=(vaegan ${words//./ })
    local cword=$((COMP_CWORD - at - 1 + ${#words[@]}))
    words+=("${COMP_WORDS[@]:at+1}")
    local COMP_WORDS=("${words[@]}") COMP_CWORD=$cword
    _shtab_vaegan
  fi
}
complete -o default -F _vaegan_kernels python python3
""",
    "zsh": """
_vaegan_kernels() {
  local at=$((${words[(i)-m]} + 1))
  if ((CURRENT == at)); then
    compadd -- MODULES
  elif [[ ${words[at]} == vaegan_kernels(.*|) ]]; then
    local name=(vaegan ${(s:.:)${words[at]#vaegan_kernels}})
    ((CURRENT += $#name - at))
    words=($name "${(@)words[at+1,-1]}")
    _shtab_vaegan
  else
    _files
  fi
}
compdef _vaegan_kernels python python3
""",
}


def choices_of(action: argparse.Action) -> list[str]:
    """The values that a flag takes, where they are a few words: argparse's choices, or a metavar {a,b,c}."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return metavar[1:-1].split(",") if metavar.startswith("{") and metavar.endswith("}") else []


def tree() -> Parser:
    """The parser of ``vaegan``, with every command as a subcommand."""
    root = Parser(prog="vaegan")
    top = root.add_subparsers()
    experiments = top.add_parser("experiments", prog="vaegan experiments", help="the paper's experiments").add_subparsers()
    for name in commands.names():
        own = commands.parser_of(name)
        for action in own._actions:
            action.choices = choices_of(action) or None
            if action.nargs != 0 and action.choices is None:
                action.complete = {"bash": "", "zsh": "_files"}  # type: ignore[attr-defined]  # bash: by `complete -o default`
        *group, last = name.split(".")
        (experiments if group else top).add_parser(last, prog=own.prog, help=commands.summary(own), parents=[own], add_help=False)
    return root


def script(shell: str) -> str:
    """The script for "bash" or "zsh"."""
    import shtab

    names = " ".join(f"vaegan_kernels.{name}" for name in commands.names())
    return str(shtab.complete(tree(), shell)) + MODULE_FORM[shell].replace("MODULES", names)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.completion",
        description="Print a script that completes the commands, their flags and values in a shell.",
        epilog=EPILOG,
    )
    parser.add_argument("shell", metavar="{" + ",".join(MODULE_FORM) + "}", help="which shell the script is for")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    check_choice("shell", arguments.shell, MODULE_FORM)
    print(script(arguments.shell), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
