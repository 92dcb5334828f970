"""The completion script, in a real bash: commands, flags, choices, files."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from app_case import call, one_line

from vaegan_kernels import completion

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script.bash"
    path.write_text(completion.bash_script())
    return path


def complete(script, *words):
    """What bash offers for the last of ``words``, behind ``python``."""
    quoted = " ".join(f"'{word}'" for word in ("python", *words))
    code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _vaegan_kernels; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_modules(script):
    offered = complete(script, "-m", "vaegan_kernels.")
    assert {"vaegan_kernels.train", "vaegan_kernels.import", "vaegan_kernels.experiments.celeba", "vaegan_kernels.completion"} <= set(
        offered
    )
    assert not {"vaegan_kernels.settings.config", "vaegan_kernels.portable.import_model", "vaegan_kernels.shell.cli"} & set(offered), (
        "these are no commands"
    )
    assert complete(script, "-m", "vaegan_kernels.tr") == ["vaegan_kernels.train"]


def test_flags(script):
    assert complete(script, "-m", "vaegan_kernels.train", "--net") == ["--network"]
    assert {"--augment", "--no-augment", "--augment-hue"} <= set(complete(script, "-m", "vaegan_kernels.train", "--data", "x", "--"))
    assert complete(script, "-m", "vaegan_kernels.sample", "run", "--net") == []


def test_choices(script):
    assert complete(script, "-m", "vaegan_kernels.train", "--network", "small") == ["small32", "small64", "small128"]
    assert complete(script, "-m", "vaegan_kernels.train", "--preset", "") == ["paper", "released", "quick"]
    assert complete(script, "-m", "vaegan_kernels.completion", "") == []


@pytest.mark.parametrize(
    "words", [("-m", "vaegan_kernels.train", "--data", ""), ("-m", "http.server", "--"), ("script.py", "--net"), ("",)]
)
def test_files_are_left_to_bash(script, words):
    """No offer of ours: `-o default` completes file names."""
    assert complete(script, *words) == []
    assert "complete -o default -F _vaegan_kernels python python3" in script.read_text()


def test_every_command_has_its_parser():
    for name in completion.commands():
        flags = {flag for action in completion.parser_of(name)._actions for flag in action.option_strings}
        assert "--help" in flags, name


def test_the_command(capsys):
    assert call(completion.main, "bash") == 0
    assert capsys.readouterr().out == completion.bash_script()
    assert call(completion.main, "zsh") == 0
    assert capsys.readouterr().out.startswith("autoload -U +X bashcompinit && bashcompinit\n_vaegan_kernels()")
    assert call(completion.main, "fish") == 2
    assert one_line(capsys.readouterr().err) == "error: shell: got 'fish', expected one of bash, zsh"
