"""One driver writes a run: the second is told who the first is, a dead one is replaced, a stalled one finds out in time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from redi_ray.store import lock, storage
from redi_ray.store.lock import LockLost, Owner, RunLock, RunLocked
from redi_ray.store.lock_places import LocalPlace
from redi_ray.store.manifests import Stage

HOLD = """
import sys, time
from redi_ray.store.lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(uri: str) -> subprocess.Popen[str]:
    """Another driver on this machine that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, uri], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(uri: str) -> RunLock:
    """A lock like that of another machine's driver, without its signs of life."""
    other = RunLock(uri)
    other.owner = replace(Owner.me(), machine="another boot", host="node-7", pid=4711)
    assert other.place.create(asdict(other.owner))
    return other


def test_a_second_driver_is_told_who_holds_it_and_kill_9_frees_it_at_once(root: str):
    first = hold(root)
    with pytest.raises(RunLocked, match=rf"process {first.pid}, since .* Wait for it, stop it \(kill {first.pid} on"):
        RunLock(root).acquire()
    first.kill()
    first.wait()
    started = time.monotonic()
    with lock.run_lock(root):
        assert time.monotonic() - started < 5
        assert storage.exists(storage.join(root, storage.LOCK))
        assert storage.list_files(root) == []
    assert not storage.exists(storage.join(root, storage.LOCK))


def test_another_machines_driver_that_lives_is_left_alone(root: str):
    """It cannot be asked; that its signs of life go on is how it shows."""
    other, done = elsewhere(root), threading.Event()

    def live() -> None:
        while not done.wait(0.2):
            other.place.beat()

    living = threading.Thread(target=live)
    living.start()
    try:
        with pytest.raises(RunLocked, match="node-7, process 4711"):
            RunLock(root, heartbeat=1, lease=60).acquire()
    finally:
        done.set()
        living.join()
    assert other.place.beat()


def test_another_machines_driver_that_is_silent_is_replaced_after_the_lease_and_finds_out(root: str):
    stalled = elsewhere(root)
    new = RunLock(root, heartbeat=0.5, lease=1.5)
    new.acquire()
    new.check()
    with pytest.raises(LockLost, match=rf"was taken over by .*process {os.getpid()}"):
        stalled.check()
    stalled.release()  # must not remove what is another's
    new.check()
    new.release()


def test_a_driver_that_lost_its_lock_publishes_nothing(tmp_path: Path):
    told: list[LockLost] = []
    with lock.run_lock(str(tmp_path), on_lost=told.append):
        Stage(str(tmp_path), "before", {}, {}).publish()
        mine = lock._held[str(tmp_path)]
        seen = mine.place.read()
        assert seen is not None
        rival = RunLock(str(tmp_path))
        assert rival.place.take_over(seen, asdict(rival.owner))
        late = Stage(str(tmp_path), "late", {}, {})
        with pytest.raises(LockLost):
            late.publish()
        assert late.published() is None
    assert storage.exists(storage.join(str(tmp_path), storage.LOCK))
    assert rival.place.beat()


def test_the_heartbeat_notices_too(root: str):
    told = threading.Event()
    mine = RunLock(root, heartbeat=0.2, on_lost=lambda error: told.set())
    mine.acquire()
    seen = mine.place.read()
    assert seen is not None
    time.sleep(0.5)
    assert not told.is_set()
    rival = RunLock(root)
    while not rival.place.take_over(rival.place.read(), asdict(rival.owner)):  # type: ignore[arg-type]
        pass  # a sign of life came in between
    assert told.wait(5)
    mine.release()


def test_a_sign_of_life_saves_a_lock_from_one_who_thought_it_dead(root: str):
    mine = RunLock(root)
    assert mine.place.create(asdict(mine.owner))
    seen = mine.place.read()
    assert seen is not None
    mine.check()
    rival = RunLock(root)
    assert not rival.place.take_over(seen, asdict(rival.owner))
    mine.check()


def test_of_many_that_take_over_a_dead_drivers_lock_one_gets_it(tmp_path: Path):
    for _ in range(5):
        dead = elsewhere(str(tmp_path))
        os.utime(tmp_path / storage.LOCK, (1, 1))
        rivals = [RunLock(str(tmp_path), heartbeat=0.2, lease=60) for _ in range(8)]
        got: list[RunLock] = []

        def try_it(rival: RunLock, got: list[RunLock] = got) -> None:
            try:
                rival.acquire()
                got.append(rival)
            except RunLocked:
                pass

        threads = [threading.Thread(target=try_it, args=(rival,)) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].check()
        got[0].release()
        with pytest.raises(LockLost):
            dead.check()


def test_a_folder_that_was_made_for_the_lock_alone_is_not_left(tmp_path: Path):
    with (
        lock.run_lock(str(tmp_path / "a" / "b")),
        lock.run_lock(str(tmp_path / "a" / "b")),
    ):  # the inner one adds nothing
        lock.check(str(tmp_path / "a" / "b" / "stage"))
    assert list(tmp_path.iterdir()) == []


def test_a_process_id_that_was_given_again_is_another_process():
    me = Owner.me()
    assert not me.is_gone
    assert replace(me, process="1").is_gone
    assert not replace(me, machine="another boot", pid=2**22 + 1).is_gone


class OnNfs(LocalPlace):
    """A place whose disk lets two drivers in at once, and where something happens right after the first look."""

    def __init__(self, uri: str, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(uri)
        self.then = then

    @contextmanager
    def _alone(self) -> Iterator[None]:
        yield

    def _look(self) -> tuple[dict, int] | None:
        found, then, self.then = super()._look(), self.then, lambda: None
        then()
        return found


def test_a_driver_that_ends_leaves_the_lock_of_the_one_that_took_over_meanwhile(tmp_path: Path):
    """Between its look, which still finds its own lock, and the removal."""
    uri = str(tmp_path / "run.lock")
    other = OnNfs(uri)

    def take_over() -> None:
        seen = other.read()
        assert seen is not None
        assert other.take_over(seen, {"id": "other"})

    stalled = OnNfs(uri)
    assert stalled.create({"id": "stalled"})
    stalled.then = take_over
    stalled.release()
    assert other.beat()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
    other.release()
    assert not list(tmp_path.iterdir())


def test_drivers_that_end_and_take_over_at_once_never_lose_a_lock(tmp_path: Path):
    """On a disk that lets in one at a time: forty rounds of one that ends against one that takes over."""
    uri = str(tmp_path / "run.lock")
    for _ in range(40):
        ending, coming = LocalPlace(uri), LocalPlace(uri)
        assert ending.create({"id": "ending"})
        seen = coming.read()
        assert seen is not None
        thread = threading.Thread(target=ending.release)
        thread.start()
        taken = coming.take_over(seen, {"id": "coming"})
        thread.join()
        assert coming.beat() == taken
        assert (tmp_path / "run.lock").exists() == taken
        coming.release()
