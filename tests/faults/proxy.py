"""A real HTTP proxy in front of an S3 server, which does to requests what networks and busy servers do.

proxy = FaultProxy("127.0.0.1", port_of_the_server)
proxy.inject("slow_down", times=2, method="PUT", key="part-0")     # the next two matching requests
with proxy.outage(): ...                                           # nobody listens on the port
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Kind = Literal["slow_down", "internal", "denied", "reset", "lost_answer", "truncated", "stall"]
"""`slow_down` 503, `internal` 500, `denied` 403, each with S3's XML; `reset` before the server has heard of the request;
`lost_answer` after it has done what was asked; `truncated` half of the body, with the Content-Length of the whole; `stall`
no answer at all."""

ERRORS: dict[str, tuple[int, str]] = {
    "slow_down": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "denied": (403, "AccessDenied"),
}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class Fault:
    """A rule and how often it still applies."""

    kind: Kind
    times: int
    method: str | None = None
    """Any, if null."""
    key: str = ""
    """Must occur in the path."""
    met: int = 0
    """Requests that it was applied to."""

    def matches(self, method: str, path: str) -> bool:
        return self.met < self.times and self.method in (None, method) and self.key in path


class FaultProxy:
    """Listens on a port of its own until `close`; every request that no rule meets is passed on unchanged."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        """(method, path) of every request."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server: _Server | None = None
        self._listen(0)
        assert self._server is not None
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def inject(self, kind: Kind, *, times: int = 1, method: str | None = None, key: str = "") -> Fault:
        """Add a rule. The first one that matches a request is applied to it."""
        fault = Fault(kind, times, method, key)
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.faults.clear()
            self.seen.clear()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Connections are refused, and those that are open are cut."""
        self.shut()
        try:
            yield
        finally:
            self.reopen()

    def shut(self) -> None:
        if self._server is not None:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_connections()
            self._server = None

    def reopen(self) -> None:
        self._closing.clear()
        self._listen(self.port)

    close = shut

    def choose(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            found = next((fault for fault in self.faults if fault.matches(method, path)), None)
            if found is not None:
                found.met += 1
            return found

    def _listen(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def wait_until_closing(self) -> None:
        self._closing.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    proxy: FaultProxy

    def __init__(self, *arguments: object) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)  # type: ignore[arg-type]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        body = self._body()
        fault = self.server.proxy.choose(self.command, self.path)
        kind = fault.kind if fault else None
        if kind in ERRORS:
            self._refuse(*ERRORS[kind])
        elif kind == "reset":
            self._cut()
        elif kind == "stall":
            self.server.proxy.wait_until_closing()
            self._cut()
        else:
            status, headers, answer = self._ask(body)
            if kind == "lost_answer":
                self._cut()
            else:
                self._answer(status, headers, answer, cut=kind == "truncated")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def _body(self) -> bytes:
        """The request's body; the AWS SDK for C++ sends it in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            continue
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in {*HOP_BY_HOP, "expect"}}
        connection.request(self.command, self.path, body=body, headers=kept)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, response.getheaders(), answer

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {*HOP_BY_HOP, "content-length"}:
                self.send_header(name, value)
        told = dict((name.lower(), value) for name, value in headers)
        length = told.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self._answer(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else body)

    def _cut(self) -> None:
        self.close_connection = True
        reset(self.connection)

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the tests' terminal."""


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
