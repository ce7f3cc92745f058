"""How a command ends: what a user can mend is one message and an exit code, everything else keeps its traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from redi_ray.cluster.runtime import user_error
from redi_ray.errors import EXIT_FAILED, EXIT_PREEMPTED, Preempted, UserError


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors that a user can mend, and SIGTERM, into one message and an exit code (`redi_ray.errors`); everything
    else keeps its traceback."""
    try:
        yield
    except Preempted as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        raise SystemExit(EXIT_PREEMPTED) from None
    except Exception as error:
        told = user_error(error) or error  # the one inside what Ray made of it
        if not isinstance(told, UserError):
            raise
        print("\n  ".join([f"error: {told}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        raise SystemExit(told.exit_code) from None


def exit_code_of(error: BaseException) -> int:
    """What a command ends with that `error` ends; an interrupt by hand counts as SIGTERM does."""
    if isinstance(error, Preempted | KeyboardInterrupt):
        return EXIT_PREEMPTED
    return error.exit_code if isinstance(error, UserError) else EXIT_FAILED
