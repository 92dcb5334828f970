"""The cache folder for what was compiled on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """The folder for built code of ``kind``: in the user's cache, or in a temporary folder of this user where that cannot be written.

    Raises:
        RuntimeError: neither can be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for folder in (Path(base) / "vaegan-kernels" / kind, Path(tempfile.gettempdir()) / f"vaegan-kernels-{os.getuid()}" / kind):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise RuntimeError("no folder can be written for built kernels: set XDG_CACHE_HOME")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: another process sees nothing of it or all of it."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(name, path)
