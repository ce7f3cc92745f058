"""Drains this machine's Ray node when the cloud says that it will take the machine away.

    python -m redi_ray.cluster.spot_drain            beside `ray start`, on every node that may be a spot instance

A spot instance of AWS is told two minutes ahead, by its own metadata service alone; Ray does not look there. This does, and
passes the news on to Ray: nothing new is placed on the node, Ray Train's workers learn of it in time for a checkpoint, and
an autoscaler sees a node that goes rather than one that broke.

Left out: rebalance recommendations, which often come to nothing, and other clouds, whose services answer differently.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.runtime import log, setup_logging
from redi_ray.errors import UserError

METADATA = "http://169.254.169.254"
"""Where EC2's metadata service is, on every instance."""
TOKEN_SECONDS = 3600
TIMEOUT_SECONDS = 2.0
"""The service is on the same host; what takes longer has failed."""
SLOWEST_POLL_SECONDS = 60.0
"""Between questions to a service that does not answer: there may be none, as on a laptop."""
RAY_PATIENCE_SECONDS = 60.0
"""How long Ray is told again when it cannot be reached; half of a notice's two minutes."""
RETRY_SECONDS, RPC_SECONDS = 2.0, 5.0
"""Between two such attempts, and for one answer of Ray's."""


class DrainError(UserError):
    """The node cannot be drained; the message says why."""


class NotThereYet(RuntimeError):
    """Ray, or its node, is not there; it may still be starting."""


@dataclass(frozen=True)
class Notice:
    """What the cloud is going to do with this machine."""

    action: str
    """`terminate`, `stop` or `hibernate`."""
    at: datetime
    """When, UTC."""

    def seconds_left(self, now: datetime) -> float:
        return max(0.0, (self.at - now).total_seconds())


class SpotMetadata:
    """Version 2 of EC2's instance metadata service: a token first, then questions with it."""

    def __init__(self, base: str = METADATA, timeout: float = TIMEOUT_SECONDS) -> None:
        # no proxy of the environment: the address means this machine
        self.client = httpx.Client(base_url=base, timeout=timeout, trust_env=False)
        self.token: str | None = None

    def notice(self) -> Notice | None:
        """The notice, None if there is none. Raises httpx.HTTPError or ValueError where the service is not itself."""
        answer = self._ask()
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the token has run out
            self.token = None
            answer = self._ask()
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        told = answer.json()
        try:
            return Notice(told["action"], datetime.fromisoformat(told["time"]).astimezone(UTC))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"spot/instance-action is {told!r}") from error

    def _ask(self) -> httpx.Response:
        if self.token is None:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            answer = self.client.put("/latest/api/token", headers=headers)
            answer.raise_for_status()
            self.token = answer.text
        return self.client.get(
            "/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": self.token}
        )


