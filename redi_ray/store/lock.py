"""One driver writes a run at a time: a lock file in the run's folder, locally or on S3.

    <run>/run.lock     who: host, process, a random id, since when; on S3 also a count of signs of life

It is created only if it is not there (O_EXCL; on S3 a put with If-None-Match). A thread gives a sign of life every
HEARTBEAT_SECONDS: locally the file's time, on S3 a put that holds only while the object is still ours (If-Match). A lock
whose process is gone from this machine is taken over at once, any other after LEASE_SECONDS without a sign of life, by the
clock of the disk or S3. Whoever was stalled for so long finds out before the next manifest is written (`check`) and ends.

Only drivers lock. What they start on Ray (training workers, trials of a search) has no lock of its own and needs none.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from redi_ray.errors import EXIT_FAILED, StorageError, UserError
from redi_ray.store.lock_places import LocalPlace, LockPlace, S3Place, Seen
from redi_ray.store.storage import LOCK, join, resolve

log = logging.getLogger("redi_ray")

HEARTBEAT_SECONDS = 10.0
LEASE_SECONDS = 90.0
"""Longer than the tries of a sign of life take (`redi_ray.store.s3.LOCKS`)."""


class RunLocked(UserError):
    """Another driver writes this run; the message says which and what to do."""


class LockLost(UserError):
    """Another driver has taken this run over."""

    exit_code = EXIT_FAILED


@dataclass(frozen=True)
class Owner:
    """Who holds a lock."""

    id: str
    host: str
    machine: str
    """Boot and process namespace: where both agree, a process id means the same."""
    pid: int
    started: float
    """Seconds since 1970, by the owner's clock."""
    process: str
    """When the process was started, as its machine counts; a process id is given again."""

    @classmethod
    def me(cls) -> Owner:
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), machine(), pid, time.time(), process_start(pid) or "")

    @property
    def is_here(self) -> bool:
        return self.machine == machine()

    @property
    def is_gone(self) -> bool:
        """Whether it certainly no longer runs."""
        return self.is_here and process_start(self.pid) != self.process


class RunLock:
    """The lock of one run; see `run_lock`."""

    def __init__(
        self,
        uri: str,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        lease: float = LEASE_SECONDS,
        on_lost: Callable[[LockLost], None] = lambda error: None,
    ) -> None:
        """on_lost: called by the thread that finds out, at most once."""
        self.uri, self.heartbeat, self.lease, self.on_lost = resolve(uri), heartbeat, lease, on_lost
        self.owner = Owner.me()
        self.place = _place(self.uri)
        self.lost: LockLost | None = None
        self._done, self._mutex = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="run-lock", daemon=True)

    def acquire(self) -> None:
        """Raises RunLocked if another driver holds it and lives, StorageError if the place cannot be written."""
        first: Seen | None = None
        while not self.place.create(asdict(self.owner)):
            seen = self.place.read()
            if seen is None:  # released in between
                continue
            if first is None or first.token != seen.token:
                if first is not None or (seen.age <= self.lease and self._certainly_lives(seen)):
                    raise self._held(seen)
                first = seen
            if seen.age > self.lease or ((owner := owner_of(seen)) and owner.is_gone):
                if self.place.take_over(seen, asdict(self.owner)):
                    log.warning("the lock of %s is taken over: %s", self.uri, describe(seen))
                    break
                first = None
                continue
            if seen is first:
                log.info("%s is locked by %s; waiting to see whether it lives", self.uri, describe(seen))
            time.sleep(min(1.0, self.heartbeat / 4))
        self._thread.start()

    def check(self) -> None:
        """Give a sign of life now. Raises LockLost if the lock is another's, StorageError if that cannot be found out."""
        with self._mutex:
            if self.lost is None and not self._done.is_set() and not self.place.beat():
                self.lost = self._lost()
        if self.lost is not None:
            raise self.lost

    def release(self) -> None:
        """Stop the signs of life and remove the lock, if it is still ours."""
        self._done.set()
        with self._mutex:
            try:
                if self.lost is None:
                    self.place.release()
            except StorageError as error:
                log.warning("%s stays behind and frees itself after %.0f s: %s", self.place.uri, self.lease, error)

    def _beat(self) -> None:
        while not self._done.wait(self.heartbeat):
            try:
                self.check()
            except LockLost as error:
                log.error("%s", error)
                self.on_lost(error)
                return
            except StorageError as error:
                log.warning("no sign of life at %s: %s", self.place.uri, error)

    def _certainly_lives(self, seen: Seen) -> bool:
        owner = owner_of(seen)
        return owner is not None and owner.is_here and not owner.is_gone

    def _held(self, seen: Seen) -> RunLocked:
        owner = owner_of(seen)
        stop = f"stop it (kill {owner.pid} on {owner.host})" if owner else "stop it"
        return RunLocked(
            f"{self.uri} is being written by another driver: {describe(seen)}. Wait for it, {stop}, or give this run another "
            f"`name` or `storage.root`. A driver that is gone frees the run {self.lease:.0f} s after its last sign of life"
        )

    def _lost(self) -> LockLost:
        seen = self.place.read()
        who = f"by {describe(seen)}" if seen else "and then freed"
        return LockLost(
            f"{self.uri} was taken over {who}: this driver gave no sign of life for more than {self.lease:.0f} s (a stalled "
            "machine, or storage out of reach). It ends without publishing anything more; the same command goes on later"
        )


