"""The page as one HTML file: markup, style and scripts of this folder, joined. What it may load is fixed by their hashes."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).with_name("browser")
SCRIPTS = ("numbers.js", "gif.js", "{backend}.js", "view.js", "panels.js", "main.js")


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _script(backend: str) -> str:
    return "\n".join(_text(name.format(backend=backend)) for name in SCRIPTS)


@lru_cache(maxsize=2)
def page(backend: str, policy: str = "", data: str = "") -> bytes:
    """The HTML file with ``backend`` ("server" or "onnx") doing the networks' work; ``policy``: a CSP for a page that no server sends."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    parts = {"<!-- policy -->": meta, "/* style */": _text("page.css"), "<!-- data -->": data, "/* script */": _script(backend)}
    html = _text("page.html")
    for mark, text in parts.items():
        before, found, after = html.partition(mark)
        assert found, mark
        html = before + text + after
    return html.encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_hash(_script('server'))}; style-src {_hash(_text('page.css'))}; connect-src 'self'; "
    "img-src blob: data:; media-src blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
