"""A run folder: checks before anything is written, the names of its files, and writes that are whole or not there at all."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vaegan_kernels.errors import UserError

RUNS = Path("runs")
TEMPORARY = ".tmp"  # suffix of a file that is being written; left behind only by a kill, removed by the next start


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
            import fcntl

            descriptor = os.open(self.path, os.O_RDONLY)
        except (ImportError, OSError):  # Windows
            yield
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{self.path}: another process is training this run; wait until it has ended, or stop it") from None
            except OSError:  # a network disk without locks
                pass
            yield
        finally:
            os.close(descriptor)


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk, then rename it to ``path``.

    A kill at any moment leaves the old file or the new one, never half of one. If writing fails the temporary file is removed.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system can open folders (not on Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def save_image(path: Path, image: Any, **options: Any) -> None:
    """Save a Pillow image atomically in the format of ``path``'s suffix."""
    buffer = io.BytesIO()
    image.save(buffer, format={".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper()), **options)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


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
            advice = f"--resume {path} goes on with it" if (path / "checkpoint.h5").exists() else "choose a new or an empty folder"
            raise UserError(f"{flag}: the folder {path} is not empty ({entries} entries); {advice}")
    check_writable(existing, probe=probe, flag=flag, wanted=path)
    check_room(existing, needed_bytes, flag=flag)


def check_writable(folder: Path, *, probe: bool, flag: str, wanted: Path) -> None:
    """Raise `UserError` if nothing can be written in the existing ``folder``."""
    problem = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    if probe and not problem:
        try:
            os.rmdir(tempfile.mkdtemp(prefix=".vaegan-", dir=folder))
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
    if problem:
        where = f"cannot write in {folder}" + (f" to make {wanted}" if wanted != folder else "")
        raise UserError(f"{flag}: {where} ({problem}); choose another folder")


def check_room(folder: Path, needed_bytes: int, *, flag: str = "--out") -> None:
    """Raise `UserError` if the disk of ``folder`` has less than ``needed_bytes`` left."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UserError(
            f"{flag}: {folder} has {human_size(free)} left, a run needs about {human_size(needed_bytes)} "
            "(two checkpoints and pictures); free some space or choose another disk"
        )


def nearest_existing(path: Path) -> Path:
    """``path`` or the closest of its parents that exists."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path


def human_size(size: float) -> str:
    """``1536`` → ``"1.5 KB"``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def check_output(path: str | Path, *, overwrite: bool, flag: str = "--out", suffixes: tuple[str, ...] = (".png",)) -> Path:
    """The path of a picture that a command will write, or `UserError`: wrong suffix, existing file, no such folder, no permission."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{flag}: got {path}, expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{flag}: {path} is a folder, expected the name of a file")
    if path.exists() and not overwrite:
        raise UserError(f"{flag}: {path} exists already; choose another name or give --overwrite")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{flag}: there is no folder {path.parent}; make it first or choose another name")
    check_writable(path.absolute().parent, probe=True, flag=flag, wanted=path)
    return path
