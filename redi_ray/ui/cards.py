"""What the list says of each run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow.fs as pafs

from redi_ray.errors import StorageError, storage_errors
from redi_ray.report.runs import RunRecord
from redi_ray.store import storage
from redi_ray.ui.places import Place
from redi_ray.ui.snapshot import Snapshot

STATES = ("running", "failed", "cut off", "partly run", "finished", "not run", "unclear")
"""Of runs, those first that somebody should look at."""


@dataclass(frozen=True)
class Extent:
    """What lies in a run's folder."""

    size: int
    """Bytes."""
    files: int
    first: float | None
    """When the oldest file was written, in seconds since 1970."""
    last: float | None


@dataclass(frozen=True)
class Card:
    """A row of the list. What is not known yet is None."""

    place: Place
    state: str | None
    told: str
    """More of the state, in words."""
    finished: int
    total: int
    best: Best | None
    extent: Extent | None
    working: tuple[str, ...] = ()
    """Steps under way."""

    @property
    def share(self) -> float:
        """Of the steps that are finished."""
        return self.finished / self.total if self.total else 0.0

    @property
    def order(self) -> tuple[int, float, str]:
        """Who is at work first, then the youngest."""
        last = self.extent.last if self.extent is not None and self.extent.last else 0.0
        return (0 if self.state == "running" else 1, -last, self.place.name)


@dataclass(frozen=True)
class Best:
    """The model with the largest pass@1 of a run, the mean over the benchmarks that all its models have."""

    model: str
    pass_at_1: float
    benchmarks: tuple[str, ...]
    ci95: tuple[float, float] | None
    """Of a single benchmark."""


def card_of(place: Place, found: Snapshot | StorageError | None, extent: Extent | None) -> Card:
    if found is None:
        return Card(place, None, "", 0, 0, None, extent)
    if isinstance(found, StorageError):
        return Card(place, "unclear", str(found), 0, 0, None, extent)
    stands = found.standing
    told = stands.driver if stands.state == "running" else stands.ending.error if stands.ending else ""
    working = tuple(work.step for work in found.works) if stands.state == "running" else ()
    return Card(place, stands.state, told, stands.finished, len(stands.steps), best_of(found.record), extent, working)


def best_of(run: RunRecord) -> Best | None:
    """None without any score."""
    scored = [arm for arm in run.arms if arm.results]
    if not scored:
        return None
    shared = [name for name in run.benchmarks if all(name in arm.results for arm in scored)] or run.benchmarks[:1]
    of = [arm for arm in scored if all(name in arm.results for name in shared)]
    means = {arm.name: sum(arm.results[name].pass_at_1 for name in shared) / len(shared) for arm in of}
    model = max(means, key=lambda name: means[name])
    result = next(arm for arm in of if arm.name == model).results[shared[0]]
    return Best(model, means[model], tuple(shared), result.ci95 if len(shared) == 1 else None)


def extent_of(uri: str) -> Extent:
    """One listing of all files. Raises StorageError."""
    fs, path = storage.filesystem(uri)
    with storage_errors("listed", uri):
        infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    files = [info for info in infos if info.type == pafs.FileType.File]
    times = [info.mtime_ns / 1e9 for info in files if info.mtime_ns]
    return Extent(sum(i.size or 0 for i in files), len(files), min(times, default=None), max(times, default=None))


def extent_fresh_seconds(found: Extent) -> float:
    """A run that was written just now is measured again soon."""
    quiet = time.time() - found.last if found.last else 0.0
    return 30.0 if quiet < 600 else 600.0
