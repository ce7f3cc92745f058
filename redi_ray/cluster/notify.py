"""Telling people, or their programs, how a run has ended. What goes wrong with that is a line in the log, never the run's end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from redi_ray.cluster.runtime import log, user_error
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.notify import NotifySettings
from redi_ray.errors import Preempted

TOLD_CHARS = 2000
"""Of an error, at most."""


@dataclass
class Ending:
    """What a command adds to the event of its end."""

    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def told_to_others(config: ExperimentConfig) -> Iterator[Ending]:
    """How the block ends is told as the config's `notify` says: `done`, `failed` with the error, `preempted`. Ctrl-C is not told:
    whoever presses it knows."""
    started, ending = time.monotonic(), Ending()
    try:
        yield ending
    except Preempted as stopped:
        notify(config, "preempted", str(stopped), seconds=_since(started))
        raise
    except Exception as error:
        told = user_error(error) or error
        reason = "\n".join([f"{type(told).__name__}: {told}", *getattr(error, "__notes__", ())])[:TOLD_CHARS]
        notify(config, "failed", reason, error=reason, seconds=_since(started))
        raise
    notify(config, "done", f"after {duration(_since(started))}", seconds=_since(started), **ending.facts)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def duration(seconds: float) -> str:
    """In words: `42 s`, `3 min 40 s`, `5 h 2 min`, `2 d 3 h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or (first == 3))


def notify(config: ExperimentConfig, event: str, what: str, **facts: Any) -> None:
    """Tell of an event, if the config wants that. what: in a line, for people; facts: more of it, as JSON holds it."""
    settings = config.notify
    if not settings.wants(event):
        return
    told = {
        "event": event,
        "run": config.name,
        "uri": config.run_uri,
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "text": f"redi-ray {config.name}: {event} {what}",
        **facts,
    }
    for tell in (_by_command, _by_webhook):
        try:
            tell(settings, told)
        except Exception as error:
            # no more than its type: the message could hold the address
            log.warning("notify: %s of %s was not told (%s)", event, config.name, _why(error))


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, NotifyError) else type(error).__name__


class NotifyError(RuntimeError):
    """Nobody was told; the message holds no secret."""


def _by_command(settings: NotifySettings, told: Mapping[str, Any]) -> None:
    if settings.command is None:
        return
    variables = {f"REDI_RAY_{name.upper()}": str(told[name]) for name in ("event", "run", "uri", "text")}
    process = subprocess.Popen(
        settings.command,
        shell=isinstance(settings.command, str),
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.communicate(json.dumps(told).encode(), timeout=settings.timeout_seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise NotifyError(f"the command took more than {settings.timeout_seconds:g} s") from None
    if process.returncode:
        raise NotifyError(f"the command ended with exit code {process.returncode}")


def _by_webhook(settings: NotifySettings, told: Mapping[str, Any]) -> None:
    address = settings.webhook or (os.environ.get(settings.webhook_env) if settings.webhook_env else None)
    if settings.webhook_env and not address:
        raise NotifyError(f"the environment variable {settings.webhook_env} is not set")
    if not address:
        return
    import httpx

    # in a thread, for a limit on the whole: those of httpx are for each of its reads
    pool = ThreadPoolExecutor(1, thread_name_prefix="notify")
    try:
        answer = pool.submit(httpx.post, address, json=dict(told), timeout=settings.timeout_seconds)
        status = answer.result(settings.timeout_seconds).status_code
    except (TimeoutError, httpx.TimeoutException):
        raise NotifyError(f"the webhook took more than {settings.timeout_seconds:g} s") from None
    finally:
        pool.shutdown(wait=False)
    if status >= 300:
        raise NotifyError(f"the webhook answered {status}")
