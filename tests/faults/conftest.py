"""A fault proxy before the S3 server, and a table of how long each fault held things up (shown by `pytest -s`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from proxy import FaultProxy

from redi_ray.store import s3

LIMITS = s3.Limits(connect_seconds=2, request_seconds=2, retries=6)
"""Small, so that what lasts ends soon; pauses and rules are those of every day."""


@dataclass
class Measured:
    """What was tried, and how it ended."""

    rows: list[tuple[str, str, float, str]] = field(default_factory=list)

    def time(self, operation: str, fault: str, call: Callable[[], object]) -> object:
        """The call's value, or the exception that it raised; the time it took is noted."""
        started = time.monotonic()
        result: object
        try:
            result = call()
            code = getattr(result, "exit_code", None)
            ended = "recovered" if code is None else f"exit {code}"
        except Exception as error:
            result, ended = error, type(error).__name__
        self.rows.append((fault, operation, time.monotonic() - started, ended))
        return result


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    noted = Measured()
    yield noted
    print(f"\n{'fault':<24}{'operation':<18}{'seconds':>8}  end")
    for fault, operation, seconds, ended in sorted(noted.rows):
        print(f"{fault:<24}{operation:<18}{seconds:>8.2f}  {ended}")


@pytest.fixture(scope="module")
def proxied(bucket: str) -> Iterator[FaultProxy]:
    """The proxy, in every client's way."""
    server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    assert server.hostname is not None
    assert server.port is not None
    proxy = FaultProxy(server.hostname, server.port)
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", proxy.url)
    patch.setattr(s3, "FILES", LIMITS)
    patch.setattr(s3, "LOCKS", LIMITS)
    s3.forget_clients()
    yield proxy
    patch.undo()
    s3.forget_clients()
    proxy.close()


@pytest.fixture
def proxy(proxied: FaultProxy) -> Iterator[FaultProxy]:
    """Without faults, until the test adds some."""
    proxied.clear()
    yield proxied
    proxied.clear()
