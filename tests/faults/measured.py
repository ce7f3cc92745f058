"""What was tried against a faulty S3, how long it took, and the limits that its clients have there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redi_ray.store import s3

LIMITS = s3.Limits(connect_seconds=2, request_seconds=2, retries=6)
"""Small, so that what lasts ends soon; pauses and rules are those of every day."""


@dataclass
class Measured:
    """What was tried, and how it ended."""

    rows: list[tuple[str, str, float, str]] = field(default_factory=list)

    def time(self, operation: str, fault: str, call: Callable[[], object]) -> object:
        """The call's value, or the exception that it raised; the time it took is noted."""
        started = time.monotonic()
        result: object
        try:
            result = call()
            code = getattr(result, "exit_code", None)
            ended = "recovered" if code is None else f"exit {code}"
        except Exception as error:
            result, ended = error, type(error).__name__
        self.rows.append((fault, operation, time.monotonic() - started, ended))
        return result
