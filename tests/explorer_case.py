"""What the explorer's tests share: a run, a server of it, requests as the page makes them and as it never would."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
import urllib.parse

import numpy as np
from app_case import call, write_tiny
from PIL import Image

from vaegan_kernels import train
from vaegan_kernels.explorer import server as serving
from vaegan_kernels.explorer.routes import Routes
from vaegan_kernels.explorer.shown import Shown
from vaegan_kernels.explorer.worker import Worker

PLACE = {"device": "cpu", "engine": "numpy", "threads": 1, "say": None}


def shown(*paths, data=None, worker=None):
    """What the command makes of its runs."""
    worker = worker or Worker()
    runs = [Shown(str(path), worker, data=data, weights=None, place=PLACE) for path in paths]
    for run in runs:
        worker.call(run.follow)
    return Routes(runs, worker)


def train_short(place):
    """The run folder of a short training in ``place``, on data with two attributes."""
    data = write_tiny(place / "discs.h5")
    flags = ("--network", "small32", "--batch-size", "4", "--steps", "6", "--draw-every", "3", "--log-every", "1", "--threads", "1")
    assert call(train.main, "--data", data, "--out", place / "run", "--engine", "numpy", "--quiet", *flags) == 0
    return place / "run"


@contextlib.contextmanager
def served(*paths):
    """A server of runs, in a thread."""
    with serving.Server(shown(*paths), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path="", body=None, *, method=None, headers=None, token=None):
    """(status, headers, body) of a request as the page makes it, but for what is given."""
    parts = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    method = method or ("GET" if body is None else "POST")
    sent = {"Host": parts.netloc, **({"Origin": f"http://{parts.netloc}"} if method == "POST" else {}), **(headers or {})}
    try:
        connection.putrequest(method, f"/{server.token if token is None else token}/{path}", skip_host=True)
        for name, value in sent.items():
            for one in value if isinstance(value, list) else [value]:
                connection.putheader(name, one)
        if body is not None and "Content-Length" not in sent:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def raw(server, *parts, wait=3.0):
    """What comes back for bytes sent as they are."""
    with socket.create_connection(server.server_address[:2], timeout=wait) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        return found


def error_of(answer):
    return json.loads(answer[2])["error"]


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def photo(width=90, height=60, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
