"""Verification of files that come from anywhere: every row gets a verdict or a reason, and what is done stays done.

Protects users' own files from being half read or mixed up: formats, columns, rejects, exact resume, errors that name the
file.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.config.answers import VerifySettings
from redi_ray.config.trace_files import TraceColumns
from redi_ray.data.sources.readers import DataError, Row
from redi_ray.data.sources.trace_rows import parse_trace
from redi_ray.data.verify.files import (
    OutputTaken,
    Work,
    add_up,
    as_items,
    count_doubles,
    find_files,
    plan,
    prepare,
    publish,
    verify_files,
)
from redi_ray.data.verify.stripes import VerifyStripes
from redi_ray.data.verify.traces import verify_table
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import TRACE, VERDICT, votes_of
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest

SETTINGS = VerifySettings(timeout_seconds=2)
COLUMNS = TraceColumns(answer="gold", completion="out.text", label="ok")


def row(index: int, answer: object = 4, **changes: object) -> dict:
    return {"problem_id": index, "gold": answer, "out": {"text": rf"so \boxed{{{index}}}"}, "ok": index == 4, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen rows in three formats: twelve of them traces, three rejected for different reasons."""
    path = tmp_path_factory.mktemp("traces")
    lines = [json.dumps(row(index)) for index in range(6)]
    lines.insert(2, "{broken")
    lines.insert(4, json.dumps(row(9, out={"text": None})))
    (path / "a").mkdir()
    (path / "a" / "x.jsonl.gz").write_bytes(gzip.compress("\n\n".join(lines).encode()))
    pq.write_table(pa.Table.from_pylist([row(index) for index in range(2, 6)]), path / "b.parquet")
    (path / "c.json").write_text(json.dumps([row(4), row(5, ok="maybe"), row(6, None)]))
    (path / "notes.txt").write_text("no trace")
    return path


def run(work: Work) -> Manifest:
    return verify_files(work, workers=2)


def read(out: Path | str, table: str) -> list[dict]:
    shards = storage.list_files(f"{out}/{table}", ".parquet")
    return [row for part in parquet.read_tables(shards) for row in part.to_pylist()]


@pytest.fixture(scope="module")
def finished(ray_session, folder, tmp_path_factory) -> tuple[Work, Manifest, Path]:
    out = tmp_path_factory.mktemp("out") / "verdicts"
    work = prepare([str(folder)], str(out), COLUMNS, SETTINGS, segment_rows=3)
    return work, run(work), out


def test_every_row_has_a_verdict_or_a_reason(finished):
    _, manifest, out = finished
    assert manifest.counts == {"in": 15, "out": 12}
    assert manifest.rejected == {"bad_vote": 1, "no_completion": 1, "unreadable_row": 1}
    assert {kind: count for kind, count in manifest.facts["verdicts"].items() if count} == {
        "correct": 3, "wrong": 8, "gold_unparseable": 1,
    }  # fmt: skip
    told = {row["where"]: row["reason"] for row in read(out, "rejects")}
    assert told == {"a/x.jsonl.gz:5": "unreadable_row", "a/x.jsonl.gz:9": "no_completion", "c.json:1": "bad_vote"}
    rows = read(out, "verdicts")
    assert all(row["verdict"] == "correct" for row in rows if row["problem_id"] == "4")
    assert rows[0]["trace_id"] == "0#a/x.jsonl.gz:1", "problem and place, where the file has no ids"
    assert len({row["trace_id"] for row in rows}) == 12
    assert votes_of(rows[0]["verdict_by"]) == {"math_verify": "wrong", "label": "wrong"}
    assert manifest.facts["agreement"] == {"label": {"compared": 12, "agree": 12}}
    shard = storage.list_files(f"{out}/verdicts", ".parquet")[0]
    assert pq.read_schema(shard).equals(VERDICT)


def test_a_killed_run_goes_on_where_it_was(finished, folder):
    """Without one segment and the manifest, only that segment is computed, and the result is the same."""
    work, manifest, out = finished
    before = read(out, "verdicts")
    (out / "manifest.json").unlink()
    (out / "verdicts" / "part-00000-00001.parquet").unlink()
    kept = {path: os.stat(path).st_mtime_ns for path in storage.list_files(str(out / "verdicts"))}
    again = run(prepare([str(folder)], str(out), COLUMNS, SETTINGS, segment_rows=3))
    assert again.facts["this_run"]["rows"] == 3
    assert (again.counts, again.rejected) == (manifest.counts, manifest.rejected)
    assert again.facts["verdicts"] == manifest.facts["verdicts"]
    assert {path: os.stat(path).st_mtime_ns for path in kept} == kept
    assert read(out, "verdicts") == before
    assert work.published() is not None


