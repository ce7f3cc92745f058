"""The runs below the places that the pages were opened on, local and on S3, each under a short name for addresses."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow.fs as pafs

from redi_ray.config.load import load_config
from redi_ray.errors import StorageError, UserError, storage_errors
from redi_ray.store import storage

DEPTH = 3
"""Folders below a root that are looked into."""
MOST_FOLDERS = 5000
"""Of a root that are looked into: a root is a folder of runs, no whole disk."""
AGAIN_SECONDS = 10.0
"""Runs are looked for again after this."""
MOST_CONFIGS = 200
"""Files of YAML below a root that are looked at."""
CONFIG, YAML = "config.yaml", (".yaml", ".yml")
INSIDE = {"problems", "traces", "verified", "curated", "checkpoints", "eval", "steps", "sequences", "search"}
"""Folders of a run; two of them make one, even where the config is lost."""


class NoSuchRun(UserError):
    """An address names no run below the roots."""


@dataclass(frozen=True)
class Place:
    """One run."""

    id: str
    """In addresses: the folder's name as far as it is plain, and a hash of the URI."""
    name: str
    """The folder's, or the file's, as it is."""
    uri: str
    """Of the run's folder, which a config's run need not have."""
    root: str
    config: str | None = None
    """The config's file, where the place was found by that."""

    @property
    def path(self) -> str:
        """Of its pages."""
        return f"/run/{self.id}"


class Places:
    """Every run below some roots. What is asked for that lies elsewhere is not there."""

    def __init__(self, roots: Sequence[str]) -> None:
        """roots: folders of runs, runs, or configs of runs; local or s3://."""
        self.roots = list(dict.fromkeys(storage.resolve(root).rstrip("/") for root in roots))
        self.notes: list[str] = []
        """Roots that could not be read at the last look."""
        self._found: dict[str, Place] = {}
        self._looked = float("-inf")
        self._turn = threading.Lock()

    def all(self) -> list[Place]:
        """Every run, by name."""
        return list(self._look(AGAIN_SECONDS).values())

    def get(self, run_id: str) -> Place:
        """Raises NoSuchRun."""
        found = self._found.get(run_id) or self._look(AGAIN_SECONDS).get(run_id) or self._look(1.0).get(run_id)
        if found is None:
            raise NoSuchRun(f"no run {run_id} below {', '.join(self.roots)}")
        return found

    def _look(self, seconds: float) -> dict[str, Place]:
        with self._turn:
            if time.monotonic() - self._looked < seconds:
                return self._found
            notes, found = list[str](), list[Place]()
            for root in self.roots:
                try:
                    found += [config_place(root)] if root.endswith(YAML) else places_below(root, notes)
                except UserError as error:
                    notes.append(str(error))
            found.sort(key=lambda place: (place.name.casefold(), place.uri))
            self._found, self.notes, self._looked = {place.id: place for place in found}, notes, time.monotonic()
            return self._found


def place_of(uri: str, root: str, config: str | None = None) -> Place:
    """config: where the place is one of a config's file."""
    where = config or uri
    name = where.rstrip("/").rsplit("/", 1)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:48] or "run"
    code = hashlib.sha256(where.encode("utf-8", "replace")).hexdigest()[:8]
    return Place(f"{plain}-{code}", name, uri, root, config)


def config_place(uri: str) -> Place:
    """Of a config's file. Raises ConfigError, StorageError."""
    return place_of(storage.resolve(load_config(uri).run_uri), uri, uri)


def places_below(root: str, notes: list[str]) -> list[Place]:
    """Runs, the root itself among them, and configs; what lies in a run is none. Raises StorageError."""
    found, configs, level, seen = list[Place](), list[tuple[str, int]](), [root], 0
    known = {_real(root)}
    with ThreadPoolExecutor(16, thread_name_prefix="look") as pool:
        for depth in range(DEPTH + 1):
            further = []
            for folder, (files, folders) in zip(level, pool.map(entries, level), strict=True):
                if is_run(files, folders):
                    found.append(place_of(folder, root))
                    continue
                configs += [(storage.join(folder, name), at) for name, at in files.items() if name.endswith(YAML)]
                if depth < DEPTH:
                    below = (storage.join(folder, name) for name in folders if not name.startswith("."))
                    for one in below:
                        if (real := _real(one)) not in known:
                            known.add(real)
                            further.append(one)
            seen += len(level)
            level = further[: max(0, MOST_FOLDERS - seen)]
    for uri, at in configs[:MOST_CONFIGS]:
        if (run_uri := _run_of_config(uri, at)) is not None:
            found.append(place_of(run_uri, root, uri))
    if not found:
        notes.append(f"{root}: no run here, nor {DEPTH} folders deeper")
    return found


def _real(uri: str) -> str:
    """Where a link leads: what two of them lead to is there once."""
    return uri if uri.startswith("s3://") else os.path.realpath(uri)


@lru_cache(maxsize=4 * MOST_CONFIGS)
def _run_of_config(uri: str, at: int) -> str | None:
    """Where a config's run lies; None for what is no config. at: when the file was written last, so that it is read once."""
    del at
    try:
        return storage.resolve(load_config(uri).run_uri)
    except UserError:  # other programs have YAML files, too
        return None


def is_run(files: Iterable[str], folders: Iterable[str]) -> bool:
    """By what a folder holds. A config alone is one that has just begun, or whose folder is damaged."""
    inside = INSIDE.intersection(folders)
    return (CONFIG in files and (bool(inside) or storage.LOCK in files)) or len(inside) > 1


def entries(uri: str) -> tuple[dict[str, int], list[str]]:
    """Files of a folder with the time of each, in ns, and folders in it; none of one that is not there, or may not be read."""
    fs, path = storage.filesystem(uri)
    try:
        with storage_errors("listed", uri):
            infos = fs.get_file_info(pafs.FileSelector(path, recursive=False, allow_not_found=True))
    except StorageError:
        if uri.startswith("s3://"):
            raise
        return {}, []
    files = {info.base_name: info.mtime_ns or 0 for info in infos if info.type == pafs.FileType.File}
    return files, [info.base_name for info in infos if info.type == pafs.FileType.Directory]


def names_of(places: Sequence[Place]) -> list[str]:
    """What the columns are called: the runs' names, or where these are alike as much of their places as tells them apart."""
    parts = [(place.config or place.uri).split("/") for place in places]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [place.id for place in places]
