"""A spot instance's last two minutes: the notice is seen whatever the metadata service does, and Ray is told in time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import metadata_server as metadata_server_module
import pytest
from metadata_server import MetadataServer, metadata_server
from processes import wait_until
from ray_nodes import new_cluster

from redi_ray.cluster.spot_drain import SLOWEST_POLL_SECONDS, DrainError, NodeDrainer, SpotMetadata, wait_for_notice

TERMINATE = {"action": "terminate", "time": "2026-09-18T08:22:00Z"}


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with metadata_server() as running:
        yield running


def test_no_notice_is_no_error_and_a_notice_is_read(server: MetadataServer):
    metadata = SpotMetadata(server.url)
    assert metadata.notice() is None
    server.notice = TERMINATE
    notice = metadata.notice()
    assert notice is not None
    assert (notice.action, notice.at) == ("terminate", datetime(2026, 9, 18, 8, 22, tzinfo=UTC))
    assert notice.seconds_left(datetime(2026, 9, 18, 8, 20, tzinfo=UTC)) == 120
    assert notice.seconds_left(datetime(2026, 9, 18, 9, 0, tzinfo=UTC)) == 0
    assert len(server.tokens) == 1, "one token serves many questions"


def test_a_token_that_has_run_out_is_renewed_at_once(server: MetadataServer):
    """Instances live longer than tokens: the notice must not be lost to a 401."""
    metadata = SpotMetadata(server.url)
    assert metadata.notice() is None
    server.expire_tokens()
    server.notice = TERMINATE
    assert metadata.notice() is not None


def test_a_service_that_fails_is_asked_ever_more_rarely_and_not_given_up(server: MetadataServer):
    """No storm on a service in trouble, and the notice that comes after the trouble is still seen."""
    metadata, pauses = SpotMetadata(server.url), list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        server.mood = "broken" if len(pauses) < 7 else "well"
        server.notice = TERMINATE if len(pauses) > 9 else None

    assert wait_for_notice(metadata.notice, 5.0, sleep).action == "terminate"
    assert pauses == [
        5.0,
        10.0,
        20.0,
        40.0,
        SLOWEST_POLL_SECONDS,
        SLOWEST_POLL_SECONDS,
        SLOWEST_POLL_SECONDS,
        5.0,
        5.0,
        5.0,
    ]
    assert len(server.questions) == len(pauses) + 1, "one question a pause: no retries of its own"


@pytest.mark.parametrize("told", [{"action": "terminate"}, ["terminate"], {"action": "stop", "time": "soon"}])
def test_an_answer_that_is_no_notice_is_trouble_not_an_end(server: MetadataServer, told: object):
    server.notice = told
    with pytest.raises(ValueError, match="spot/instance-action is"):
        SpotMetadata(server.url).notice()


def test_a_service_that_hangs_holds_nothing_up(server: MetadataServer):
    server.mood = "slow"
    started = time.monotonic()
    with pytest.raises(httpx.TimeoutException):
        SpotMetadata(server.url, timeout=0.2).notice()
    assert time.monotonic() - started < 1.5


@pytest.fixture
def two_nodes() -> Iterator[tuple[str, list[str]]]:
    """A Ray of two nodes on this machine, in processes of their own: the head's address, the ids of head and worker."""
    import ray

    if ray.is_initialized():
        pytest.skip("another test's Ray is connected")
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = new_cluster()
        store = {"object_store_memory": 100 << 20}
        head = cluster.add_node(num_cpus=1, temp_dir=folder, include_dashboard=False, **store)
        worker = cluster.add_node(num_cpus=1, **store)
        try:
            yield cluster.address, [head.node_id, worker.node_id]
        finally:
            cluster.shutdown()


@pytest.mark.long
@pytest.mark.own_ray
def test_ray_is_told_of_the_node_and_its_deadline(two_nodes: tuple[str, list[str]], server: MetadataServer):
    """The whole helper as a process, against a real Ray: the node is drained as preempted, the other is left alone."""
    import ray

    address, (head, worker) = two_nodes
    with pytest.raises(DrainError, match="2 Ray nodes run on this machine"):
        NodeDrainer(address, None).find(0.0)
    with pytest.raises(DrainError, match="no living Ray node"):
        NodeDrainer(address, "0" * 56).find(0.0)
    # the nodes were not started from this test
    here = {
        "env_vars": {"PYTHONPATH": os.pathsep.join(map(os.path.dirname, (__file__, metadata_server_module.__file__)))}
    }
    ray.init(address=address, log_to_driver=False, runtime_env=here)
    try:
        # something runs there, or the node would be gone as soon as it is drained
        holder = ray.remote(num_cpus=1, label_selector={"ray.io/node-id": worker})(_Holder).remote()
        assert ray.get(holder.node.remote()) == worker
        command = [sys.executable, "-m", "redi_ray.cluster.spot_drain", "--address", address, "--node-id", worker]
        watcher = subprocess.Popen(
            [*command, "--metadata", server.url, "--poll-seconds", "0.2"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_PROXY": "*"},
        )
        wait_until(lambda: len(server.questions) > 2, 60)
        assert ray._private.state.state.get_draining_nodes() == {}
        at = (datetime.now(UTC) + timedelta(seconds=120)).replace(microsecond=0)
        server.notice = {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        _, told = watcher.communicate(timeout=60)
        assert watcher.returncode == 0, told
        assert f"Ray node {worker} is being drained" in told
        wait_until(lambda: ray._private.state.state.get_draining_nodes() == {worker: int(at.timestamp() * 1000)}, 60)
        where = ray.remote(num_cpus=1)(_node)
        assert {ray.get(where.remote()) for _ in range(3)} == {head}, "nothing new is placed on the node"
    finally:
        ray.shutdown()


def _node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


class _Holder:
    def node(self) -> str:
        return _node()
