"""The explorer's server: what it answers, and every way known to abuse a server on one's own machine. No browser here."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.parse
import zlib

import numpy as np
import pytest
from app_case import call, one_line, write_tiny
from PIL import Image

from vaegan_kernels import explore, load_model, train
from vaegan_kernels.data.images import read_square
from vaegan_kernels.explorer import server as serving
from vaegan_kernels.explorer.routes import MOST, Routes
from vaegan_kernels.explorer.shown import Shown, principal
from vaegan_kernels.explorer.worker import Busy, Worker
from vaegan_kernels.pictures.figures import to_uint8
from vaegan_kernels.shell.errors import UserError

PLACE = {"device": "cpu", "engine": "numpy", "threads": 1, "say": None}


def shown(*paths, data=None, worker=None):
    """What the command makes of its runs."""
    worker = worker or Worker()
    runs = [Shown(str(path), worker, data=data, weights=None, place=PLACE) for path in paths]
    for run in runs:
        worker.call(run.follow)
    return Routes(runs, worker)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a short training, on data with two attributes."""
    place = tmp_path_factory.mktemp("explorer")
    data = write_tiny(place / "discs.h5")
    flags = ("--network", "small32", "--batch-size", "4", "--steps", "6", "--draw-every", "3", "--log-every", "1", "--threads", "1")
    assert call(train.main, "--data", data, "--out", place / "run", "--engine", "numpy", "--quiet", *flags) == 0
    return place / "run"


@pytest.fixture(scope="module")
def site(folder):
    """A server of the run and of the model that comes with the program."""
    with serving.Server(shown(folder, "faces"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
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


def test_the_page_is_one_file_that_loads_nothing(site):
    status, headers, body = ask(site)
    text = body.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "https:" not in text and text.count("http:") == text.count("http://www.w3.org/2000/svg") > 0
    assert "src=" not in text.replace('img src="', "") and text.count("<script") == 1 and "@import" not in text and "url(" not in text
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy and "*" not in policy
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers and site.token not in text


def test_models(site, folder):
    first, second = json.loads(ask(site, "models")[2])
    assert (first["name"], first["step"], first["size"], first["training"]) == ("run", 6, 32, True)
    assert (second["name"], second["training"], len(second["vectors"])) == ("faces", False, 24)
    assert np.frombuffer(base64.b64decode(second["directions"]), "<f4").shape == (24 * second["latent"],)
    assert str(folder) not in ask(site, "models")[2].decode()  # nothing tells where on the disk


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_decode_is_the_models(site, folder, run, count):
    model = load_model([folder, "faces"][run], **PLACE)
    z = np.random.default_rng(count).standard_normal((count, model.latent)).astype(np.float32)
    status, _, body = ask(site, f"decode?run={run}", z.tobytes())
    assert status == 200
    np.testing.assert_array_equal(np.frombuffer(body, np.uint8).reshape(count, 32, 32, 3), to_uint8(model.decode(z)))


def split(body):
    return np.frombuffer(body[: 32 * 32 * 3], np.uint8).reshape(32, 32, 3), np.frombuffer(body[32 * 32 * 3 :], "<f4")


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (500, 400), (20, 20)])
def test_a_photo_in_the_middle_is_what_training_would_read(site, size):
    data, shorter = png(photo(*size)), min(size)
    left, top = ((length - shorter) // 2 / shorter for length in size)
    image, mu = split(ask(site, f"encode?run=1&left={left:.5f}&top={top:.5f}&side=1", data)[2])
    expected = read_square(io.BytesIO(data), 32, 3)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(mu, load_model("faces", **PLACE).encode(expected[None])[0][0])


def test_a_square_of_a_photo(site):
    picture = photo(200, 100)
    image, _ = split(ask(site, "encode?run=1&left=0.5&top=0.2&side=0.4", png(picture))[2])
    np.testing.assert_array_equal(image, read_square(io.BytesIO(png(picture.crop((50, 20, 90, 60)))), 32, 3))
    beyond, _ = split(ask(site, "encode?run=1&left=9&top=-9&side=0.4", png(picture))[2])
    np.testing.assert_array_equal(beyond, read_square(io.BytesIO(png(picture.crop((160, 0, 200, 40)))), 32, 3))


def test_preview(site):
    status, headers, body = ask(site, "preview", png(photo(1500, 900)))
    assert status == 200 and headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(body)).size == (640, 384)


def test_the_map_is_of_mu_and_its_points_are_the_images(site, folder):
    until = time.monotonic() + 30
    while "x" not in (found := json.loads(ask(site, "map?run=0")[2])):
        assert "error" not in found and time.monotonic() < until, found
        time.sleep(0.05)
    assert len(found["x"]) == 40 and set(found["attributes"]) == {"Big", "Red"} and found["data"] == "discs"
    image, mu = split(ask(site, "point?run=0&index=7")[2])
    model = load_model(folder, **PLACE)
    np.testing.assert_allclose(mu, model.encode(image[None])[0][0], rtol=1e-4, atol=1e-5)
    assert ask(site, "point?run=0&index=40")[0] == 400
    spread = np.var(found["x"]), np.var(found["y"])
    assert spread[0] >= spread[1] > 0