def test_other_work_never_mixes_with_what_is_there(finished, folder):
    _, _, out = finished
    for columns, settings, told in (
        (COLUMNS, VerifySettings(timeout_seconds=3), "other settings"),
        (TraceColumns(answer="gold", completion="out.text"), SETTINGS, "other columns"),
    ):
        with pytest.raises(OutputTaken, match=told):
            prepare([str(folder)], str(out), columns, settings, segment_rows=3)
    prepare([str(folder)], str(out), COLUMNS, VerifySettings(timeout_seconds=2, processes=2), segment_rows=3)
    with pytest.raises(OutputTaken, match="other files"):
        prepare([str(folder / "b.parquet")], str(out), COLUMNS, SETTINGS, segment_rows=3)
    with pytest.raises(OutputTaken, match="not empty"):
        prepare([str(folder / "b.parquet")], str(folder / "a"), COLUMNS, SETTINGS)
    with pytest.raises(OutputTaken, match="one of the traces"):
        prepare([str(folder)], str(folder), COLUMNS, SETTINGS)


def test_stripes_share_a_long_file(finished, folder, tmp_path):
    """Two tasks on one file take every second segment each, and together each row once."""
    work, _, _ = finished
    stripes = [stripe for _, stripe in plan(work, workers=2)]
    assert [stripe.name for stripe in stripes] == ["a/x.jsonl.gz", "b.parquet", "c.json"], "small files are not shared"
    long = tmp_path / "long.jsonl"
    long.write_text("".join(json.dumps(row(index % 8, pad="x" * 200_000)) + "\n" for index in range(100)))
    shared = prepare([str(long)], str(tmp_path / "out"), COLUMNS, SETTINGS, segment_rows=7)
    assert [stripe.of for _, stripe in plan(shared, workers=2)] == [2, 2]
    manifest = run(shared)
    assert manifest.counts == {"in": 100, "out": 100}
    assert manifest.facts["verdicts"]["correct"] == 12
    assert len({row["trace_id"] for row in read(tmp_path / "out", "verdicts")}) == 100


def test_missing_columns_are_told_with_those_present(folder, tmp_path):
    with pytest.raises(
        DataError, match=r"no answer \(column `answer`\), no completion.*columns are problem_id, gold, out"
    ):
        prepare([str(folder)], str(tmp_path / "out"), TraceColumns(), SETTINGS)
    assert not (tmp_path / "out").exists(), "the mistake can be mended and the same folder used"


def test_a_damaged_file_is_named_after_the_others_are_done(ray_session, folder, tmp_path):
    whole = (folder / "b.parquet").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(whole)
    (tmp_path / "in" / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(row(4)).encode() * 99)[:-12])
    work = prepare([str(tmp_path / "in")], str(tmp_path / "out"), COLUMNS, SETTINGS)
    with pytest.raises(storage.StorageError, match=r"cut\.jsonl\.gz: the gzip file is damaged"):
        run(work)
    assert len(read(tmp_path / "out", "verdicts")) == 4
    assert work.published() is None


def test_no_usable_row_is_an_error(ray_session, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row(4, out={"text": 7})))
    with pytest.raises(DataError, match=r"no row can be used: \{'no_completion': 1\}"):
        run(prepare([str(path)], str(tmp_path / "out"), COLUMNS, SETTINGS))


def test_from_and_to_s3(bucket):
    """The same rows on S3 give the same verdicts, written to S3."""
    storage.write_bytes(f"{bucket}/in/x.jsonl", "\n".join(json.dumps(row(index)) for index in (4, 5)).encode())
    work = prepare([f"{bucket}/in"], f"{bucket}/out", COLUMNS, SETTINGS)
    actor = VerifyStripes(work.out_uri, work.columns, work.settings)  # here, not in a Ray that knows of no such server
    done = [row for item in as_items(plan(work, workers=1)) for row in actor({"task": [item["task"]]})]
    manifest = publish(work, add_up({name: values[0] for name, values in row.items()} for row in done), 0.0)
    assert manifest.counts == {"in": 2, "out": 2}
    assert [row["verdict"] for row in read(work.out_uri, "verdicts")] == ["correct", "wrong"]
    assert prepare([f"{bucket}/in"], f"{bucket}/out", COLUMNS, SETTINGS).published() is not None


