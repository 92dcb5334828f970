"""A first look at a file of HDF5, in a process of its own: the library can crash on a damaged one, or never come back.

The process is started with the first file that this program has not written itself, takes a quarter of a second to begin and some
milliseconds a file, and ends with this one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

from kernels.processes import own_group

PATIENCE = 20.0  # seconds
#: Opens each file that it is told, looks at all that `hdf5` may look at, and reads small ones whole.
SERVER = """
import json, signal, sys
import h5py
end_in = getattr(signal, "alarm", lambda seconds: None)
def look(path):
    with h5py.File(path, "r", locking=False) as file:
        for name in list(file.attrs)[:100]:
            file.attrs[name]
        left, waiting = 1 << 26, [(file, 0)]
        while waiting:
            place, depth = waiting.pop()
            for name in list(place)[:20000]:
                item = place.get(name) if isinstance(place.get(name, getlink=True), h5py.HardLink) else None
                if isinstance(item, h5py.Group) and depth < 8:
                    waiting.append((item, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    item.shape, item.dtype, item.chunks, item.is_virtual, item.id.get_storage_size()
                    if not item.external and not item.is_virtual and item.nbytes <= left:
                        left -= item.nbytes
                        item[()]
for line in sys.stdin:
    end_in(30)  # the process that asks may be killed meanwhile
    try:
        look(json.loads(line))
    except Exception:
        pass  # what Python can tell is told where the file is read
    end_in(0)
    print("done", flush=True)
"""

_known: set[tuple[str, int, int]] = set()  # files that this process has written, or has looked at
_server: subprocess.Popen[str] | None = None


def _key(path: Path) -> tuple[str, int, int]:
    facts = path.stat()
    return str(path.resolve()), facts.st_size, facts.st_mtime_ns


def trust(path: Path) -> None:
    """Note that this program has just written ``path``: it need not be looked at."""
    _known.add(_key(path))


def harmless(path: Path) -> bool:
    """Whether the library survives the file. A look that cannot be had (no more processes) counts as one."""
    key = _key(path)
    if key in _known:
        return True
    try:
        answer = _ask(path)
    except OSError:
        return True
    if answer:
        _known.add(key)
    return answer


def _ask(path: Path) -> bool:
    global _server
    if _server is None or _server.poll() is not None:
        _server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            **own_group(),
        )  # fmt: skip
        atexit.register(_end, _server)
    server, lines = _server, []
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(str(path.resolve())) + "\n")
    server.stdin.flush()
    reader = threading.Thread(target=lambda: lines.append(server.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(PATIENCE)
    if lines and lines[0] == "done\n":
        return True
    server.kill()
    reader.join()
    _end(server)
    _server = None
    return False


def _end(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()
    for stream in (server.stdin, server.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was written to a process that is gone
                stream.close()
