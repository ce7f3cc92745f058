"""`redi-ray ui`: pages over runs, on a port of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from redi_ray.errors import UserError
from redi_ray.store import storage
from redi_ray.ui.guard import LOOPBACK, is_loopback

BACKLOG = 128


class CannotServe(UserError):
    """The pages cannot be served as asked; the message says why."""


def serve_pages(roots: Sequence[str], host: str, port: int, token: str | None) -> None:
    """Serve until interrupted. Raises CannotServe, or StorageError for a root that cannot be read."""
    for root in roots:
        if not storage.exists(root):
            raise CannotServe(f"{root} is not there; name a folder of runs, a run, or a config, local or s3://")
    alone = is_loopback(host)
    if not alone and token is None:
        token = secrets.token_urlsafe(24)
    with listening(host, port) as listener:
        print(told(host, listener.getsockname()[1], token), flush=True)  # before what takes long to load
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # whether a model has a newer commit is not asked of the hub
        import uvicorn

        from redi_ray.ui.app import create_app

        app = create_app(roots, token, {*LOOPBACK, host} if alone else ())
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn hands it on when it has ended in order
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections, before there is anyone to answer them. Raises CannotServe."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"--host {host}: no address of this machine ({error})") from error
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        other = "--host, an address of this machine" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise CannotServe(f"{host}:{port} cannot be listened on ({error.strerror}); name another {other}") from error
    return found


def told(host: str, port: int, token: str | None) -> str:
    """Where the pages are. Of all addresses of this machine its name is told."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    query = f"/?token={token}" if token else ""
    after = "; whoever has this address can read all of it" if token else ""
    return f"redi-ray ui: http://{name}:{port}{query} (Ctrl-C ends it{after})"
