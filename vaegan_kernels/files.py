"""Files that are written atomically (whole or not at all), and the checks before anything is written."""

from __future__ import annotations

import io
import json
import math
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from kernels.cache import replace
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import held

NOT_MEASURED = "not measured"  # what tables say of a measure that cannot be had; in files it is null
TEMPORARY = ".tmp"  # suffix of a file that is being written; left behind only by a kill, removed by the next start


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], *, shared: bool = False) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk, then rename it to ``path``.

    A kill at any moment leaves the old file or the new one, never half of one. If writing fails the temporary file is removed.
    ``shared``: others may be writing it at the same time, also on other machines.
    """
    temporary = path.with_name(f"{path.name}{f'.{secrets.token_hex(4)}' if shared else ''}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
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


def check_writable(folder: Path, *, probe: bool, flag: str, wanted: Path) -> None:
    """Raise `UserError` if nothing can be written in the existing ``folder``, or not under the name ``wanted``."""
    if name := refused_name(wanted):
        raise UserError(f"{flag}: got {wanted}; {name}; choose another name")
    problem = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    if probe and not problem:
        try:
            probe_folder(folder)
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


def probe_folder(folder: Path) -> None:
    """Make an empty folder in ``folder`` and remove it, the only sure way to know that something can be made there. Raises OSError."""
    with held():
        os.rmdir(tempfile.mkdtemp(prefix=".vaegan-", dir=folder))


def refused_name(path: Path | str) -> str:
    """Why Windows refuses a path, or makes another of it without a word; "" for a good one, and on other systems."""
    if sys.platform != "win32":
        return ""
    whole = PureWindowsPath(path)
    for part in whole.parts[bool(whole.anchor) :]:
        if re.fullmatch(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", part):
            return f"Windows keeps the name {part} for a device"
        if re.search(r'[<>:"|?*\x00-\x1f]', part) or (part[-1] in ". " and part not in (".", "..")):
            return f"Windows has no files called {part!r}"
    return ""


def nearest_existing(path: Path) -> Path:
    """``path`` or the closest of its parents that exists."""
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path


def quoted(path: Path | str) -> str:
    """A path as a word of a command line that can be copied."""
    text = str(path)
    if sys.platform != "win32":
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w.:\\/-]+", text) else f'"{text}"'


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


def write_json(path: Path, value: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write ``value`` by `write_atomically`. NumPy numbers become plain ones, numbers that are not finite become null."""
    text = json.dumps(plain(value), indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()), shared=shared)


def plain(value: Any) -> Any:
    """``value`` with NumPy's numbers and arrays, tuples and paths made into what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def shown(value: Any, form: str) -> str:
    """A measure as text."""
    return format(value, form) if isinstance(value, int | float) and math.isfinite(value) else NOT_MEASURED


class SafeFile(io.RawIOBase):
    """A binary file that HDF5 writes through, and that never fails in HDF5's hands.

    A write error inside HDF5 (a full disk) can leave its library in a state where closing the file fails again or crashes.
    Here the first error is kept in ``error`` and later writes are dropped, so that HDF5 closes cleanly; the caller raises it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._try(self.file.truncate, size) or 0

    def write(self, data: Any) -> int:
        self._try(self.file.write, data)
        return len(data)

    def flush(self) -> None:
        self._try(self.file.flush)

    def readinto(self, buffer: Any) -> int:
        count = self.file.readinto(buffer) or 0  # type: ignore[attr-defined]
        if self.error is not None:  # what was dropped reads as zeros: the file is thrown away in any case
            buffer[count:] = bytes(len(buffer) - count)
            count = len(buffer)
        return count

    def _try(self, call: Any, *arguments: Any) -> Any:
        if self.error is None:
            try:
                return call(*arguments)
            except OSError as error:
                self.error = error
        return None


class FileOver(SafeFile):
    """A file that HDF5 writes anew although bytes lie in it already: to HDF5 it is empty, and what HDF5 does not write stays."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.end = self.at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = self.file.seek(offset + (0, self.at, self.end)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def truncate(self, size: int | None = None) -> int:
        self.end = self.at if size is None else size
        return self.end

    def write(self, data: Any) -> int:
        self.at += super().write(data)
        self.end = max(self.end, self.at)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.at += count
        return count

    def close_over(self) -> None:
        """Give the file its length. Raises OSError where something could not be written."""
        self._try(self.file.truncate, self.end)
        self._try(self.file.flush)
        if self.error is not None:
            raise self.error


def taken(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; true where another process has it. Does nothing where there are no such locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows; a network disk without locks
        return False
    return False
