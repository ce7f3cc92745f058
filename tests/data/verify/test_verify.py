"""The verification stage on Ray Data: rows in equal rows out, exact resume, bad shards named."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.config.answers import VerifySettings
from redi_ray.data.verify.decide import decide_table
from redi_ray.data.verify.traces import verify_table, verify_traces
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import TRACE, VERIFIED_TRACE, Verdict, stored_votes, votes_of
from redi_ray.store import parquet, storage
from redi_ray.text.verdicts import POLICIES

FAST = VerifySettings(timeout_seconds=2)


def trace(index: int, completion: object, answer: object = "4", **columns: object) -> dict:
    return {
        "problem_id": f"p{index}",
        "problem": "2 + 2?",
        "answer": answer,
        "trace_id": f"p{index}#0",
        "sample_index": 0,
        "completion": completion,
        **columns,
    }


def write_shards(folder: Path, rows: list[dict], size: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for start in range(0, len(rows), size):
        uris.append(str(folder / f"part-{start // size:05d}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows[start : start + size], schema=TRACE), uris[-1])
    return uris


def read(folder: Path) -> list[dict]:
    return [
        row for table in parquet.read_tables(storage.list_files(str(folder), ".parquet")) for row in table.to_pylist()
    ]


@pytest.fixture(scope="module")
def shards(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """240 real MATH-500 traces in 6 shards."""
    with gzip.open(test_data / "traces" / "sky_math500.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][:2400:10]
    rows = [trace(i, row["trace"], row["gold"], model=row["model"]) for i, row in enumerate(rows)]
    return write_shards(tmp_path_factory.mktemp("traces"), rows, 40)


def test_stage_and_resume(ray_session, shards, tmp_path):
    """Every row comes out once, in its place; a second run computes only the shard that is missing."""
    counts = verify_traces(shards, str(tmp_path), FAST, concurrency=2)
    assert (counts.rows, counts.shards, counts.shards_reused) == (240, 6, 0)
    assert sum(counts.verdicts.values()) == 240
    assert counts.verdicts["correct"] > 100
    rows = read(tmp_path)
    sources = [row for table in parquet.read_tables(shards) for row in table.to_pylist()]
    assert [{name: row[name] for name in TRACE.names} for row in rows] == sources
    assert pq.read_schema(tmp_path / "part-00000.parquet").equals(VERIFIED_TRACE)

    kept = {path: os.stat(path).st_mtime_ns for path in storage.list_files(str(tmp_path)) if "00003" not in path}
    (tmp_path / "part-00003.parquet").unlink()
    again = verify_traces(shards, str(tmp_path), FAST, concurrency=2)
    assert again.shards_reused == 5
    assert (again.rows, again.verdicts) == (counts.rows, counts.verdicts)
    assert {path: os.stat(path).st_mtime_ns for path in kept} == kept
    assert read(tmp_path) == rows


def test_same_verdicts_without_ray(ray_session, shards, tmp_path):
    """Actors, batches and caches change no verdict."""
    verify_traces(shards, str(tmp_path), VerifySettings(batch_rows=7), concurrency=1)
    sources = [row for table in parquet.read_tables(shards) for row in table.to_pylist()]
    with AnswerVerifier(VerifySettings()) as verifier:
        alone = verifier.verify_many([(row["answer"], row["completion"]) for row in sources])
    assert [(row["verdict"], row["extracted_answer"]) for row in read(tmp_path)] == [
        (verdict.verdict.value, verdict.extracted_answer) for verdict in alone
    ]


def test_bad_shard_is_named_after_the_others_are_done(ray_session, shards, tmp_path):
    broken = tmp_path / "in" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(Path(shards[0]).read_bytes()[:-100])
    with pytest.raises(storage.StorageError, match=r"1 of 3 shards failed[\s\S]*broken\.parquet"):
        verify_traces([shards[0], str(broken), shards[1]], str(tmp_path / "out"), FAST, concurrency=1)
    assert len(read(tmp_path / "out")) == 80


def test_two_inputs_of_one_name(shards, tmp_path):
    with pytest.raises(ValueError, match="different file names"):
        verify_traces([shards[0], shards[0]], str(tmp_path), FAST, concurrency=1)


@pytest.fixture(scope="module")
def verifier():
    with AnswerVerifier(FAST) as shared:
        yield shared


def test_unusable_rows_get_a_verdict(verifier):
    """Nulls, other types and missing columns: as many rows out as in, none of them wrong."""
    schema = pa.schema([field.with_nullable(True) for field in TRACE])
    rows = [trace(0, r"\boxed{4}"), trace(1, None), trace(2, r"\boxed{4}", None), trace(3, "")]
    out = verify_table(pa.Table.from_pylist(rows, schema=schema), verifier, FAST)
    assert out.schema.equals(VERIFIED_TRACE)
    assert out["verdict"].to_pylist() == ["correct", "error", "gold_unparseable", "no_answer"]

    numbers = pa.table({"problem_id": ["a", "b"], "completion": [4, 5], "answer": ["4", "5"]})
    out = verify_table(numbers, verifier, FAST)
    assert out["verdict"].to_pylist() == ["error", "error"]


def test_finish_reason_counts(verifier):
    """A completion that was cut off has no answer, even if it stops at the right number."""
    rows = [trace(0, "so far 4", finish_reason="length"), trace(1, "so far 4", finish_reason="stop")]
    out = verify_table(pa.Table.from_pylist(rows, schema=TRACE), verifier, FAST)
    assert out["verdict"].to_pylist() == ["no_answer", "correct"]


@pytest.mark.parametrize("reason", ["unfinished", "abort", "ERROR", "tool_calls", "a word of tomorrow"])
def test_what_was_broken_off_is_never_wrong(verifier, reason: str):
    """Whatever was extracted, voted or decided, in either pass; what holds the answer is still correct."""
    against = {"label": "wrong", "judge": "wrong", "math_verify": "wrong"}
    texts = [r"\boxed{5}", r"\boxed{4}", "so far 5", r"\boxed{5}. Wait"]
    rows = [trace(i, text, finish_reason=reason, votes=stored_votes(against)) for i, text in enumerate(texts)]
    table = pa.Table.from_pylist(rows, schema=TRACE)
    first = verify_table(table, verifier, FAST)
    assert first["verdict"].to_pylist() == ["no_answer", "correct", "no_answer", "no_answer"]
    assert [votes_of(by)["math_verify"] for by in first["verdict_by"].to_pylist()] == first["verdict"].to_pylist()
    for policy in POLICIES:
        for reuse in (False, True):
            for votes in (["math_verify", "judge"], ["label"], ["label", "judge"]):
                if policy == "math_verify_only" and "math_verify" not in votes:
                    continue
                settings = VerifySettings(votes=votes, policy=policy, reuse_votes=reuse)
                assert "wrong" not in verify_table(table, verifier, settings)["verdict"].to_pylist()
                judged = decide_table(first, [Verdict.WRONG] * len(rows), settings)
                assert "wrong" not in judged["verdict"].to_pylist()
    whole = [{**row, "finish_reason": "length"} for row in rows]
    again = verify_table(pa.Table.from_pylist(whole, schema=TRACE), verifier, FAST)
    assert again["verdict"].to_pylist()[:2] == ["wrong", "correct"], "at its limit it had its chance"


def test_votes_and_policies(verifier):
    """Shipped labels and judgements count as configured; every vote stays readable."""
    shipped = [{"label": "correct"}, {"label": "wrong"}, {"label": None}, {"label": "perhaps"}]
    rows = [trace(i, r"\boxed{4}", votes=stored_votes(votes)) for i, votes in enumerate(shipped)]
    table = pa.Table.from_pylist(rows, schema=TRACE)

    def verdicts(**settings) -> list[str]:
        return verify_table(table, verifier, VerifySettings(**settings))["verdict"].to_pylist()

    assert verdicts() == ["correct"] * 4
    assert verdicts(votes=["math_verify", "label"]) == ["correct", "error", "error", "error"]
    assert verdicts(votes=["math_verify", "label"], policy="paper") == ["correct", "wrong", "wrong", "wrong"]
    assert verdicts(votes=["math_verify", "label"], policy="drop_disagreement") == [
        "correct",
        "error",
        "correct",
        "correct",
    ]
    out = verify_table(table, verifier, VerifySettings(votes=["label"]))
    assert out["verdict"].to_pylist() == ["correct", "wrong", "error", "error"]
    assert out["extracted_answer"].to_pylist() == ["4"] * 4, "extracted even where Math-Verify has no vote"
    assert out["verdict_by"].to_pylist()[1] == stored_votes({"label": "wrong"})


def test_shipped_math_verify_votes_can_stand(verifier):
    rows = [trace(0, r"\boxed{4}", votes=stored_votes({"math_verify": "wrong"})), trace(1, r"\boxed{4}")]
    table = pa.Table.from_pylist(rows, schema=TRACE)
    assert verify_table(table, verifier, VerifySettings())["verdict"].to_pylist() == ["correct", "correct"]
    kept = verify_table(table, verifier, VerifySettings(reuse_votes=True))
    assert kept["verdict"].to_pylist() == ["wrong", "correct"]
