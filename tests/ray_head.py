"""A Ray as on a cluster: `ray start --head` with a token, its dashboard on a port of its own."""

from __future__ import annotations

import os
import random
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
            try:
                head.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different, and none that the kernel gives away by itself meanwhile."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 30_000), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            break
    return found
