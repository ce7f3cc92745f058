"""A hub on this machine, as far as an upload needs one: repositories, small files in the commit, large ones by LFS, refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", ".parquet")
"""Ends names of what goes by LFS."""


@dataclass
class Repository:
    """What has been uploaded."""

    private: bool
    kind: str = "model"
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


class HubServer:
    """Serves `token` alone. status: what whoever has it is answered, where that is set."""

    def __init__(self, token: str = "hf_test", status: int | None = None) -> None:
        self.token, self.status = token, status
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.seen: list[str] = []

    def __enter__(self) -> HubServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append(f"{self.command} {self.path}")
                stored = self.path.startswith("/objects/")  # a storage's address, which needs no token
                if not stored and self.headers.get("authorization") != f"Bearer {outer.token}":
                    self.reply(401, {"error": "Invalid credentials"})
                elif outer.status is not None:
                    self.reply(outer.status, {"error": "as the test wants"})
                else:
                    self.reply(*outer.answer(self.path.partition("?")[0], body))

            do_GET = do_POST = do_PUT = handle_any

            def reply(self, status: int, answer: Any) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        routes = {
            r"/objects/(.+)": self._store,
            r"/api/validate-yaml": lambda body: (200, {"errors": [], "warnings": []}),
            r"/api/repos/create": self._create,
            r"/api/(?:models|datasets)/(.+)/preupload/main": self._preupload,
            r"/api/(?:models|datasets)/(.+)/commit/main": self._commit,
            r"/api/(?:models|datasets)/(.+)/settings": self._settings,
            r"/api/datasets/(.+)/tree/main": self._tree,
            r"/(?:datasets/)?(.+)\.git/info/lfs/objects/batch": self._batch,
        }
        for route, handle in routes.items():
            if found := re.fullmatch(route, path):
                return handle(*found.groups(), body)
        return 404, {"error": f"nothing at {path}"}

    def _store(self, oid: str, body: bytes) -> tuple[int, Any]:
        self.objects[oid] = body
        return 200, {}

    def _settings(self, name: str, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        self.repositories[name].private = asked.get("private") is True or asked.get("visibility") == "private"
        return 200, asked

    def _create(self, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        answer = {"url": f"{self.url}/{name}", "name": name, "id": name}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", **answer}
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.repositories[name] = Repository(private, asked.get("type") or "model")
        return 200, answer

    def _tree(self, name: str, body: bytes) -> tuple[int, Any]:
        files = self.repositories[name].files.items()
        return 200, [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files]

    def _preupload(self, name: str, body: bytes) -> tuple[int, Any]:
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = [{"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular"} for path in files]
        return 200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]}

    def _batch(self, name: str, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)["objects"]
        objects = [{**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}} for one in asked]
        return 200, {"transfer": "basic", "objects": objects}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        repository = self.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.messages.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
            elif line["key"] == "lfsFile":
                data = self.objects[value["oid"]]
                assert hashlib.sha256(data).hexdigest() == value["oid"]
                repository.files[value["path"]] = data
        commit = f"{len(repository.messages):040x}"
        return 200, {"success": True, "commitOid": commit, "commitUrl": f"{self.url}/{name}/commit/{commit}"}
