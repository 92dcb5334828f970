"""What tests of several processes share: how they are started here, and the children that they run."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from app_case import ROOT, environment

HERE = Path(__file__).resolve().parent


@functools.cache
def mpiexec() -> tuple[str, ...]:
    """The launcher: that of this environment's own MPI (the package mpich), else the system's; skips where there is none."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed: nothing starts several processes")
    own = Path(sys.executable).parent / "mpiexec"
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich, or the system's MPI")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return (found, "--allow-run-as-root", "--oversubscribe") if "Open MPI" in version or "OpenRTE" in version else (found,)


def python(*words: object) -> list[str]:
    """A command line of this Python, which MPI's launcher gives on."""
    return [sys.executable, *map(str, words)]


def start(count: int, *words: object, **options: object) -> subprocess.Popen[str]:
    """``count`` processes of ``python words``, as one job."""
    return start_parts((count, words), **options)


def start_parts(*parts: tuple[int, tuple[object, ...]], **options: object) -> subprocess.Popen[str]:
    """One job of several parts: (processes, words of their command line)."""
    line = [*mpiexec()]
    for i, (count, words) in enumerate(parts):
        line += [":"] * (i > 0) + ["-n", str(count), *python(*words)]
    kept = {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(line, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def ended(job: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, what was printed, and the errors that the program itself told, of a job that ends within ``seconds``."""
    try:
        out, err = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, 9)
        raise
    return job.returncode, out, err


def run(count: int, *words: object, seconds: float = 240, **options: object) -> str:
    """What a job that succeeds prints."""
    code, out, err = ended(start(count, *words, **options), seconds)
    assert code == 0, f"{out}\n{err}"
    return out


def train(*flags: object) -> tuple[object, ...]:
    return ("-m", "vaegan_kernels.train", *flags)


def processes(mark: str) -> dict[int, int]:
    """{rank: process number} of the running processes whose command line has ``mark``."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line, variables = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and b"vaegan_kernels.train" in line:
            for entry in variables.split(b"\0"):
                if entry.startswith((b"PMI_RANK=", b"OMPI_COMM_WORLD_RANK=")):
                    found[int(entry.split(b"=")[1])] = int(place.name)
    return found


__all__ = ["HERE", "ROOT", "ended", "mpiexec", "processes", "run", "start", "start_parts", "train"]
