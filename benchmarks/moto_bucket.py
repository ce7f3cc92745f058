"""A bucket of moto's server, for benchmarks on S3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_s3(bucket: str) -> subprocess.Popen[bytes]:
    """moto's server, with this bucket; this process and its children ask it."""
    import boto3

    port = free_port()
    script = str(Path(sys.executable).with_name("moto_server"))
    server = subprocess.Popen([script, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    for _ in range(100):
        try:
            boto3.client("s3").create_bucket(Bucket=bucket)
            return server
        except Exception:  # it is starting
            time.sleep(0.2)
    raise SystemExit("moto's server does not start")
