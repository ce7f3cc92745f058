"""Fixtures shared by all tests: the real data, one session-wide Ray."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A process is connected to one Ray at a time, and the shared one stays until the end."""
    items.sort(key=lambda item: item.get_closest_marker("own_ray") is None)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real traces and benchmarks; tests that need it skip where it is missing."""
    path = Path(os.environ.get("REDI_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no test data at {path}; set REDI_TEST_DATA")
    return path


@pytest.fixture(scope="session")
def real_set(test_data: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Reads one of the real sets on steps, turns, judges and rewards, by its name."""

    def read(name: str) -> list[dict[str, Any]]:
        with gzip.open(test_data / "steps_turns_rewards" / f"{name}.jsonl.gz", "rt") as lines:
            return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for every test that does not break it; more logical CPUs than cores, so that actors fit."""
    import ray

    with tempfile.TemporaryDirectory(prefix="rr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            object_store_memory=512 << 20,
            _temp_dir=folder,
            log_to_driver=False,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a real S3 server in this process."""
    import boto3
    from moto.server import ThreadedMotoServer

    from redi_ray.store import s3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    patch = pytest.MonkeyPatch()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="redi")
    s3.forget_clients()
    yield "s3://redi"
    s3.forget_clients()
    patch.undo()
    server.stop()


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder on disk, and one on S3."""
    return str(tmp_path) if request.param == "local" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
