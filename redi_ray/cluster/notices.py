"""Log lines of actors on the driver's terminal.

What workers print stays in their files (`log_to_driver=False`), and most of it belongs there. The few lines that a user must
see, one per engine or a warning, go to a small actor, which a thread of the driver asks for the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from redi_ray.cluster.runtime import log

NAME = "redi_ray-notices"
"""Of the actor, within the driver's own namespace."""
END = -1
"""Level of the line after which nobody listens; no logger shows it."""


class Notices:
    """The actor: a queue of (level, line)."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    async def tell(self, level: int, line: str) -> None:
        await self.lines.put((level, line))

    async def next(self) -> tuple[int, str]:
        return await self.lines.get()


def tell(line: str, level: int = logging.INFO) -> None:
    """Log a line: on the driver's terminal if it listens, else in this process."""
    import ray

    try:
        told = ray.get_actor(NAME).tell.remote(level, line) if ray.is_initialized() else None
    except ValueError:  # no such actor
        told = None
    if told is None:
        log.log(level, "%s", line)


_threads: list[threading.Thread] = []
"""The one that listens, if any."""


def listen() -> None:
    """Log what actors tell from here on, until `stop`. Only in a process whose log lines somebody sees."""
    import ray

    if not log.handlers or any(thread.is_alive() for thread in _threads):
        return
    # no CPU, or an engine could wait for it; started now, it is there before the first engine
    options: dict[str, Any] = {"name": NAME, "get_if_exists": True, "num_cpus": 0, "max_concurrency": 64}
    actor = ray.remote(Notices).options(**options).remote()
    _threads[:] = [threading.Thread(target=_relay, args=(actor,), daemon=True, name=NAME)]
    _threads[0].start()


def stop() -> None:
    """Call it before Ray is shut down under a thread that waits for it."""
    if _threads:
        tell("", level=END)
        _threads.pop().join(timeout=5)


def _relay(actor: Any) -> None:
    import ray

    level = logging.INFO
    while level != END:
        try:
            level, line = ray.get(actor.next.remote())
        except Exception:  # the actor's node is gone; later lines stay in the workers' files
            return
        log.log(level, "%s", line)
