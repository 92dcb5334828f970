"""The completion script, in a real bash and a real zsh: commands, flags, choices, files, in both forms of a command."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time

import pytest
from app_case import call, one_line

from vaegan_kernels import completion
from vaegan_kernels.shell import commands

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script.bash"
    path.write_text(completion.script("bash"))
    return path


def complete(script, *words):
    """What bash offers for the last of ``words``, which follow ``vaegan`` or ``python``."""
    program = "python" if words[0] in ("-m", "-X", "script.py", "") else "vaegan"
    function = "_vaegan_kernels" if program == "python" else "_shtab_vaegan"
    quoted = " ".join(f"'{word}'" for word in (program, *words))
    code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout.split()


def both(name, *words):
    """The two forms of a command line."""
    return [("-m", f"vaegan_kernels.{name}", *words), (*name.split("."), *words)]


def test_modules(script):
    offered = complete(script, "-m", "vaegan_kernels.")
    assert {"vaegan_kernels.train", "vaegan_kernels.import", "vaegan_kernels.experiments.celeba", "vaegan_kernels.completion"} <= set(
        offered
    )
    assert not {"vaegan_kernels.settings.config", "vaegan_kernels.portable.import_model", "vaegan_kernels.shell.cli"} & set(offered), (
        "these are no commands"
    )
    assert complete(script, "-m", "vaegan_kernels.tr") == ["vaegan_kernels.train"]


def test_names(script):
    assert complete(script, "tr") == complete(script, "-m", "vaegan_kernels", "tr") == ["train"]
    assert complete(script, "ex") == ["experiments", "explore", "export"]
    experiments = [name.split(".")[1] for name in commands.names() if "." in name]
    assert complete(script, "experiments", "c") == ["celeba"] and complete(script, "-m", "vaegan_kernels", "experiments", "") == experiments
    top = {name.split(".")[0] for name in commands.names()}
    assert {word for letter in "abcdefghijklmnopqrstuvwxyz" for word in complete(script, letter)} == top


def test_flags(script):
    for words in both("train", "--net"):
        assert complete(script, *words) == ["--network"]
    for words in both("train", "--data", "x", "--"):
        assert {"--augment", "--no-augment", "--augment-hue"} <= set(complete(script, *words))
    for words in both("experiments.celeba", "--data", "x", "--dev"):
        assert complete(script, *words) == ["--device"]
    for words in both("sample", "run", "--net"):
        assert complete(script, *words) == []
    assert complete(script, "-X", "dev", "-m", "vaegan_kernels.train", "--resume", "x", "--st") == ["--steps", "--stream", "--stop-after"]


def test_choices(script):
    for words in both("train", "--network", "small"):
        assert complete(script, *words) == ["small32", "small64", "small128"]
    for words in both("train", "--preset", ""):
        assert complete(script, *words) == ["paper", "released", "quick"]
    for words in both("completion", ""):
        assert complete(script, *words) == ["bash", "zsh"]


@pytest.mark.parametrize(
    "words", [*both("train", "--data", ""), *both("sample", ""), ("-m", "http.server", "--"), ("script.py", "--net"), ("",)]
)
def test_files_are_left_to_bash(script, words):
    """No offer of ours: `-o default` completes file names."""
    assert complete(script, *words) == []
    registered = subprocess.run(
        ["bash", "--norc", "-c", f"source {script}; complete -p vaegan python python3"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    forms = {"vaegan": "_shtab_vaegan", "python": "_vaegan_kernels", "python3": "_vaegan_kernels"}
    assert registered == [f"complete -o default -F {function} {program}" for program, function in forms.items()]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh(tmp_path):
    """Typed in an interactive zsh, with TAB at the end."""
    (tmp_path / "script.zsh").write_text(completion.script("zsh"))
    (tmp_path / "photos").mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "200"})
    try:
        os.write(terminal, b'autoload -U compinit; compinit -u -D; eval "$(cat script.zsh)"; print READ""Y\n')
        assert b"READY" in seen(terminal, b"READY")
        for typed, expected in {
            "vaegan tr": "ain ", "vaegan experiments cel": "eba ", "vaegan train --net": "work ", "vaegan train --data pho": "tos/",
            "python -m vaegan_kernels.tr": "ain ", "python -m vaegan_kernels.train --dry": "-run ",
            "python3 -m vaegan_kernels.experiments.celeba --device cu": "da ", "python -m vaegan_kernels experiments sem": "i_supervised ",
            "python pho": "tos/",
        }.items():  # fmt: skip
            os.write(terminal, f"{typed}\t".encode())
            assert (typed + expected).encode() in seen(terminal, (typed + expected).encode()), typed
            os.write(terminal, b"\x15")  # the line is deleted
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def seen(terminal, expected, seconds=30):
    """What the terminal shows until ``expected`` is there, without its control sequences."""
    shown, end = b"", time.monotonic() + seconds
    while expected not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096)
    return shown


def test_every_command_has_its_parser():
    for name in commands.names():
        parser = commands.parser_of(name)
        assert "--help" in {flag for action in parser._actions for flag in action.option_strings}, name
        assert parser.prog == f"python -m vaegan_kernels.{name}"


def test_the_command(capsys):
    for shell in ("bash", "zsh"):
        assert call(completion.main, shell) == 0
        assert capsys.readouterr().out == completion.script(shell)
    assert call(completion.main, "fish") == 2
    assert one_line(capsys.readouterr().err) == "error: shell: got 'fish', expected one of bash, zsh"
