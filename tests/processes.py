"""Running the command line as users do: in a process of its own, which may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redi_ray.store import manifests, parquet

ROOT = Path(__file__).resolve().parent.parent


def wait_until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Fails where it does not come true within that time."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)


def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`redi-ray ARGUMENTS` (or, with a leading `python`, a script) in a process group of its own."""
    command = [sys.executable, "-m", "redi_ray.cli", *arguments]
    if arguments[0] == "python":
        command = [sys.executable, *arguments[1:]]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(*arguments: str, environment: dict[str, str] | None = None, expect: int = 0) -> str:
    """Its output. Fails unless it exits with `expect`."""
    process = start(*arguments, environment=environment)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == expect, f"exit {process.returncode}:\n{output[-6000:]}"
    return output


def kill_when(process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 600) -> None:
    """SIGKILL the driver alone, as the kernel would, once `condition` holds. Fails if it ends before that."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before it could be killed:\n{process.communicate()[0][-4000:]}"
        assert time.monotonic() < deadline, "the moment to kill it never came"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # Ray's reaper ends the processes that the driver has left behind


def rows(run_uri: str | Path, stage: str, table: str, columns: list[str] | None = None) -> list[dict]:
    """All rows of a published table."""
    manifest = manifests.current_manifest(str(run_uri), stage)
    return [row for part in parquet.read_tables(manifest.files(table), columns) for row in part.to_pylist()]
