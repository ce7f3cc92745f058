"""A Ray as on a cluster: `ray start --head` with a token, its dashboard on a port of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_head() -> Iterator[dict[str, str]]:
    """It runs inside the block; gives the environment of a user who submits to it."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    gcs, dashboard, client = ports
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    with tempfile.TemporaryDirectory(prefix="rc", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [
                Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={gcs}", "--num-cpus=8",
                f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--temp-dir={folder}",
                "--object-store-memory=500000000", "--disable-usage-stats",
            ],
            env={**os.environ, **environment, "RAY_ADDRESS": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield environment
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)
