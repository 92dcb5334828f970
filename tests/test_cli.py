"""The shared front of the commands: one-line errors, exit codes, packages of the same name."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from app_case import environment, one_line

from vaegan_kernels.shell.cli import Parser, check_choice, close_match, real_number, run_main, whole_number
from vaegan_kernels.shell.errors import UserError


def parser():
    parser = Parser(prog="demo")
    parser.add_argument("--learning-rate", type=real_number)
    parser.add_argument("--steps", type=whole_number, required=True)
    return parser


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--steps", "x"], "--steps: got 'x', expected a whole number"),
        (["--steps", "1", "--learning-rate", "fast"], "--learning-rate: got 'fast', expected a number"),
        (["--steps", "1", "--lerning-rate=3"], "unknown argument --lerning-rate; did you mean --learning-rate?"),
        (["--steps", "1", "--zzzz"], "--help lists them all"),
        (["--steps"], "--steps"),
        ([], "missing argument: --steps"),
    ],
)
def test_parser_errors_are_one_line(arguments, expected, capfd):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(arguments)
    assert stop.value.code == 2
    captured = capfd.readouterr()
    assert expected in one_line(captured.err) and captured.out == ""


def raiser(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (UserError("two\nlines"), 2, "two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "the disk is full (/x/y)"),
        (OSError(errno.EFBIG, "File too large"), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", b"/x/y"), 2, "permission denied (/x/y)"),
        (OSError(errno.EIO, "Input/output error", "/x"), 2, "Input/output error (/x)"),
        (MemoryError("no 5 GiB"), 2, "out of memory (no 5 GiB)"),
        (MemoryError(), 2, "--batch-size"),
    ],
)
def test_run_main_tells_in_one_line(error, code, expected, capfd):
    assert run_main(raiser(error)) == code
    assert expected in one_line(capfd.readouterr().err)


def test_run_main_lets_bugs_through():
    with pytest.raises(ZeroDivisionError):
        run_main(raiser(ZeroDivisionError()))


def test_ctrl_c(capfd):
    assert run_main(raiser(KeyboardInterrupt())) == 130
    assert capfd.readouterr().err == "interrupted\n"


def test_a_reader_that_goes_away():
    code = "from vaegan_kernels.shell.cli import run_main\nimport sys\n"
    code += "def main():\n    for i in range(100000): print(i)\nsys.exit(run_main(main))"
    command = ["bash", "-c", f"'{sys.executable}' -c \"$CODE\" | head -1"]
    done = subprocess.run(command, env={**environment(), "CODE": code}, capture_output=True, text=True, check=False)
    assert done.stdout == "0\n" and done.stderr == ""


def test_choices():
    check_choice("--x", "a", ("a", "b"))
    with pytest.raises(UserError, match="--x: got 'papr', expected one of paper, released; did you mean paper"):
        check_choice("--x", "papr", ("paper", "released"))
    assert close_match("zzz", ("paper",)) == ""


@pytest.mark.parametrize("name", ["kernels", "models"])
def test_a_foreign_package_of_the_same_name(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    environment_ = environment()
    environment_["PYTHONPATH"] = f"{tmp_path}:{environment_['PYTHONPATH']}"
    command = [sys.executable, "-c", "import vaegan_kernels"]
    done = subprocess.run(command, env=environment_, cwd=tmp_path, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith(f"ImportError: the package '{name}' at ") and "virtual environment" in last


@pytest.mark.parametrize("module", ["train", "sample", "reconstruct", "interpolate", "pack"])
def test_help_of_every_command(module):
    done = subprocess.run(
        [sys.executable, "-m", f"vaegan_kernels.{module}", "--help"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "" and "examples:" in done.stdout


def test_importing_is_quick():
    """The first step must be on screen within three seconds: nothing slow may be imported on the way there."""
    code = "import sys, vaegan_kernels.train, vaegan_kernels.runs.trainer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"matplotlib", "h5py", "rich", "torch", "scipy", "tensorboardX"}