def wait_for_notice(
    ask: Callable[[], Notice | None], poll_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Notice:
    """Ask until there is a notice: every `poll_seconds`, and ever more rarely while the service does not answer.

    sleep: how to wait, in seconds.
    """
    pause, failing = poll_seconds, False
    while True:
        try:
            if (found := ask()) is not None:
                return found
            if failing:
                log.info("spot notice: the metadata service answers again")
            pause, failing = poll_seconds, False
        except (httpx.HTTPError, ValueError) as error:
            if not failing:
                log.warning("spot notice: no answer from the metadata service (%s: %s)", type(error).__name__, error)
            pause, failing = min(2 * pause, max(poll_seconds, SLOWEST_POLL_SECONDS)), True
        sleep(pause)


# ------------------------------------------------------------------------------------------------------------------ Ray


class NodeDrainer:
    """Asks the head of a Ray cluster to drain one node of it.

    With the client that `ray drain-node` uses. It is not among Ray's public interfaces, and there is no other; a test drains
    a real node with the pinned Ray. A token for it is found as Ray finds it (RAY_AUTH_TOKEN, or ~/.ray/auth_token).
    """

    def __init__(self, address: str | None, node_id: str | None) -> None:
        """address: `host:port` of the head; null takes RAY_ADDRESS, or the Ray that was started on this machine.
        node_id: null takes the node of this machine."""
        self.address, self.node_id = address, node_id

    def find(self, patience: float) -> str:
        """The node's id. Raises DrainError if there is none after `patience` seconds of asking."""
        return self._patiently(self._find, patience)

    def drain(self, notice: Notice, patience: float = RAY_PATIENCE_SECONDS) -> str:
        """Drain the node before the notice's time; its id. Raises DrainError if Ray cannot be told."""
        return self._patiently(lambda client: self._drain(client, notice), patience)

    def _find(self, client: Any) -> str:
        import ray
        from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]  # made at run time

        alive = client.get_all_node_info(timeout=RPC_SECONDS, state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
        if self.node_id is not None:
            ids = [node.hex() for node in alive if node.hex() == self.node_id]
        else:
            mine = ray.util.get_node_ip_address()
            ids = [node.hex() for node, info in alive.items() if info.node_manager_address == mine]
        if not ids:
            raise NotThereYet(f"no living Ray node {self.node_id or 'of this machine'} among {len(alive)}")
        if len(ids) > 1:
            raise DrainError(f"{len(ids)} Ray nodes run on this machine ({', '.join(ids)}): choose one with --node-id")
        return ids[0]

    def _drain(self, client: Any, notice: Notice) -> str:
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]  # made at run time

        node_id = self._find(client)
        told = f"spot instance: {notice.action} at {notice.at:%H:%M:%S} UTC"
        accepted, reason = client.drain_node(
            node_id,
            DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
            told,
            int(notice.at.timestamp() * 1000),
            timeout=RPC_SECONDS,
        )
        if not accepted:
            raise DrainError(f"Ray will not drain node {node_id}: {reason}")
        return node_id

    def _patiently(self, call: Callable[[Any], str], patience: float) -> str:
        """`call` with a connection to the head, again and again while there is none, or no such node."""
        from ray._private.services import canonicalize_bootstrap_address
        from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
        from ray.exceptions import AuthenticationError, RayError

        def attempt() -> str:
            address = canonicalize_bootstrap_address(self.address)  # type: ignore[arg-type]
            if address is None:
                raise NotThereYet("no Ray runs on this machine; start it, or give --address")
            return call(GcsClient(address=address))

        def may_pass(error: BaseException) -> bool:
            return isinstance(error, NotThereYet | RayError | OSError) and not isinstance(error, AuthenticationError)

        again = Retrying(
            stop=stop_after_delay(patience),
            wait=wait_fixed(RETRY_SECONDS),
            retry=retry_if_exception(may_pass),
            reraise=True,
        )
        try:
            return again(attempt)
        except (NotThereYet, RayError, OSError) as error:
            raise DrainError(f"{type(error).__name__}: {error}") from error


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line; null takes the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m redi_ray.cluster.spot_drain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--address", help="host:port of Ray's head; by default RAY_ADDRESS, or the Ray of this machine")
    parser.add_argument("--node-id", help="the node to drain; by default this machine's")
    parser.add_argument("--metadata", default=METADATA, help="where the metadata service is (default: %(default)s)")
    parser.add_argument(
        "--poll-seconds", type=float, default=5.0, help="between questions to it (default: %(default)s)"
    )
    parser.add_argument(
        "--start-seconds", type=float, default=300.0, help="to wait for Ray's start (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Watch until there is a notice, drain, end. Exit code 2 if the node cannot be found or drained."""
    chosen = parse_arguments(arguments)
    setup_logging()
    drainer = NodeDrainer(chosen.address, chosen.node_id)
    with clear_errors():
        log.info("spot notice: watching for Ray node %s", drainer.find(chosen.start_seconds))
        notice = wait_for_notice(SpotMetadata(chosen.metadata).notice, chosen.poll_seconds)
        left = notice.seconds_left(datetime.now(UTC))
        log.warning("spot notice: this machine is to %s in %.0f s", notice.action, left)
        log.warning("spot notice: Ray node %s is being drained", drainer.drain(notice))


if __name__ == "__main__":
    main()
