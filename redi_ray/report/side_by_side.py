"""Work on files, several at a time, its results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

THREADS, REMOTE_THREADS = max(2, os.cpu_count() or 1), 16
"""Files looked through at a time, on disk and on S3, where most of the time is waiting."""

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def threads(uri: str) -> Iterator[ThreadPoolExecutor]:
    """Threads to read what lies at a place; what has not begun is not begun any more at the end."""
    pool = ThreadPoolExecutor(REMOTE_THREADS if uri.startswith("s3://") else THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What the work makes of each item, in their order; a few items ahead are worked on."""
    ahead, window = deque[Future[R]](), pool._max_workers + 1
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) > window:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
