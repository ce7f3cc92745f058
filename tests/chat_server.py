"""A real chat endpoint on this machine that answers as a test tells it to: well, late, wrongly or not at all."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    status: int = 200
    body: Any = None
    """JSON, or bytes as they are."""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    """Break the connection instead of answering."""


def completion(text: Any, finish: Any = "stop", usage: dict[str, int] | None = None, **message: Any) -> Reply:
    """A well-formed answer."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    counted = {"prompt_tokens": 11, "completion_tokens": 7} if usage is None else usage
    return Reply(body={"object": "chat.completion", "model": "m", "choices": [choice], "usage": counted})


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    at: float
    """time.monotonic()"""
    path: str
    body: Any
    authorization: str | None


PATHS = ("/v1/models", "/v1/chat/completions")


class ChatServer:
    """`answer(body, tries)` replies to every chat; `tries` counts how often this very body has been sent. An empty chat, which
    asks whether there is an API, gets a 400 as from any server."""

    def __init__(
        self,
        answer: Callable[[dict[str, Any], int], Reply],
        models: Reply | None = None,
        elsewhere: Reply | None = None,
    ) -> None:
        self.answer = answer
        self.models = models or Reply(body={"data": [{"id": "m"}]})
        self.elsewhere = elsewhere
        """What paths get that are no API's; null: there are none such."""
        self.empty_chat = Reply(400, {"error": "no messages"})
        self.seen: list[Seen] = []
        self.most_at_once = self._at_once = 0
        self._tries: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ChatServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                lost = outer.elsewhere is not None and self.path not in PATHS
                self.reply(outer.elsewhere if lost else outer.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if outer.elsewhere is not None and self.path not in PATHS:
                    self.reply(outer.elsewhere)
                    return
                if "messages" not in body:
                    self.reply(outer.empty_chat)
                    return
                with outer._lock:
                    key = json.dumps(body, sort_keys=True)
                    outer._tries[key] = tries = outer._tries.get(key, 0) + 1
                    outer.seen.append(Seen(time.monotonic(), self.path, body, self.headers["authorization"]))
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    self.reply(outer.answer(body, tries))
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def reply(self, reply: Reply) -> None:
                time.sleep(reply.delay)
                if reply.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()  # with a linger of zero that is a RST
                    self.close_connection = True
                    return
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"content-length": str(len(data)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                """A client that gave up waiting is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"
