"""The runs below the places that the pages were opened on, local and on S3, each under a short name for addresses."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
CONFIG = "config.yaml"
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
    """The folder's, as it is."""
    uri: str
    root: str

    @property
    def path(self) -> str:
        """Of its pages."""
        return f"/run/{self.id}"


class Places:
    """Every run below some roots. What is asked for that lies elsewhere is not there."""

    def __init__(self, roots: Sequence[str]) -> None:
        """roots: folders of runs, runs, or configs of runs; local or s3://."""
        self.roots = list(dict.fromkeys(root_of(root) for root in roots))
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
            notes, found = [], list[Place]()
            for root in self.roots:
                try:
                    found += [place_of(uri, root) for uri in runs_below(root)]
                except UserError as error:
                    notes.append(str(error))
            found.sort(key=lambda place: (place.name.casefold(), place.uri))
            self._found, self.notes, self._looked = {place.id: place for place in found}, notes, time.monotonic()
            return self._found


def root_of(root: str) -> str:
    """A place as a URI; a config's is its run's folder."""
    return storage.resolve(load_config(root).run_uri if root.endswith((".yaml", ".yml")) else root).rstrip("/")


def place_of(uri: str, root: str) -> Place:
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:48] or "run"
    return Place(f"{plain}-{hashlib.sha256(uri.encode('utf-8', 'replace')).hexdigest()[:8]}", name, uri, root)


def runs_below(root: str) -> list[str]:
    """Folders of runs, the root itself among them; what lies in a run is none. Raises StorageError."""
    found, level, seen = list[str](), [root], 0
    with ThreadPoolExecutor(16, thread_name_prefix="look") as pool:
        for depth in range(DEPTH + 1):
            further = []
            for folder, (files, folders) in zip(level, pool.map(entries, level), strict=True):
                if is_run(files, folders):
                    found.append(folder)
                elif depth < DEPTH:
                    further += [storage.join(folder, name) for name in folders if not name.startswith(".")]
            seen += len(level)
            level = further[: max(0, MOST_FOLDERS - seen)]
    return found


def is_run(files: Iterable[str], folders: Iterable[str]) -> bool:
    """By what a folder holds. A config alone is one that has just begun, or whose folder is damaged."""
    inside = INSIDE.intersection(folders)
    return (CONFIG in files and (bool(inside) or storage.LOCK in files)) or len(inside) > 1


def entries(uri: str) -> tuple[list[str], list[str]]:
    """Names of files and of folders in a folder; none of one that is not there, or may not be read."""
    fs, path = storage.filesystem(uri)
    try:
        with storage_errors("listed", uri):
            infos = fs.get_file_info(pafs.FileSelector(path, recursive=False, allow_not_found=True))
    except StorageError:
        if uri.startswith("s3://"):
            raise
        return [], []
    return list(_of(infos, pafs.FileType.File)), list(_of(infos, pafs.FileType.Directory))


def _of(infos: Iterable[pafs.FileInfo], kind: pafs.FileType) -> Iterator[str]:
    return (info.base_name for info in infos if info.type == kind)
