"""What is known of each run, read in the background and kept: a page never waits long for a disk or for S3.

A page takes what was read last; what is older than a few seconds is read again meanwhile. So a page of a run that is slow to read
comes at once, and its numbers follow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import replace
from typing import Generic, TypeVar

from redi_ray.config.load import dump_config, load_config
from redi_ray.errors import StorageError
from redi_ray.report.lineage import graph_of_record
from redi_ray.report.notes import missing_and_odd
from redi_ray.report.runs import RunRecord, read_run
from redi_ray.report.standing import standing
from redi_ray.report.under_way import next_up, under_way
from redi_ray.ui.outside import Outside, standings_outside
from redi_ray.ui.places import Place
from redi_ray.ui.scores import benchmarks
from redi_ray.ui.series import AllSeries
from redi_ray.ui.snapshot import Snapshot
from redi_ray.ui.trainings import training_rows

log = logging.getLogger(__name__)
T = TypeVar("T")
READERS = 8
"""Threads that read."""
KEPT = 200
"""Values in memory, those that were asked for last."""
PATIENCE = 0.5
"""Seconds that a page waits for what is being read."""


def read_snapshot(place: Place, outside: Outside, series: AllSeries) -> Snapshot:
    """With what its page will take long for done. Raises StorageError where neither a run nor a config is, and for a run whose
    files hold what nobody has thought of: the list shows the others."""
    try:
        return _read_snapshot(place, outside, series)
    except StorageError:
        raise
    except Exception as error:
        log.exception("%s cannot be read", place.uri)
        raise StorageError(f"a file of this run is damaged ({type(error).__name__}: {error}): {place.uri}") from error


def _read_snapshot(place: Place, outside: Outside, series: AllSeries) -> Snapshot:
    record = read_record(place)
    found = standing(record, lambda run: standings_outside(outside, run))
    notes = list(dict.fromkeys([*record.notes, *missing_and_odd(record)]))
    works, following = under_way(record, found.steps), next_up(record.graph, found.steps)
    snapshot = Snapshot(record, found, works, following, notes, time.time())
    benchmarks(record, None)
    training_rows(series, snapshot)
    return snapshot


def read_record(place: Place) -> RunRecord:
    """What the run's folder holds, or for a config that was never run that config."""
    try:
        record = read_run(place.uri, metrics=False)
    except StorageError:
        if place.config is None:
            raise
        config = load_config(place.config)
        plain = config.model_dump(mode="json")
        graph, understood = graph_of_record(plain)
        return RunRecord(place.uri, dump_config(config), plain, graph, understood, {}, [])
    return replace(record, arms=[replace(arm, samples=[]) for arm in record.arms])


class Kept(Generic[T]):
    """Values that are read in the background, by key. An error of the last reading is raised to whoever asks."""

    def __init__(self, pool: ThreadPoolExecutor, fresh: Callable[[T], float]) -> None:
        """fresh: seconds after which a value is read again."""
        self._pool, self._fresh = pool, fresh
        self._values: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self._reading: dict[Hashable, Future[T]] = {}
        self._turn = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T], patience: float = PATIENCE) -> T | None:
        """The newest value there is within `patience` seconds; None while there is none. Raises what `read` does."""
        future = self.begin(key, read)
        if future is not None:
            try:
                return future.result(patience)
            except Late:
                pass
        with self._turn:
            found = self._values.get(key)
        return None if found is None else found[0]

    def begin(self, key: Hashable, read: Callable[[], T]) -> Future[T] | None:
        """What reads it, if it is being read or has to be."""
        with self._turn:
            if (running := self._reading.get(key)) is not None:
                return running
            if (found := self._values.get(key)) is not None:
                self._values.move_to_end(key)
                if time.monotonic() - found[1] < self._fresh(found[0]):
                    return None
            future = self._reading[key] = self._pool.submit(read)
        future.add_done_callback(lambda done: self._take(key, done))
        return future

    def _take(self, key: Hashable, done: Future[T]) -> None:
        with self._turn:
            self._reading.pop(key, None)
            if done.cancelled() or done.exception() is not None:
                self._values.pop(key, None)
                return
            self._values[key] = (done.result(), time.monotonic())
            while len(self._values) > KEPT:
                self._values.popitem(last=False)


class Snapshots:
    """Of every run that was asked for."""

    def __init__(self, outside: Outside, series: AllSeries) -> None:
        self.outside, self.series = outside, series
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        self._kept: Kept[Snapshot] = Kept(self._pool, lambda found: found.fresh_seconds)
        self.slow_pool = ThreadPoolExecutor(2, thread_name_prefix="slow")
        """For what takes seconds: sizes, plans."""

    def get(self, place: Place, patience: float = PATIENCE) -> Snapshot | None:
        """None while the run is being read for the first time. Raises StorageError."""
        return self._kept.get(place.uri, lambda: read_snapshot(place, self.outside, self.series), patience)

    def all(self, places: Iterable[Place], patience: float = PATIENCE) -> dict[str, Snapshot | StorageError | None]:
        """Run's id -> snapshot, None while it is being read, or why it cannot be read; all within `patience`."""
        places, until = list(places), time.monotonic() + patience
        found: dict[str, Snapshot | StorageError | None] = {}
        for place in places:
            self._kept.begin(place.uri, lambda place=place: read_snapshot(place, self.outside, self.series))  # type: ignore[misc]
        for place in places:
            try:
                found[place.id] = self.get(place, max(0.0, until - time.monotonic()))
            except StorageError as error:
                found[place.id] = error
        return found
