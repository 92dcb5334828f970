"""The text of CUDA C files as compilers get it, and the cache folder for what they built."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CUDA = HERE.parent  # the folder that names of CUDA C files are relative to
KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\('
)


def source_of(file: str) -> str:
    """What is compiled for ``file`` (relative to kernels/cuda, or absolute): ``common.cuh``, then the file with its own line numbers."""
    path = CUDA / file
    return (HERE / "common.cuh").read_text(encoding="utf-8") + f'#line 1 "{path.name}"\n' + path.read_text(encoding="utf-8")


def kernels_of(text: str) -> list[str]:
    """The names of the ``extern "C" __global__`` functions in CUDA C text."""
    return KERNEL.findall(text)


def cache_folder(kind: str) -> Path:
    """The folder for built code of ``kind``: in the user's cache, or in a temporary folder of this user where that cannot be written.

    Raises:
        RuntimeError: neither can be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
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
