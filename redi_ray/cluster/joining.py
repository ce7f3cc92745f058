"""Joining a Ray, or starting one: what stands in the way is told at once, where Ray itself would try for minutes."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from typing import Any
from urllib.parse import urlsplit

from redi_ray.config.resources import RaySettings
from redi_ray.errors import UserError

log = logging.getLogger("redi_ray")

NAMES = ("auto", "local")
"""Addresses that name no machine."""
ANSWER_SECONDS = 10
"""How long the head of a cluster may take to take a connection."""
TOO_SLOW = ("timed out during startup", "Timed out waiting for file")
"""What Ray says where one of its processes was not there within its half minute."""
WHERE = "resources.ray.address, or RAY_ADDRESS; without either a run starts a Ray of its own"


class RayUnreachable(UserError):
    """There is no Ray to run on."""


def join(address: str, environment: dict[str, str]) -> None:
    """Connect to a running Ray. environment: variables of every process of the run. Raises RayUnreachable."""
    import ray

    require_answer(address)
    try:
        ray.init(
            address=address, runtime_env={"env_vars": environment}, log_to_driver=False, logging_level=logging.ERROR
        )
    except ConnectionError as error:
        raise RayUnreachable(f"no Ray at {address} ({WHERE}): {error}") from error


def require_answer(address: str) -> None:
    """Raises RayUnreachable for what is no address of a Ray, and where nothing takes a connection."""
    if address in NAMES:
        return
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        known = place.scheme in ("", "ray") and place.hostname and place.port
    except ValueError:
        known = False
    if not known:
        raise RayUnreachable(f"{address!r} is no address of a Ray ({WHERE}): HOST:6379, ray://HOST:10001 or auto")
    try:
        socket.create_connection((place.hostname, place.port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise RayUnreachable(
            f"nothing answers at {address} ({error}): is the head of the cluster up, and may this machine reach it? ({WHERE})"
        ) from error


def start(settings: RaySettings, dashboard: bool) -> None:
    """Start a Ray for this run alone; once more where a busy machine was too slow. Raises RayUnreachable."""
    import ray

    asked: dict[str, Any] = {
        "address": "local",
        "num_cpus": settings.num_cpus or max(8, os.cpu_count() or 1),
        "object_store_memory": int(settings.object_store_gib * 2**30),
        "include_dashboard": dashboard,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "_temp_dir": os.path.join(tempfile.gettempdir(), "redi_ray"),
    }
    for last in (False, True):
        try:
            ray.init(**asked)
            return
        except Exception as error:  # Ray has no class for it
            if not any(told in str(error) for told in TOO_SLOW):
                raise
            ray.shutdown()
            if last:
                raise RayUnreachable(
                    "Ray did not start within half a minute, twice: this machine is too busy, or out of memory; the same "
                    "command again goes on where this one was"
                ) from error
            log.warning("Ray did not start within half a minute; once more")
