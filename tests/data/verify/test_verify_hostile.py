"""The hostile set through the whole stage: it ends, nothing is lost, memory stays bounded, and no other verdict changes."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import GOLD, HOSTILE, comparing_processes

from redi_ray.config.answers import VerifySettings
from redi_ray.data.verify.traces import verify_traces
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import TRACE, VERIFIED_TRACE
from redi_ray.store import parquet

SETTINGS = VerifySettings(timeout_seconds=3, memory_mb=1024)
ROWS_PER_SHARD = 55


def trace(index: int, completion: str, gold: str) -> dict:
    ids = {"problem_id": f"p{index}", "trace_id": f"p{index}#0", "sample_index": 0}
    return {**ids, "problem": "?", "answer": gold, "completion": completion}


@pytest.fixture(scope="module")
def rows(test_data: Path) -> list[dict]:
    """Ten real MATH-500 traces for each hostile one."""
    with gzip.open(test_data / "traces" / "sky_math500.jsonl.gz", "rt") as file:
        real = [json.loads(line) for line in file][::10]
    found = []
    for index, (_, completion, _) in enumerate(HOSTILE):
        found += [trace(len(found) + k, row["trace"], row["gold"]) for k, row in enumerate(real[10 * index :][:10])]
        found.append(trace(len(found), str(completion), GOLD))
    return found


def write_wrong_types(folder: Path) -> list[str]:
    """Shards whose columns are of other types than text, in every row; they sort behind the others."""
    odd = {
        "number": pa.array([5, 6]),
        "list": pa.array([["5"], ["6"]]),
        "struct": pa.array([{"text": "5"}, {"text": "6"}]),
        "null": pa.nulls(2),
    }
    uris = []
    for name, column in odd.items():
        uris.append(str(folder / f"type-{name}.parquet"))
        pq.write_table(pa.table({"problem_id": ["a", "b"], "answer": ["5", "5"], "completion": column}), uris[-1])
    return uris


class PeakMemory(threading.Thread):
    """The largest comparing process seen while the block runs, in MiB."""

    def __enter__(self) -> PeakMemory:
        self.peak, self.ended, self.others = 0, threading.Event(), comparing_processes().keys()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            found = comparing_processes()
            self.peak = max([self.peak, *(peak for pid, peak in found.items() if pid not in self.others)])


@pytest.mark.slow
def test_hostile_traces_through_the_stage(ray_session, rows, tmp_path):
    (tmp_path / "in").mkdir()
    uris = []
    for start in range(0, len(rows), ROWS_PER_SHARD):
        uris.append(str(tmp_path / "in" / f"part-{start:05d}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows[start : start + ROWS_PER_SHARD], schema=TRACE), uris[-1])
    uris += write_wrong_types(tmp_path / "in")
    with PeakMemory(daemon=True) as memory:
        counts = verify_traces(uris, str(tmp_path / "out"), SETTINGS, concurrency=2)

    assert counts.rows == len(rows) + 8
    assert 0 < memory.peak < SETTINGS.memory_mb
    tables = {name: next(parquet.read_tables([str(tmp_path / "out" / name)])) for name in map(file_name, uris)}
    assert all(table.schema.equals(VERIFIED_TRACE) for table in tables.values())
    written = [row for name in sorted(tables) for row in tables[name].to_pylist()]
    assert [row["trace_id"] for row in written[: len(rows)]] == [row["trace_id"] for row in rows], "each in its place"
    assert [row["verdict"] for row in written[len(rows) :]] == ["error"] * 8, "columns of other types"

    verdicts = [row["verdict"] for row in written[: len(rows)]]
    for (name, _, right), verdict in zip(HOSTILE, verdicts[10::11], strict=True):
        assert verdict in right, name
    real = [row for index, row in enumerate(rows) if index % 11 != 10]
    with AnswerVerifier(SETTINGS) as verifier:
        alone = verifier.verify_many([(row["answer"], row["completion"]) for row in real])
    assert [verdict for index, verdict in enumerate(verdicts) if index % 11 != 10] == [v.verdict for v in alone]


def file_name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
