"""The page as one HTML file: markup, style and scripts of this folder, joined. What it may load is fixed by their hashes."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).with_name("browser")
SCRIPTS = ("numbers.js", "gif.js", "{backend}.js", "view.js", "panels.js", "photo.js", "map.js", "training.js", "main.js")
MAY = {  # backend: (more sources of scripts, what else may be reached)
    "server": ("", "connect-src 'self'; frame-ancestors 'none'; "),
    "onnx": (" 'wasm-unsafe-eval' blob:", ""),  # nothing goes out; a meta element cannot speak of ancestors
}


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _script(backend: str) -> str:
    return "\n".join(_text(name.format(backend=backend)) for name in SCRIPTS)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(backend: str) -> str:
    """The Content-Security-Policy of a page with ``backend``."""
    scripts, others = MAY[backend]
    return (
        f"default-src 'none'; script-src {_hash(_script(backend))}{scripts}; style-src {_hash(_text('page.css'))}; {others}"
        "img-src blob: data:; media-src blob: mediastream:; base-uri 'none'; form-action 'none'"
    )


def join(backend: str, data: str = "") -> str:
    """The HTML file with ``backend`` ("server" or "onnx") doing the networks' work. That of "onnx" holds its ``data`` and its policy."""
    meta = "" if backend == "server" else f'<meta http-equiv="Content-Security-Policy" content="{policy(backend)}">'
    parts = {"<!-- policy -->": meta, "/* style */": _text("page.css"), "/* script */": _script(backend), "<!-- data -->": data}
    html = _text("page.html")
    for mark, text in parts.items():
        before, found, after = html.partition(mark)
        assert found, mark
        html = before + text + after
    return html


@lru_cache(maxsize=1)
def served() -> bytes:
    """The page that the server sends, beside the header `POLICY`."""
    return join("server").encode()


POLICY = policy("server")
