"""The explorer's server: requests that are large, slow, many, or no HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
from explorer_case import ask, error_of, photo, png, raw
from PIL import Image

from vaegan_kernels.data import kinds
from vaegan_kernels.explorer import routes
from vaegan_kernels.explorer import server as serving
from vaegan_kernels.explorer.routes import Routes
from vaegan_kernels.explorer.worker import Busy, Worker

FORMATS = kinds.formats()


def scans(count):
    """A progressive JPEG that says one thing ``count`` times: each scan goes over the whole picture."""
    buffer = io.BytesIO()
    photo().save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()[:-2] + b"\xff\xda\0\x08\x01\x01\0\x3f\x3f\0\0" * count + b"\xff\xd9"


def large(kind, side):
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "expected"),
    [(scans(200), "a JPEG of more than 100 scans"), (large("PNG", 6400), "40 million are taken"),
     (large("JPEG", 9600), "pixels"),
     (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIF")],
    ids=["scans", "png", "jpeg", "heic"],
)  # fmt: skip
def test_photos_that_would_keep_it_busy_are_refused(site, body, expected, monkeypatch):
    monkeypatch.setattr(kinds, "formats", lambda: tuple(name for name in FORMATS if name != "HEIF"))
    for path in ("preview", "encode?run=1&left=0&top=0&side=1"):
        start = time.monotonic()
        found = ask(site, path, body)
        assert found[0] == 415 and expected in error_of(found) and time.monotonic() - start < 5, found


def test_one_photo_is_decoded_at_a_time_and_sliders_do_not_wait(site, monkeypatch):
    go, inside = threading.Event(), []
    monkeypatch.setattr(routes, "read_preview", lambda stream, longest, check: inside.append(1) or go.wait(10) and photo())
    threads = [threading.Thread(target=ask, args=(site, "preview", png(photo()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert len(inside) == 1
    assert ask(site, "decode?run=1", np.zeros(128, "<f4").tobytes())[0] == 200
    go.set()
    for thread in threads:
        thread.join()
    assert len(inside) == 4


def test_a_head_that_comes_slowly_is_left(site, monkeypatch):
    monkeypatch.setattr(serving, "SILENCE", 0.6)
    start = time.monotonic()
    with socket.create_connection(site.server_address[:2], timeout=0.05) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(f"GET /{site.token}/models HTTP/1.1\r\nHost: ".encode())
        while time.monotonic() - start < 10:
            connection.sendall(b"x")  # never silent for long
            with contextlib.suppress(TimeoutError):
                if connection.recv(100) == b"":
                    break
    assert time.monotonic() - start < 4


def test_a_question_with_a_body_ends_the_connection(site):
    port = site.server_address[1]
    inner = f"GET /{site.token}/models HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    for lines in (f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked"):
        answer = raw(site, f"GET /{site.token}/models HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}\r\n\r\n{inner}".encode())
        assert answer.count(b"HTTP/1.1") == 1 and b" 400 " in answer.split(b"\r\n")[0] + b" "
    assert ask(site, "", b"")[0] == 404  # the page is not posted to


def test_what_http_server_refuses_is_told_as_all_else(site):
    for start in ("GET / HTTP/9.9", "GET", f"GET /{'x' * 70000} HTTP/1.1", "BREW / HTTP/1.1"):
        answer = raw(site, f"{start}\r\nHost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/"):  # to one who did not say what it speaks, without headers
            body = head
        else:
            assert b"Content-Security-Policy: default-src 'none'" in head
        assert b"<" not in body and json.loads(body)["error"]


def test_the_key_without_a_slash(site):
    status, headers, _ = ask(site, "", token=site.token)
    port = site.server_address[1]
    answer = raw(site, f"GET /{site.token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    assert status == 200 and b" 308 " in answer.split(b"\r\n")[0] and f"Location: /{site.token}/\r\n".encode() in answer


def test_slow_senders_are_left(site, monkeypatch):
    assert serving.Handler.timeout == serving.SILENCE
    monkeypatch.setattr(serving, "SENDING", 0.3)
    monkeypatch.setattr(serving, "SILENCE", 0.3)
    port = site.server_address[1]
    head = (
        f"POST /{site.token}/preview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nContent-Length: 999\r\n\r\n"
    )
    start = time.monotonic()
    raw(site, head.encode(), b"a")  # and then nothing
    raw(site, f"GET /{site.token}/ HTTP/1.1\r\nHost: ".encode())
    raw(site)
    assert time.monotonic() - start < 4 and serving.SILENCE <= 30
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:  # a byte now and then does not keep it either
        connection.sendall(head.encode())
        try:
            for _ in range(40):
                connection.sendall(b"a")
                time.sleep(0.05)
            answer = connection.recv(1000)
        except ConnectionError:
            answer = b"408"
        assert b"408" in answer
    assert ask(site, "models")[0] == 200


def test_many_connections_do_not_become_many_threads(site):
    before = threading.active_count()
    connections = [socket.create_connection(site.server_address[:2], timeout=5) for _ in range(3 * serving.CONNECTIONS)]
    try:
        time.sleep(0.5)
        assert threading.active_count() - before <= serving.CONNECTIONS
    finally:
        for connection in connections:
            connection.close()
    time.sleep(0.3)
    assert ask(site, "models")[0] == 200


def test_a_full_queue_says_so(run_folder):
    worker, go = Worker(waiting=2), threading.Event()
    threads = [threading.Thread(target=worker.call, args=(go.wait,)) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    try:
        with pytest.raises(Busy, match="2 requests wait already"):
            worker.call(int)
        with serving.Server(Routes([], worker), "127.0.0.1", 0) as server:
            server.routes.models = None
            server.routes._routes["GET", "busy"] = (lambda: worker.call(int), {})
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            status, headers, _ = ask(server, "busy")
            server.shutdown()
            thread.join()
        assert (status, headers["Retry-After"]) == (503, "1")
    finally:
        go.set()
        for thread in threads:
            thread.join()


def test_the_worker_hands_on_what_is_raised_and_forgets_who_left():
    worker, go, done = Worker(), threading.Event(), []
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0)
    with pytest.raises(TimeoutError):
        worker.call(lambda: (_ for _ in ()).throw(TimeoutError("its own")))
    with pytest.raises(Busy, match="no answer"):
        worker.call(go.wait, 0.05)
    with pytest.raises(Busy):
        worker.call(lambda: done.append("asked by one who left"), 0.05)
    go.set()
    assert worker.call(lambda: 5) == 5 and not done