def test_votes_golds_and_chats_by_their_forms(ray_session, tmp_path):
    """One trace each of problem 4: a label that says wrong is wrong in any form, and a gold that is none is no verdict."""
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": r"\boxed{4}"}]
    rows = [
        *(
            row(4, ok=ok)
            for ok in (True, "yes", 1.0, False, "False", 0.0, float("nan"), None, -1.0, 0.1, "maybe", [True])
        ),
        *(
            row(4, gold, ok=True)
            for gold in (["4"], 4.0, "N/A", "None", "proof", float("nan"), {"value": 4}, ["4", "5"])
        ),
        row(4, out={"text": chat}),
        row(4, out={"text": chat * 2}),  # of several turns the last answer counts
        row(4, out={"text": [*chat, *chat[1:]]}),
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in rows))
    manifest = run(prepare([str(path)], str(tmp_path / "out"), COLUMNS, SETTINGS))
    verdicts = {int(r["trace_id"].rsplit(":", 1)[-1]): r for r in read(tmp_path / "out", "verdicts")}
    labels = [votes_of(verdicts[number]["verdict_by"]).get("label") for number in range(1, 9)]
    assert labels == ["correct"] * 3 + ["wrong"] * 3 + [None] * 2
    golds = [verdicts[number]["verdict"] for number in range(13, 19)]
    assert golds == ["correct"] * 2 + ["gold_unparseable"] * 4
    assert verdicts[21]["verdict"] == verdicts[22]["verdict"] == "correct"
    assert manifest.rejected == {"bad_vote": 4, "bad_answer": 2, "several_turns": 1}
    assert manifest.counts == {"in": 23, "out": 16}


def test_a_column_may_be_missing_in_the_first_rows_and_files(tmp_path):
    """JSON need not write a null; a column that is nowhere is still told."""
    (tmp_path / "in").mkdir()
    bare = {"problem_id": 1, "gold": 1, "out": {"text": "x"}}
    (tmp_path / "in" / "a.jsonl").write_text(json.dumps(bare))
    (tmp_path / "in" / "b.jsonl").write_text(f"{json.dumps(bare)}\n" * 100 + json.dumps(row(4)))
    assert len(prepare([str(tmp_path / "in")], str(tmp_path / "out"), COLUMNS, SETTINGS).files) == 2
    columns = TraceColumns(answer="gold", completion="out.text", label="okay")
    with pytest.raises(DataError, match=r"no label \(column `okay`\); its columns are problem_id, gold, out, ok"):
        prepare([str(tmp_path / "in")], str(tmp_path / "other"), columns, SETTINGS)


def test_our_own_output_beside_the_traces_is_not_read(finished, tmp_path):
    """A folder of an earlier run: its settings, manifest and rejects are no traces."""
    _, _, out = finished
    (tmp_path / "in" / "rejects").mkdir(parents=True)
    for name in ("settings.json", "manifest.json", "rejects/part-00000-00001.parquet"):
        (tmp_path / "in" / name).write_bytes((out / name).read_bytes())
    (tmp_path / "in" / "x.jsonl").write_text(json.dumps(row(4)))
    assert [file.name for file in find_files([str(tmp_path / "in")])] == ["x.jsonl"]


def test_trace_ids_that_start_again_are_told(tmp_path):
    for name, ids in (("part-0.parquet", ["1", "2", "2"]), ("part-1.parquet", ["1", "3"])):
        pq.write_table(pa.table({"trace_id": ids}), tmp_path / name)
    assert count_doubles([f"{tmp_path}/part-0.parquet", f"{tmp_path}/part-1.parquet"]) == 2


@pytest.mark.parametrize(
    ("reason", "stored", "verdict"),
    [
        ("abort", "unfinished", "no_answer"),
        ("a word of tomorrow", "unfinished", "no_answer"),
        ({"type": "abort"}, "unfinished", "no_answer"),
        ({"type": "length", "length": 9}, "length", "wrong"),
        ("MAX_TOKENS", "length", "wrong"),
        ("EOS_TOKEN", "stop", "wrong"),
        (None, None, "wrong"),
    ],
)
def test_finish_reasons_in_any_words(reason: object, stored: str | None, verdict: str):
    """A part of a trace is not held against it."""
    value = {"problem_id": "p", "answer": "4", "completion": r"so \boxed{5}", "finish_reason": reason}
    row = parse_trace(Row("x.jsonl:1", value), TraceColumns())
    assert row["finish_reason"] == stored
    with AnswerVerifier(SETTINGS) as verifier:
        table = verify_table(pa.Table.from_pylist([row], schema=TRACE), verifier, SETTINGS)
    assert table["verdict"].to_pylist() == [verdict]
