"""EC2's instance metadata service, as far as spot notices go: tokens that run out, 404 until there is a notice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class MetadataServer(ThreadingHTTPServer):
    """`notice`: what spot/instance-action says, None for 404. `mood`: `well`, `broken` (500) or `slow`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notice: Any = None
        self.mood = "well"
        self.tokens: list[str] = []
        self.questions: list[float] = []
        """When spot/instance-action was asked for, with a good token or not."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def expire_tokens(self) -> None:
        self.tokens.append("none is good any more")


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not (lifetime.isdigit() and 1 <= int(lifetime) <= 21600):
            return self._answer(400)
        self.server.tokens.append(f"token-{len(self.server.tokens)}")
        return self._answer(200, self.server.tokens[-1])

    def do_GET(self) -> None:
        self.server.questions.append(time.monotonic())
        if self.server.mood == "slow":
            time.sleep(2)
            return None
        if self.server.mood == "broken":
            return self._answer(500)
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens[-1:]:
            return self._answer(401)
        if self.path != "/latest/meta-data/spot/instance-action" or self.server.notice is None:
            return self._answer(404)
        return self._answer(200, json.dumps(self.server.notice))

    def _answer(self, code: int, text: str = "") -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@contextmanager
def metadata_server() -> Iterator[MetadataServer]:
    """Serving inside the block."""
    server = MetadataServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
