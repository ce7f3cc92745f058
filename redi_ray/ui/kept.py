"""What was found a moment ago is taken again: pages ask the same places again and again, and on S3 each answer takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
SECONDS, MOST = 5.0, 256


def kept(work: Callable[P, R]) -> Callable[P, R]:
    """The same function, which says for a few seconds what it has said to these arguments; errors are no such saying."""
    said, lock = dict[object, tuple[float, R]](), Lock()

    @wraps(work)
    def asked(*args: P.args, **kwargs: P.kwargs) -> R:
        key = (args, tuple(sorted(kwargs.items())))
        with lock:
            found = said.get(key)
        if found is not None and time.monotonic() - found[0] < SECONDS:
            return found[1]
        answer = work(*args, **kwargs)
        with lock:
            said.pop(key, None)
            said[key] = (time.monotonic(), answer)
            while len(said) > MOST:
                del said[next(iter(said))]
        return answer

    return asked
