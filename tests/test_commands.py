"""``vaegan`` and ``python -m vaegan_kernels``: the list of commands, each command by its name, light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from app_case import ROOT, call, environment, one_line

from vaegan_kernels import __main__ as vaegan
from vaegan_kernels.shell import commands
from vaegan_kernels.shell.cli import Parser


@pytest.fixture(autouse=True)
def front(monkeypatch):
    """Each test begins as a fresh process does."""
    monkeypatch.setattr(Parser, "front", None)


def python(*words):
    return subprocess.run([sys.executable, *words], env=environment(), capture_output=True, text=True, timeout=60, check=False)


def test_without_a_command_all_are_listed(capsys):
    assert call(vaegan.main) == 0
    shown = capsys.readouterr().out
    assert call(vaegan.main, "--help") == 0 and capsys.readouterr().out == shown
    listed = dict(line.strip().split("  ", 1) for line in shown.splitlines()[2:])
    assert [name.replace(" ", ".") for name in listed] == commands.names()
    assert listed["train"].strip() == "Train the VAE/GAN of Larsen et al. (2016)"
    assert listed["experiments walk"].strip() == "Animate walks in latent space"
    assert all(len(line) <= 140 for line in shown.splitlines()) and all(text.strip() for text in listed.values())
    done = python("-m", "vaegan_kernels")
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


def test_the_experiments_are_listed(capsys):
    assert call(vaegan.main, "experiments") == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == sum(name.startswith("experiments.") for name in commands.names())
    assert all(line.startswith("  experiments ") for line in lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean train?"),
        (["experiments", "celba", "--data", "x"], "error: unknown command 'experiments celba'; did you mean experiments celeba?"),
        (["zzz"], "error: unknown command 'zzz' (vaegan alone lists them all)"),
        (["settings.config"], "error: unknown command 'settings.config' (vaegan alone lists them all)"),
        (["--steps", "3"], "error: unknown command '--steps' (vaegan alone lists them all)"),
    ],
)
def test_unknown_commands(words, expected, capsys):
    assert call(vaegan.main, *words) == 2
    assert one_line(capsys.readouterr().err) == expected


@pytest.mark.parametrize("name", commands.names())
def test_help_by_both_names(name, capsys):
    """The same text but for the program's name."""
    for program, main in ((f"python -m vaegan_kernels.{name}", commands.module(name).main), (f"vaegan {name.replace('.', ' ')}", None)):
        assert call(main, "--help") == 0 if main else call(vaegan.main, *name.split("."), "--help") == 0
        assert capsys.readouterr().out.startswith(f"usage: {program} [")


def test_a_command_gets_its_words(tmp_path, capsys):
    assert call(vaegan.main, "sample", tmp_path / "nothing") == 2
    assert str(tmp_path / "nothing") in one_line(capsys.readouterr().err)
    assert call(vaegan.main, "experiments", "report", tmp_path / "nothing") == 2
    assert str(tmp_path / "nothing") in one_line(capsys.readouterr().err)


def test_the_script_and_its_module_are_the_same():
    assert '\nvaegan = "vaegan_kernels.__main__:run"\n' in (ROOT / "pyproject.toml").read_text()
    script = "import sys; from vaegan_kernels.__main__ import run; sys.exit(run())"
    for words in (["-c", script], ["-m", "vaegan_kernels"]):
        done = python(*words, "train", "--stpes", "3")
        assert (done.returncode, done.stderr) == (2, "error: unknown argument --stpes; did you mean --steps?\n")


def test_only_the_command_that_is_asked_for_is_loaded():
    code = "import sys\nfrom vaegan_kernels.__main__ import main\ntry: main(['train', '--help'])\nfinally: print('\\n', *sys.modules)"
    loaded = set(python("-c", code).stdout.splitlines()[-1].split())
    others = {f"vaegan_kernels.{name}" for name in commands.names()} - {"vaegan_kernels.train"}
    assert "vaegan_kernels.train" in loaded and not loaded & (others | {"shtab", "matplotlib", "h5py", "rich"})
