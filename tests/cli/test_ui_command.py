"""Protects `redi-ray ui`: what it says and when, what it refuses, and that it leaves no process behind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from made_run import write_data_stages

from redi_ray.cli.ui import CannotServe, listening, serve_pages, told


def test_the_pages_are_served_and_nothing_is_left_behind(tmp_path: Path):
    """The address comes before what takes long to load; SIGTERM ends both processes."""
    write_data_stages(str(tmp_path / "demo"))
    command = [sys.executable, "-m", "redi_ray.cli", "ui", str(tmp_path), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found is not None
        assert ">demo<" in httpx.get(found[0], timeout=120).text
        family = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
        assert (server.returncode, errors) == (0, "")
        _, alive = psutil.wait_procs(family, 20)
        assert alive == []
    finally:
        server.kill()


def test_what_is_missing_or_taken_is_told():
    with pytest.raises(CannotServe, match="not there"):
        serve_pages(["/nowhere/runs"], "127.0.0.1", 0, None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotServe, match="another --port"):
            listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(CannotServe, match="no address"):
        listening("no.such.host.invalid", 0)


def test_only_an_address_with_a_token_is_told_to_others():
    assert told("127.0.0.1", 8400, None) == "redi-ray ui: http://127.0.0.1:8400 (Ctrl-C ends it)"
    assert f"http://{socket.gethostname()}:80/?token=abc " in told("0.0.0.0", 80, "abc")
    assert "http://[::1]:80" in told("::1", 80, None)