def test_principal_components():
    random = np.random.default_rng(0)
    mu = random.standard_normal((50, 6)) * [1, 9, 1, 4, 1, 1]
    found = principal(mu)
    assert abs(np.corrcoef(found[:, 0], mu[:, 1])[0, 1]) > 0.98 and abs(np.corrcoef(found[:, 1], mu[:, 3])[0, 1]) > 0.9
    assert principal(mu[:1]).shape == (1, 2) and principal(mu[:, :1]).shape == (50, 2)


def test_a_training_is_followed(site, folder):
    found = json.loads(ask(site, "training?run=0")[2])
    assert found["steps"][-1] == 6 and found["grids"]["samples"] == [3, 6] == found["grids"]["reconstructions"]
    curves = {curve["title"]: curve for curve in found["curves"]}
    assert len(curves["Feature likelihood"]["series"]["like"]) == len(found["steps"])
    status, headers, body = ask(site, "grid?run=0&kind=samples&step=3")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body == (folder / "samples" / "step_000003.png").read_bytes()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "like": NaN}\n{"step": 8, "li')
    assert json.loads(ask(site, "training?run=0")[2])["steps"][-1] == 7  # the line that is being written is not read yet


def test_a_run_that_has_not_saved_yet(tmp_path):
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "like": 3.5}\n')
    routes = shown(run)
    about = json.loads(routes.answer("GET", "models", {}, b"").body)[0]
    assert "size" not in about and "no checkpoint.h5" in about["problem"]
    assert json.loads(routes.answer("GET", "training", {"run": "0"}, b"").body)["steps"] == [1]
    with pytest.raises(UserError, match="no checkpoint.h5"):
        routes.answer("POST", "decode", {"run": "0"}, bytes(4))


def test_a_new_checkpoint_is_read(tmp_path, folder):
    copy = tmp_path / "checkpoint.h5"
    copy.write_bytes((folder / "checkpoint.h5").read_bytes())
    run = shown(copy).runs[0]
    assert run.version == 1
    run.follow()
    assert run.version == 1
    copy.write_bytes(b"not HDF5")
    run.follow()
    assert run.version == 1 and run.model is not None and "checkpoint.h5" in run.problem  # the old one goes on being shown


# What strangers' pages and programs try.


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "localhost", "0.0.0.0:{port}",
     "127.1:{port}", "2130706433:{port}", "[::1]:{port}", "user@127.0.0.1:{port}", "127.0.0.1:{port},evil.example", "", "localhost.:{port}"],
)  # fmt: skip
@pytest.mark.parametrize(("path", "body"), [("", None), ("models", None), ("decode?run=0", b"1234")])
def test_another_host_is_refused(site, host, path, body):
    answer = ask(site, path, body, headers={"Host": host.format(port=site.server_address[1])})
    assert answer[0] == 403 and error_of(answer) == "this server is called otherwise"


def test_no_host_and_two_hosts_are_refused(site):
    port = site.server_address[1]
    for lines in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n", f"Host: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\n"):
        assert b"403" in raw(site, f"GET /{site.token}/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode()).split(b"\r\n")[0]
    assert ask(site, "models", headers={"Host": f"LOCALHOST:{port}"})[0] == 200


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://127.0.0.1",
                                    ["http://127.0.0.1:{port}", "http://evil.example"]])  # fmt: skip
def test_another_origin_is_refused(site, origin):
    port = site.server_address[1]
    values = origin if isinstance(origin, list) else [origin] if origin else []
    status, _, body = ask(site, "decode?run=0", b"1234", headers={"Origin": [value.format(port=port) for value in values]})
    assert status == 403 and b"another origin" in body


def test_pages_of_strangers_cannot_even_read(site):
    for kind in ("cross-site", "same-site"):
        assert ask(site, "models", headers={"Sec-Fetch-Site": kind})[0] == 403
        assert ask(site, "", headers={"Sec-Fetch-Site": kind})[0] == 200  # a link in a mail or a terminal


@pytest.mark.parametrize("token", ["", "x", "..", "%2e%2e", "{token}x", "{token}%00", "models", "é", "{head}"])
@pytest.mark.parametrize("path", ["", "models", "grid?run=0&kind=samples&step=3"])
def test_without_the_token_there_is_nothing(site, token, path):
    token = urllib.parse.quote(token.format(token=site.token, head=site.token[:-1]), safe="%")
    status, _, body = ask(site, path, token=token)
    assert status == 404 and site.token.encode() not in body and b"vaegan explorer" not in body


