"""The two clients of S3, with their time-outs and tries in one place: pyarrow's for files, boto3's for locks.

Both read the same environment (AWS_ENDPOINT_URL, AWS_REGION, credentials). Errors that may pass (503, 500, a reset
connection, a body cut off, no answer) are tried again with growing pauses; a refusal (403) is final at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow.fs as pafs

from redi_ray.errors import explain_s3


@dataclass(frozen=True)
class Limits:
    """How long one request may take, and how often it is made."""

    connect_seconds: float
    request_seconds: float
    """Without a byte of the answer."""
    retries: int
    """Further tries; the pauses before them double, from 25 ms."""


FILES = Limits(connect_seconds=10, request_seconds=30, retries=10)
"""Outages of up to 25 s are got over; what lasts ends then. Where connections stand open and nothing comes, 11 time-outs pass
first: 6 minutes, some more for a write, whose stall is seen a few seconds late."""
LOCKS = Limits(connect_seconds=5, request_seconds=8, retries=7)
"""Shorter: a lock's sign of life that comes too late is worth nothing."""


def filesystem() -> pafs.S3FileSystem:
    """pyarrow's client."""
    return _filesystem(os.getpid(), FILES)


def client() -> Any:
    """boto3's client, for what pyarrow cannot do: writes that depend on what is there."""
    return _client(os.getpid(), LOCKS)


def forget_clients() -> None:
    """Make new ones, after the environment has changed."""
    _filesystem.cache_clear()
    _client.cache_clear()


@lru_cache(maxsize=8)
def _filesystem(_pid: int, limits: Limits) -> pafs.S3FileSystem:
    """One per process, since forks share sockets.

    The endpoint is read here because pyarrow looks at the environment only when it is first imported.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rpartition("://")
    return pafs.S3FileSystem(
        endpoint_override=host or None,
        scheme=scheme or "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        request_timeout=limits.request_seconds,
        connect_timeout=limits.connect_seconds,
        # not the "standard" one: it has a budget of tries for all requests of the process, and in a bad hour none is left
        retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=limits.retries),
        allow_delayed_open=True,  # a small file is one request instead of three
    )


@lru_cache(maxsize=8)
def _client(_pid: int, limits: Limits) -> Any:
    import boto3
    from botocore.config import Config

    settings = Config(
        connect_timeout=limits.connect_seconds,
        read_timeout=limits.request_seconds,
        retries={"mode": "standard", "total_max_attempts": 1 + limits.retries},
    )
    return boto3.client("s3", config=settings)


@contextmanager
def client_errors(doing: str, uri: str) -> Iterator[None]:
    """Inside the block what boto3 raises becomes a StorageError."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        raise explain_s3(doing, uri, error_code(error), str(error)) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise explain_s3(doing, uri, "ACCESSDENIED", str(error)) from error
    except BotoCoreError as error:
        raise explain_s3(doing, uri, "", str(error)) from error


def error_code(error: Any) -> str:
    """`PreconditionFailed`, `SlowDown`, ... of a botocore ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))
