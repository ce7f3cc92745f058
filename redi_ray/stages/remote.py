"""Work in tasks of its own, where memory, imports and downloads do not weigh on the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

RETRIES = 2
"""Further tries of a task whose process has died."""


def remotely(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Run it in one task; errors come back as they are. options: of the task."""
    return next(all_remotely(function, [arguments], at_once=1, options=options))


def all_remotely(
    function: Callable[..., T],
    calls: Sequence[Sequence[Any]],
    *,
    at_once: int,
    options: Mapping[str, Any] | None = None,
) -> Iterator[T]:
    """Run it in a task for each of `calls`, `at_once` at a time; results come as they are done. An error ends the others."""
    import ray

    task = ray.remote(**{"num_cpus": 1, "max_retries": RETRIES, **(options or {})})(function)
    running: list[Any] = []
    todo = iter(calls)
    try:
        while True:
            running += [task.remote(*call) for _, call in zip(range(at_once - len(running)), todo, strict=False)]
            if not running:
                return
            done, running = ray.wait(running, num_returns=1)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        for one in running:
            ray.cancel(one)