def test_tokens_are_long_and_new(site):
    with serving.Server(site.routes, "127.0.0.1", 0) as other:
        assert len(site.token) >= 32 and other.token != site.token


@pytest.mark.parametrize(
    "path",
    ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "checkpoint.h5", "config.json", "samples/step_000003.png", "models/",
     "Models", "grid?run=0&kind=..&step=3", "grid?run=0&kind=samples/..&step=3", "grid?run=0&kind=gan&step=3", "grid?run=0&kind=samples&step=4",
     "grid?run=2&kind=samples&step=3", "grid?run=1&kind=samples&step=3", "training?run=1"],
)  # fmt: skip
def test_no_path_leads_to_a_file(site, path):
    assert ask(site, path)[0] == 404


def test_a_grid_that_is_a_link_elsewhere_is_not_sent(site, folder, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(photo()))
    link, text = folder / "samples" / "step_000099.png", folder / "samples" / "step_000098.png"
    link.symlink_to(secret)
    text.write_text("no picture")
    try:
        assert ask(site, "grid?run=0&kind=samples&step=99")[0] == 404 == ask(site, "grid?run=0&kind=samples&step=98")[0]
    finally:
        link.unlink()
        text.unlink()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT", "get"])
def test_other_methods_do_nothing(site, method):
    status, headers, _ = ask(site, "models", method=method)
    assert status == 501 and not any(name.startswith("Access-Control") for name in headers)
    assert ask(site, "decode?run=0")[0] == 404 and ask(site, "models", b"")[0] == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("run=", 400), ("run=-1", 400), ("run=2", 404), ("run=1e3", 400), ("run=٣", 400), ("run=0&run=1", 400), ("run=0&more=1", 400),
     ("run=0&", 400), ("run=" + "9" * 400, 400), ("run=0;x", 400), ("&".join(f"a{i}=1" for i in range(99)), 400)],
)  # fmt: skip
def test_queries_are_checked(site, query, status):
    found = ask(site, f"map?{urllib.parse.quote(query, safe='=&;')}")
    assert found[0] == status, found
    assert len(error_of(found)) < 200


def test_numbers_are_checked(site):
    model = load_model("faces", **PLACE)
    good = np.zeros((1, model.latent), "<f4")
    for value in (np.nan, np.inf, -np.inf, 1001.0):
        bad = good.copy()
        bad[0, 5] = value
        found = ask(site, "decode?run=1", bad.tobytes())
        assert found[0] == 400 and "between" in error_of(found)
    for body in (b"", b"123", good.tobytes()[:-4], good.tobytes() + b"1234", np.zeros((MOST + 1, model.latent), "<f4").tobytes()):
        found = ask(site, "decode?run=1", body)
        assert found[0] == 400 and "float32" in error_of(found)
    assert ask(site, "decode?run=1", np.zeros((MOST, model.latent), "<f4").tobytes())[0] == 200
    for crop in ("left=nan&top=0&side=1", "left=0&top=inf&side=1", "left=0&top=0&side=0", "left=0&top=0&side=1.1", "left=0&top=0&side=-1",
                 "left=1e9&top=0&side=1", "left=0&top=0&side=1e-9999"):  # fmt: skip
        assert ask(site, f"encode?run=1&{crop}", png(photo()))[0] in (400, 415), crop
    tiny = ask(site, "encode?run=1&left=0&top=0&side=1e-300", png(photo()))
    assert tiny[0] in (200, 415)


def bomb():
    """A PNG of 40,000 x 40,000 pixels in some kilobytes: only its header is true."""
    data = png(Image.new("1", (8, 8)))
    size = (40_000).to_bytes(4, "big")
    header = b"IHDR" + size + size + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]


