"""The explorer's server: every way known to abuse a server on one's own machine."""

from __future__ import annotations

import urllib.parse
import zlib

import numpy as np
import pytest
from explorer_case import PLACE, ask, error_of, photo, png, raw
from PIL import Image

from vaegan_kernels import load_model
from vaegan_kernels.explorer import server as serving
from vaegan_kernels.explorer.routes import MOST


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "localhost",
        "0.0.0.0:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "[::1]:{port}",
        "user@127.0.0.1:{port}",
        "127.0.0.1:{port},evil.example",
        "",
        "localhost.:{port}",
    ],
)
@pytest.mark.parametrize(("path", "body"), [("", None), ("models", None), ("decode?run=0", b"1234")])
def test_another_host_is_refused(site, host, path, body):
    answer = ask(site, path, body, headers={"Host": host.format(port=site.server_address[1])})
    assert answer[0] == 403 and error_of(answer) == "this server is called otherwise"


def test_no_host_and_two_hosts_are_refused(site):
    port = site.server_address[1]
    for lines in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n", f"Host: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\n"):
        assert b"403" in raw(site, f"GET /{site.token}/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode()).split(b"\r\n")[0]
    assert ask(site, "models", headers={"Host": f"LOCALHOST:{port}"})[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://evil.example",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        ["http://127.0.0.1:{port}", "http://evil.example"],
    ],
)
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
    [
        "../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "checkpoint.h5",
        "config.json",
        "samples/step_000003.png",
        "models/",
        "Models",
        "grid?run=0&kind=..&step=3",
        "grid?run=0&kind=samples/..&step=3",
        "grid?run=0&kind=gan&step=3",
        "grid?run=0&kind=samples&step=4",
        "grid?run=2&kind=samples&step=3",
        "grid?run=1&kind=samples&step=3",
        "training?run=1",
    ],
)
def test_no_path_leads_to_a_file(site, path):
    assert ask(site, path)[0] == 404


def test_a_grid_that_is_a_link_elsewhere_is_not_sent(site, run_folder, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(photo()))
    link, text = run_folder / "samples" / "step_000099.png", run_folder / "samples" / "step_000098.png"
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
    [
        ("", 400),
        ("run=", 400),
        ("run=-1", 400),
        ("run=2", 404),
        ("run=1e3", 400),
        ("run=٣", 400),
        ("run=0&run=1", 400),
        ("run=0&more=1", 400),
        ("run=0&", 400),
        ("run=" + "9" * 400, 400),
        ("run=0;x", 400),
        ("&".join(f"a{i}=1" for i in range(99)), 400),
    ],
)
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
    [
        b"",
        b"x" * 5000,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html><script>alert(1)</script>",
        png(photo())[:60],
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + bytes(50),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        bomb(),
    ],
    ids=["empty", "noise", "svg", "html", "cut", "png-head", "gif-head", "postscript", "bomb"],
)
@pytest.mark.parametrize("path", ["preview", "encode?run=1&left=0&top=0&side=1"])
def test_broken_uploads_get_a_line(site, path, body):
    found = ask(site, path, body)
    assert (
        found[0] == 415
        and error_of(found).startswith("not a readable image")
        and " object at 0x" not in error_of(found)
        and "\n" not in error_of(found)
    )


def test_large_uploads_are_refused_unread(site):
    found = ask(site, "preview", b"", headers={"Content-Length": str((10 << 20) + 1)})
    assert found[0] == 413 and "at most 10 MB" in error_of(found)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "-1"},
        {"Content-Length": "1e3"},
        {"Content-Length": "٣"},
        {"Content-Length": "9" * 40},
        {"Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "chunked", "Content-Length": "4"},
    ],
)
def test_bodies_of_unknown_length_are_refused(site, headers):
    port = site.server_address[1]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = raw(
        site,
        f"POST /{site.token}/preview HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n{lines}\r\n".encode(),
        b"0\r\n\r\n",
    )
    assert answer.split(b"\r\n")[0].split()[1] in (b"411", b"413") and answer.count(b"HTTP/1.1") == 1


def test_nothing_is_written(site, run_folder):
    def state():
        return {path: path.stat().st_mtime_ns for path in (run_folder, *run_folder.rglob("*"))}

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