_held: dict[str, RunLock] = {}
"""This process's locks by folder."""


@contextmanager
def run_lock(uri: str, on_lost: Callable[[LockLost], None] = lambda error: None) -> Iterator[None]:
    """Hold the lock of the run at `uri` inside the block; a block inside another one of the same run adds nothing.

    Raises RunLocked if another driver holds it, StorageError if nothing can be written there.
    """
    uri = resolve(uri)
    if uri in _held:
        yield
        return
    lock = RunLock(uri, on_lost=on_lost)
    lock.acquire()
    _held[uri] = lock
    try:
        yield
    finally:
        del _held[uri]
        lock.release()


def check(uri: str) -> None:
    """Before anything is declared complete: raises LockLost if `uri` lies in a run whose lock this process had and lost.

    Processes without a lock (tasks, trials of a search) pass.
    """
    uri = resolve(uri)
    for folder, lock in list(_held.items()):
        if uri == folder or uri.startswith(f"{folder}/"):
            lock.check()


def driver_of(uri: str) -> Seen | None:
    """The lock of a driver that lives and writes the run at `uri`; for who only looks. Raises StorageError."""
    seen = _place(resolve(uri)).look()
    if seen is None or seen.age > LEASE_SECONDS:
        return None
    owner = owner_of(seen)
    return None if owner is not None and owner.is_gone else seen


def _place(uri: str) -> LockPlace:
    return (S3Place if uri.startswith("s3://") else LocalPlace)(join(uri, LOCK))


def owner_of(seen: Seen) -> Owner | None:
    """None for a lock that is half-written, or another version's."""
    try:
        return Owner(**{name: seen.owner[name] for name in Owner.__dataclass_fields__})
    except KeyError:
        return None


def describe(seen: Seen) -> str:
    """Such as `host7, process 4711, since 2026-11-21 15:02 UTC (12 min ago), last sign of life 3 s ago`."""
    owner, sign = owner_of(seen), f"last sign of life {max(0.0, seen.age):.0f} s ago"
    if owner is None:
        return f"an unknown driver, {sign}"
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(owner.started))
    minutes = max(0.0, time.time() - owner.started) / 60
    return f"{owner.host}, process {owner.pid}, since {since} ({minutes:.0f} min ago), {sign}"


def machine() -> str:
    """What two processes share if and only if they see the same process ids. On Linux exact, else by the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def process_start(pid: int) -> str | None:
    """When this machine's process was started (ticks since boot; "" where that cannot be read), None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