@pytest.mark.parametrize(
    "body",
    [b"", b"x" * 5000, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html><script>alert(1)</script>", png(photo())[:60], b"\x89PNG\r\n\x1a\n",
     b"GIF89a" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bomb()],
    ids=["empty", "noise", "svg", "html", "cut", "png-head", "gif-head", "postscript", "bomb"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["preview", "encode?run=1&left=0&top=0&side=1"])
def test_broken_uploads_get_a_line(site, path, body):
    found = ask(site, path, body)
    assert found[0] == 415 and error_of(found).startswith("not a readable image (") and "\n" not in error_of(found)


def test_large_uploads_are_refused_unread(site):
    found = ask(site, "preview", b"", headers={"Content-Length": str((10 << 20) + 1)})
    assert found[0] == 413 and "at most 10 MB" in error_of(found)


@pytest.mark.parametrize("headers", [{"Content-Length": "-1"}, {"Content-Length": "1e3"}, {"Content-Length": "٣"}, {"Content-Length": "9" * 40},
                                     {"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "chunked", "Content-Length": "4"}])  # fmt: skip
def test_bodies_of_unknown_length_are_refused(site, headers):
    port = site.server_address[1]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = raw(
        site,
        f"POST /{site.token}/preview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n{lines}\r\n".encode(),
        b"0\r\n\r\n",
    )
    assert answer.split(b"\r\n")[0].split()[1] in (b"411", b"413") and answer.count(b"HTTP/1.1") == 1


def test_slow_senders_are_left(site, monkeypatch):
    monkeypatch.setattr(serving, "SENDING", 0.3)
    monkeypatch.setattr(serving.Handler, "timeout", 0.3)
    port = site.server_address[1]
    head = (
        f"POST /{site.token}/preview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nContent-Length: 999\r\n\r\n"
    )
    start = time.monotonic()
    raw(site, head.encode(), b"a")  # and then nothing
    raw(site, f"GET /{site.token}/ HTTP/1.1\r\nHost: ".encode())
    raw(site)
    assert time.monotonic() - start < 4
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


def test_a_full_queue_says_so(folder):
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


def test_nothing_is_written(site, folder):
    def state():
        return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}

    before = state()
    for path in ("", "models", "map?run=0", "training?run=0", "grid?run=0&kind=samples&step=3", "x", "grid?run=0&kind=../x&step=1"):
        ask(site, path)
    for path in ("preview", "encode?run=0&left=0&top=0&side=1", "decode?run=0", "models", "train", "checkpoint.h5"):
        ask(site, path, png(photo()))
    assert state() == before


def test_nothing_is_printed_for_a_request(site, capfd):
    ask(site, "models")
    ask(site, "nothing")
    raw(site, b"\x16\x03\x01 not HTTP\r\n\r\n")
    assert capfd.readouterr() == ("", "")


# The command.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nowhere",), "error: no such checkpoint: nowhere"),
        (("faces", "--port", "70000"), "error: --port: got 70000, expected 1 to 65535, or 0 for any that is free"),
        (("faces", "--port", "x"), "error: --port: got 'x', expected a whole number"),
        (("faces", "--host", "0.0.0.0"), "error: --host: got '0.0.0.0', expected the one name or address"),
        (("faces", "--host", "192.0.2.1", "--port", "0"), "error: --host 192.0.2.1: cannot listen there"),
        (("faces", "--host", "no.such.name.invalid", "--port", "0"), "error: --host no.such.name.invalid: cannot listen there"),
        (("faces",) * 7, "error: got 7 runs, expected at most 6"),
        ((), "error: missing argument: RUN"),
    ],
)
def test_bad_arguments(arguments, expected, capsys):
    assert call(explore.main, *arguments, "--no-browser", "--engine", "numpy") == 2
    assert one_line(capsys.readouterr().err).startswith(expected)


def test_a_port_in_use(capsys, site, monkeypatch):
    used = site.server_address[1]
    assert call(explore.main, "faces", "--no-browser", "--engine", "numpy", "--port", used) == 2
    assert one_line(capsys.readouterr().err) == f"error: --port {used}: cannot listen there (Address already in use); choose another"
    monkeypatch.setattr(explore, "PORT", used)
    with explore.listening(site.routes, "127.0.0.1", None) as other:
        assert other.server_address[1] not in (used, 0)


def test_the_command_says_where_and_ends_with_ctrl_c(capsys, monkeypatch):
    def interrupted(server, *arguments):
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(serving.Server, "serve_forever", interrupted)
    monkeypatch.setattr(explore.webbrowser, "open", opened.append)
    monkeypatch.setattr(explore, "has_display", lambda: True)
    assert call(explore.main, "faces", "--port", "0", "--engine", "numpy") == 0
    out = capsys.readouterr().out
    assert out.startswith("faces: http://127.0.0.1:") and out.endswith("(Ctrl-C ends it)\nended\n") and opened == [out.split()[1]]
    assert call(explore.main, "faces", "--port", "0", "--engine", "numpy", "--no-browser", "--host", "localhost") == 0
    assert len(opened) == 1


def test_another_host_warns(capsys, monkeypatch):
    monkeypatch.setattr(serving.Server, "serve_forever", lambda server: None)
    monkeypatch.setattr(serving.Server, "server_bind", lambda server: setattr(server, "server_address", ("192.0.2.7", 80)))
    monkeypatch.setattr(serving.Server, "server_activate", lambda server: None)
    assert call(explore.main, "faces", "--port", "80", "--engine", "numpy", "--host", "192.0.2.7", "--no-browser") == 0
    assert "warning: --host 192.0.2.7: whoever learns the address below" in capsys.readouterr().err


def test_no_terminal_is_taken_for_a_browser(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(explore.sys, "platform", "linux")
    assert not explore.has_display()
    monkeypatch.setitem(os.environ, "DISPLAY", ":0")
    assert explore.has_display()
