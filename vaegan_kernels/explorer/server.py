"""The explorer's server: HTTP on this machine, with Python's standard library. What each route computes is in `routes`.

A browser runs pages of strangers beside ours, and all of them may speak to this machine's ports. So each request must name this server
in Host (a page whose name was made to point here names another), a POST must come from our page (Origin), and each path begins with a
token that only who started the server has seen. Nothing that is asked names a file, and nothing is written.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import secrets
import socket
import socketserver
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vaegan_kernels.explorer.page import POLICY, served
from vaegan_kernels.explorer.routes import Answer, Refused, Routes
from vaegan_kernels.explorer.worker import Busy
from vaegan_kernels.shell.errors import UserError

SILENCE = 15.0  # seconds that a connection may say nothing
SENDING = 60.0  # seconds that a body may take
LARGEST = 10 << 20  # bytes of a body
CONNECTIONS = 64  # at once
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves ``routes`` on ``host`` and ``port`` (0: any). Attributes: ``token``, ``url`` (what a person opens)."""

    daemon_threads = True
    request_queue_size = CONNECTIONS
    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers have one port

    def __init__(self, routes: Routes, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.routes = routes
        self.token = secrets.token_urlsafe(24)
        address, bound = str(self.server_address[0]), self.server_address[1]
        self.local = ipaddress.ip_address(address).is_loopback
        names = {host.lower(), address, *(("localhost",) if address in ("127.0.0.1", "::1") else ())}  # as browsers write them
        shown = address if ":" in address else host.lower()
        self.hosts = {f"{_in_url(name)}:{bound}" for name in names} | {_in_url(name) for name in names if bound == 80}
        self.url = f"http://{_in_url(shown)}:{bound}/{self.token}/"
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    def server_bind(self) -> None:
        """As the base class, without its question to the network what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, up to `CONNECTIONS`; more are closed at once."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base class."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever went away in the middle needs no traceback here."""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Patient(socket.SocketIO):
    """What a connection sends, until a moment: who sends a byte now and then is not waited for."""

    until = 0.0

    def readinto(self, buffer: Any) -> int | None:
        """As the base class. Raises TimeoutError."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        self._sock.settimeout(left)  # type: ignore[attr-defined]
        return super().readinto(buffer)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for the other side to confirm the first
    server_version, sys_version = "vaegan", ""

    def setup(self) -> None:
        """As the base class, but that reading has an end."""
        super().setup()
        self.rfile.close()
        self.sending = Patient(self.connection, "rb")
        self.rfile = io.BufferedReader(self.sending)

    def handle_one_request(self) -> None:
        """As the base class: the request's head must have come within `SILENCE`."""
        self.sending.until = time.monotonic() + SILENCE
        super().handle_one_request()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: answered as all else is, in one line."""
        self.close_connection = True
        self._send(code, _told(message or self.responses[HTTPStatus(code)][0]))

    def do_GET(self) -> None:
        """The page, and what it reads."""
        self._answer(b"")

    def do_POST(self) -> None:
        """What the page has computed."""
        self._answer(None)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged: the terminal is the user's."""

    def _answer(self, body: bytes | None) -> None:
        try:
            path, query = self._checked()
            if path == "" and self.command == "GET":
                answer = Answer("text/html; charset=utf-8", served())
            else:
                answer = self.server.routes.answer(self.command, path, query, self._body() if body is None else body)
        except Refused as error:
            self._send(error.status, _told(str(error)), error.headers)
        except (UserError, ValueError) as error:
            self._send(400, _told(str(error)))
        except Busy as error:
            self._send(503, _told(str(error)), {"Retry-After": "1"})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            self._send(500, _told(f"{type(error).__name__}: {error}"))
        else:
            self._send(200, answer)

    def _checked(self) -> tuple[str, dict[str, str]]:
        """(the path behind the token, the query). Raises `Refused`."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            raise Refused(403, "this server is called otherwise")
        if self.command == "GET" and (self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # what nobody reads would be taken for the next request
            raise Refused(400, "a question has no body")
        if self.command == "POST" and self.headers.get_all("Origin", []) != [f"http://{hosts[0].lower()}"]:
            raise Refused(403, "sent by a page of another origin")
        parts = urllib.parse.urlsplit(self.path)
        _, token, *rest = f"{parts.path}//".split("/", 3)
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(404, "open the address that the command printed: its path is a key")
        if parts.path == f"/{token}" and self.command == "GET":
            raise Refused(308, "with a slash at its end", {"Location": f"/{token}/"})
        path = parts.path.removeprefix(f"/{token}").removeprefix("/")
        if path and self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):  # the page itself may be a link elsewhere
            raise Refused(403, "asked by a page of another origin")
        try:
            pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=8)
        except ValueError:
            raise Refused(400, "the query is ill-formed") from None
        if len(dict(pairs)) != len(pairs):
            raise Refused(400, "the query says something twice")
        return path, dict(pairs)

    def _body(self) -> bytes:
        """The request's body. Raises `Refused`."""
        length, *more = self.headers.get_all("Content-Length", [""])
        if more or "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit() and len(length) < 12):
            self.close_connection = True
            raise Refused(411, "how long the body is must be said")
        if int(length) > LARGEST:
            self.close_connection = True
            raise Refused(413, f"{int(length) / 2**20:.1f} MB, at most {LARGEST >> 20} MB are taken")
        self.sending.until = time.monotonic() + SENDING
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            body = b""
        if len(body) < int(length):
            self.close_connection = True
            raise Refused(408, "the body did not come")
        return body

    def _send(self, status: int, answer: Answer, more: dict[str, str] | None = None) -> None:
        if status >= 400 and self.command == "POST":
            self.close_connection = True  # what is left of its body is not read
        try:
            self.connection.settimeout(SENDING)
            self.send_response(status)
            for name, value in (HEADERS | (more or {})).items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True


def _told(problem: str) -> Answer:
    """A problem, in one line."""
    return Answer("application/json", json.dumps({"error": " ".join(problem.split())[:500]}).encode())
