"""A fault proxy before the S3 server, and a table of how long each fault held things up (shown by `pytest -s`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from measured import LIMITS, Measured
from proxy import FaultProxy

from redi_ray.store import s3


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
