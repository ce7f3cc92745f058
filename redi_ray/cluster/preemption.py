"""SIGTERM in the driver: the machine, or the job, is about to go.

What is at work decides how it ends. Trainings are asked to save after their step (`saving_first`); everything else is cut off
at once, since its finished shards are on disk. Either way `Preempted` ends the driver, with an exit code of its own. A
second SIGTERM waits for nothing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from redi_ray.errors import Preempted

_asking: list[threading.Event] = []
"""Of the blocks of `saving_first` that threads are in."""
_errors: list[BaseException] = []
"""What another thread wants the main thread to end with."""


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Inside the block SIGTERM ends the main thread with Preempted. Elsewhere than in a main thread it changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def keeps_handler() -> Iterator[None]:
    """Our handler stays in force behind a block that sets one of its own, as `ray.init` does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is _on_sigterm:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def saving_first() -> Iterator[threading.Event]:
    """Inside the block the first SIGTERM only sets the yielded event; whoever watches it sees to the rest."""
    asked = threading.Event()
    _asking.append(asked)
    try:
        yield asked
    finally:
        _asking.remove(asked)


def is_ending() -> bool:
    """Whether a training has been asked to save and stop, so that nothing more should begin."""
    return any(asked.is_set() for asked in list(_asking))


def save_trainings() -> None:
    """Ask every training at work to save after its step, and wait until all have."""
    while _asking:
        for asked in list(_asking):
            asked.set()
        time.sleep(0.1)


def end_main_thread(error: BaseException) -> None:
    """Raise `error` in the main thread, whatever it is at inside `ends_on_sigterm`.

    For threads that find out that the driver must not go on.
    """
    ident = threading.main_thread().ident
    if signal.getsignal(signal.SIGTERM) is _on_sigterm and ident is not None:
        _errors.append(error)
        signal.pthread_kill(ident, signal.SIGTERM)  # a real signal: it also ends a wait in a system call


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _errors:
        raise _errors.pop()
    if unasked := [asked for asked in _asking if not asked.is_set()]:
        for asked in unasked:
            asked.set()
        return
    raise Preempted("ended by SIGTERM; what was finished is saved, and the same command goes on from there")
