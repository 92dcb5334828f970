"""Which large packed files are known to be whole: those that this program wrote, or has held against their fingerprint, and that have not
changed since. To read 100 GB at every start would take minutes; ``python -m vaegan_kernels.pack --verify FILE`` does it when asked.

A note for each lies in the user's cache. Where it cannot be kept the file is read whole at the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from vaegan_kernels.data.cache_folder import cache_folder, key_of
from vaegan_kernels.files import write_json

SMALL = 1 << 28  # bytes of images that are checked at every start: half a second


def _note(path: Path) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "checked" / f"{key_of(os.path.realpath(path))}.json"


def facts(path: Path, fingerprint: str) -> dict[str, Any]:
    """What would be another number if anybody had written to the file, or put another in its place."""
    found = path.stat()
    times = {"changed": found.st_mtime_ns, "touched": found.st_ctime_ns}
    return {"path": os.path.realpath(path), "size": found.st_size, "inode": found.st_ino, **times, "fingerprint": fingerprint}


def known(path: Path, fingerprint: str) -> bool:
    """Whether the file was found to have this fingerprint, and has not changed since."""
    note = _note(path)
    try:
        return note is not None and bool(json.loads(note.read_text(encoding="utf-8")) == facts(path, fingerprint))
    except (OSError, ValueError):
        return False


def remember(path: Path, found: dict[str, Any]) -> None:
    """Note that the file has the fingerprint in ``found``, its `facts` before it was read."""
    note = _note(path)
    if note is not None:
        with contextlib.suppress(OSError):
            write_json(note, found)
