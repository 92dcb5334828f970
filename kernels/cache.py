"""The cache folder for what was compiled on this machine, and files that are replaced whole."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 1.0  # seconds that `replace` tries for on Windows


def cache_folder(kind: str) -> Path:
    """The folder for built code of ``kind``: in the user's cache, or in a temporary folder of this user where that cannot be written.

    Raises:
        RuntimeError: neither can be written.
    """
    user = os.getuid() if hasattr(os, "getuid") else None  # Windows has none: its temporary folder is the user's own
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    temporary = "vaegan-kernels" if user is None else f"vaegan-kernels-{user}"
    for folder in (Path(base) / "vaegan-kernels" / kind, Path(tempfile.gettempdir()) / temporary / kind):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and user in (None, folder.stat().st_uid):
            return folder
    raise RuntimeError("no folder can be written for built kernels: set XDG_CACHE_HOME")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: another process sees nothing of it or all of it."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    replace(name, path)


def replace(source: str | Path, target: Path) -> None:
    """``os.replace``. Windows refuses while another process has ``target`` open, a viewer or a virus scanner: there it is tried again."""
    end = time.monotonic() + (PATIENCE if sys.platform == "win32" else 0)
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.02)
