"""A run folder: checks before anything is written, the names of its files, and atomic writes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vaegan_kernels.files import TEMPORARY, check_room, check_writable, nearest_existing, quoted, taken
from vaegan_kernels.shell.errors import UserError

RUNS = Path("runs")


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.h5"
        self.config = self.path / "config.json"
        self.device = self.path / "device.json"
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "summary.json"
        self.samples = self.path / "samples"
        self.reconstructions = self.path / "reconstructions"  # of a system that has an encoder
        self.gan = self.path / "gan"  # of a vae-dis: the run of the GAN that was trained first
        self.curves = self.path / "curves.png"
        self.animation = self.path / "convergence.gif"
        self.tensorboard = self.path / "tensorboard"

    def create(self, *, reconstructions: bool = True) -> None:
        """Make the folder and its picture folders; remove what a killed run was in the middle of writing."""
        folders = (self.path, self.samples, *((self.reconstructions,) if reconstructions else ()))
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            for leftover in folder.glob("*" + TEMPORARY):
                leftover.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training this run at the same time; the system lets go when the process ends, however it ends.

        Makes the folder. Raises `UserError` if another process has it. Does nothing where the system has no such locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:  # Windows
            yield
            return
        try:
            if taken(descriptor):
                raise UserError(f"{self.path}: another process is training this run; wait until it has ended, or stop it")
            yield
        finally:
            os.close(descriptor)


def fresh_folder(
    network: str, preset: str, data: str, parent: Path = RUNS, *, model: str = "vaegan", conditional: bool = False
) -> Path:  # fmt: skip
    """``runs/<network>-<preset>-<data>-NNN``, the first number after those that exist.

    Another ``model`` than the VAE/GAN stands behind the network, "conditional" behind the data.
    """
    data = re.sub(r"[^A-Za-z0-9._-]+", "_", data).strip("._-") or "data"
    stem = f"{network}-{'' if model == 'vaegan' else f'{model}-'}{preset}-{data[:40]}-{'conditional-' if conditional else ''}"
    taken = [0]
    if parent.is_dir():
        taken += [int(entry.name[len(stem) :]) for entry in parent.iterdir() if re.fullmatch(re.escape(stem) + r"\d+", entry.name)]
    return parent / f"{stem}{max(taken) + 1:03d}"


def claim(name: Callable[[], Path]) -> Path:
    """Make the folder that ``name`` gives; where another process has made it meanwhile, ``name`` is asked again."""
    while True:
        path = name()
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


def check_new(path: Path, needed_bytes: int, *, probe: bool = True, flag: str = "--out") -> None:
    """Raise `UserError` if a new run cannot go to ``path``: a file in the way, a folder in use, no permission, no room.

    ``probe`` makes and removes an empty folder, the only sure way to know that the place is writable.
    """
    existing = nearest_existing(path)
    if not existing.is_dir():
        raise UserError(f"{flag}: {existing} is a file, expected a folder that is new or empty")
    if path.is_dir():
        try:
            entries = len(os.listdir(path))
        except OSError as error:
            raise UserError(f"{flag}: cannot read the folder {path} ({error.strerror})") from None
        if entries:
            advice = f"--resume {quoted(path)} resumes it" if (path / "checkpoint.h5").exists() else "choose a new or an empty folder"
            raise UserError(f"{flag}: the folder {path} is not empty ({entries} entries); {advice}")
    check_writable(existing, probe=probe, flag=flag, wanted=path)
    check_room(existing, needed_bytes, flag=flag)
