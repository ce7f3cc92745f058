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
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def ray_head() -> Iterator[dict[str, str]]:
    """It runs inside the block; gives the environment of a user who submits to it."""
    # the agent's too: jobs need it, and another Ray on this machine has the default one
    gcs, dashboard, client, agent = free_ports(4)
    binaries = Path(sys.executable).parent
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    with tempfile.TemporaryDirectory(prefix="rc", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [
                binaries / "ray", "start", "--head", "--block", f"--port={gcs}", "--num-cpus=8",
                f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--temp-dir={folder}",
                f"--dashboard-agent-listen-port={agent}", "--object-store-memory=500000000", "--disable-usage-stats",
            ],
            env={**os.environ, **environment, "RAY_ADDRESS": "", "PATH": f"{binaries}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield environment
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in found:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in found]
