"""Any trace files -> verdicts, without a run: JSON lines or Parquet in, small Parquet of ids and verdicts out.

    <out>/settings.json              files and settings, so that nothing else is ever mixed in
    <out>/verdicts/part-FFFFF-SSSSS.parquet    VERDICT rows of segment S of file F; its presence means the segment is done
    <out>/rejects/part-FFFFF-SSSSS.parquet     rows of it that are no traces, with their reasons
    <out>/manifest.json              written last

A task reads one file from its start and verifies its share of the segments, so that even one long gzip file keeps every
worker busy, and a run that was killed goes on with the segments that are missing. The rows in are counted by reading each
file to its end, the rows out by reading what was written; they must agree. The driver sees counts only.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.answers import VerifySettings
from redi_ray.config.identity import identity
from redi_ray.config.trace_files import TraceColumns
from redi_ray.data.sources.folders import DataError, expand_paths, short_names
from redi_ray.data.sources.ids import IdSet, hash_ids
from redi_ray.data.sources.trace_rows import SEGMENT_ROWS, Stripe, check_columns
from redi_ray.data.verify.stripes import COUNTED, VerifyStripes
from redi_ray.errors import UserError
from redi_ray.schemas import Verdict, votes_of
from redi_ray.store import lock, manifests, parquet, storage
from redi_ray.store.manifests import Manifest

STRIPE_BYTES = 8 << 20
"""A file of at least so many bytes per worker is shared among workers."""
VERSION = 2
"""Raise it when verdicts change their meaning."""


class OutputTaken(UserError):
    """The output folder holds something else."""


@dataclass(frozen=True)
class TraceFile:
    """An input file and what tells it from a changed one."""

    uri: str
    name: str
    """Its path below the folder that all files share."""
    size: int
    modified_ns: int


@dataclass
class FilesCounts:
    """What this run did, as opposed to what an earlier one had done."""

    rows: int = 0
    quick: int = 0
    cached: int = 0
    compared: int = 0
    tested: int = 0
    file_rows: dict[int, int] = field(default_factory=dict)
    """Rows of each file, read to its end."""
    failures: list[str] = field(default_factory=list)


def find_files(paths: list[str]) -> list[TraceFile]:
    """The trace files below `paths`. Raises DataError if there are none."""
    uris = expand_paths(paths, "--traces")
    found = []
    for uri, name in zip(uris, short_names(uris), strict=True):
        fs, place = storage.filesystem(uri)
        info = fs.get_file_info(place)
        found.append(TraceFile(storage.resolve(uri), name, info.size, info.mtime_ns or 0))
    return found


@dataclass(frozen=True)
class Work:
    """What to verify, how, and where the verdicts go."""

    files: list[TraceFile]
    out_uri: str
    columns: TraceColumns
    settings: VerifySettings
    segment_rows: int = SEGMENT_ROWS

    @property
    def told(self) -> dict[str, Any]:
        """Everything that decides the verdicts."""
        files = [[file.name, file.size, file.modified_ns] for file in self.files]
        told = {"columns": identity(self.columns), "files": files, "segment_rows": self.segment_rows}
        return {"settings": identity(self.settings), **told}

    @property
    def key(self) -> str:
        return storage.content_hash([VERSION, self.told])[:16]

    def published(self) -> Manifest | None:
        """The manifest, if this very work has been finished."""
        uri = storage.join(self.out_uri, "manifest.json")
        return Manifest(**{**storage.read_json(uri), "uri": self.out_uri}) if storage.exists(uri) else None


def prepare(
    paths: list[str],
    out_uri: str,
    columns: TraceColumns,
    settings: VerifySettings,
    segment_rows: int = SEGMENT_ROWS,
) -> Work:
    """Check everything that can be checked before Ray starts, and claim the output folder.

    Raises DataError if no file can be used or columns are missing, OutputTaken if the folder holds something else.
    """
    work = Work(find_files(paths), storage.resolve(out_uri), columns, settings, segment_rows)
    if inside := [file.uri for file in work.files if file.uri.startswith(work.out_uri.rstrip("/") + "/")]:
        raise OutputTaken(f"--out {work.out_uri} holds {inside[0]}, one of the traces; choose a folder of its own")
    check_columns([file.uri for file in work.files], columns)
    uri = storage.join(work.out_uri, "settings.json")
    if storage.exists(uri):
        before = storage.read_json(uri)
        differ = [name for name, value in work.told.items() if before.get(name) != value]
        if before["key"] != work.key:
            raise OutputTaken(
                f"{work.out_uri} holds verdicts of other {', '.join(differ) or 'versions of redi_ray'}; name another "
                "folder with --out, or delete this one"
            )
    elif present := storage.list_files(work.out_uri):
        raise OutputTaken(f"{work.out_uri} is not empty ({present[0]}); name a new folder with --out")
    else:
        storage.write_json(uri, {"key": work.key, **work.told})
    return work


def verify_files(work: Work, *, workers: int, on_progress: Callable[[int], None] = lambda rows: None) -> Manifest:
    """Verify what is not verified yet, with `workers` actors, and publish. Ray must be connected.

    Raises StorageError naming every file that could not be read to its end, after all others are done; DataError if no
    row can be used.
    """
    started = time.monotonic()
    counts = run_stripes(work, plan(work, workers), workers, on_progress)
    if counts.failures:
        raise storage.StorageError("\n".join([f"{len(counts.failures)} tasks failed:", *counts.failures[:20]]))
    return publish(work, counts, started)


def plan(work: Work, workers: int) -> list[tuple[int, Stripe]]:
    """(number of the file, stripe) for every task; segments whose verdicts are there are marked as done."""
    done: dict[int, set[int]] = {}
    for uri in storage.list_files(storage.join(work.out_uri, "verdicts"), ".parquet"):
        _, number_of_file, segment = uri.rsplit("/", 1)[-1].removesuffix(".parquet").split("-")
        done.setdefault(int(number_of_file), set()).add(int(segment))
    tasks = []
    for number, file in enumerate(work.files):
        of = max(1, min(workers, file.size // STRIPE_BYTES))
        known = frozenset(done.get(number, ()))
        tasks += [(number, Stripe(file.uri, file.name, stripe, of, known, work.segment_rows)) for stripe in range(of)]
    return tasks


def run_stripes(
    work: Work, tasks: list[tuple[int, Stripe]], workers: int, on_progress: Callable[[int], None]
) -> FilesCounts:
    """Verify every stripe with Ray Data; the counts of what was done."""
    import ray.data

    items = as_items(tasks)
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        VerifyStripes,
        fn_constructor_args=(work.out_uri, work.columns, work.settings),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
        num_cpus=work.settings.processes,
    )
    return add_up(done.iter_rows(), on_progress)


def as_items(tasks: list[tuple[int, Stripe]]) -> list[dict[str, str]]:
    """Rows that Ray Data can carry."""
    return [{"task": json.dumps([number, {**asdict(stripe), "done": list(stripe.done)}])} for number, stripe in tasks]


def add_up(rows: Iterable[Mapping[str, Any]], on_progress: Callable[[int], None] = lambda rows: None) -> FilesCounts:
    """The counts over all that `VerifyStripes` gave."""
    counts = FilesCounts()
    for row in rows:
        on_progress(row["rows"])
        for name in ("rows", *COUNTED):
            setattr(counts, name, getattr(counts, name) + row[name])
        if row["file_rows"] >= 0:
            counts.file_rows[row["file"]] = row["file_rows"]
        counts.failures += [row["failure"]] if row["failure"] else []
    return counts


def publish(work: Work, counts: FilesCounts, started: float) -> Manifest:
    """Count what was written, check that it is all of what came in, and write the manifest."""
    shards = storage.list_files(storage.join(work.out_uri, "verdicts"), ".parquet")
    verdicts, agreement = count_verdicts(shards)
    if doubles := count_doubles(shards):
        log.warning(
            "--traces: %s traces have an id that another trace has too, so only the name of their part-FILE-SEGMENT tells "
            "them apart. For ids of file and row instead: --column trace_id=",
            f"{doubles:,}",
        )
    rejected: Counter[str] = Counter()
    rejects = storage.list_files(storage.join(work.out_uri, "rejects"), ".parquet")
    for table in parquet.read_tables(rejects, ["reason"]):
        rejected.update(table["reason"].to_pylist())
    if not verdicts.total():
        raise DataError(f"no row can be used: {dict(rejected)}; {work.out_uri}/rejects has each with its reason")
    manifest = Manifest(
        stage="verify",
        key=work.key,
        uri=work.out_uri,
        config={"settings": work.told["settings"], "columns": work.told["columns"]},
        inputs={"files": storage.content_hash(work.told["files"])[:16]},
        counts={"in": sum(counts.file_rows.values()), "out": verdicts.total()},
        rejected=dict(sorted(rejected.items())),
        facts={
            "verdicts": dict(verdicts),
            "agreement": agreement,
            "double_ids": doubles,
            "files": len(work.files),
            "this_run": {name: getattr(counts, name) for name in ("rows", *COUNTED)},
        },
        seconds=round(time.monotonic() - started, 1),
        versions=manifests.versions(),
    )
    manifests.reconcile(manifest)
    lock.check(work.out_uri)
    storage.write_json(storage.join(work.out_uri, "manifest.json"), asdict(manifest))
    return manifest


def count_doubles(shards: list[str]) -> int:
    """Traces whose id came before, in their file or in another one; 8 bytes a trace are held."""
    ids, rows = IdSet(), 0
    for table in parquet.read_tables(shards, ["trace_id"]):
        ids.add(hash_ids(table["trace_id"].to_pylist()))
        rows += table.num_rows
    return rows - len(ids)


def count_verdicts(shards: list[str]) -> tuple[Counter[str], dict[str, dict[str, int]]]:
    """Rows of each verdict; and for every other verifier how many rows it can be `compared` on with ours, how many `agree`."""
    verdicts: Counter[str] = Counter({str(verdict): 0 for verdict in Verdict})
    agreement: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for table in parquet.read_tables(shards, ["verdict", "verdict_by"]):
        verdicts.update(table["verdict"].to_pylist())
        for stored in table["verdict_by"].to_pylist():
            others = votes_of(stored)
            ours = others.pop("math_verify", None)
            for name, vote in others.items() if ours is not None else ():
                same = (ours == Verdict.CORRECT) == (vote == Verdict.CORRECT)
                agreement[name].update(compared=1, agree=int(same))
    return verdicts, {name: dict(counted) for name, counted in sorted(agreement.items())}
