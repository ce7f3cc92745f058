"""Rows of any step: every filter lets through what it says, pages hold while a run grows, and little is read for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_shards import CONFIG, make_run, numbers, score_of, table_of, trace, walk, write_shard

from redi_ray.report import scan
from redi_ray.report.filters import BrowseError, Range, TraceFilter
from redi_ray.report.row_pages import find_row, page
from redi_ray.report.row_places import Place, read_rows
from redi_ray.schemas import GROUP, PAIR, REJECT, VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Stage

ODD = ["a b", "x#0", "q?&=%2F", "../up", "é\u202e", '"><script>', "", "a:3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 traces in 4 shards of 4 groups, with a column of numbers."""
    uri = str(tmp_path_factory.mktemp("runs") / "run")
    make_run(uri)
    return uri


FILTERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any], int], bool]]] = {
    "none": ({}, lambda row, n: True),
    "verdict": ({"verdicts": ["wrong", "timeout"]}, lambda row, n: row["verdict"] != "correct"),
    "source": ({"sources": ["book"]}, lambda row, n: n % 2 == 1),
    "problem": ({"problem_ids": ["p3", "p7"]}, lambda row, n: n // 2 in (3, 7)),
    "vote": ({"votes": {"judge": "wrong"}}, lambda row, n: n % 4 == 0),
    "votes that differ": (
        {"votes": {"judge": "wrong", "math_verify": "correct"}},
        lambda row, n: n % 4 == 0 and n % 3 == 1,
    ),
    "tokens": (
        {"tokens": Range(50, 210)},
        lambda row, n: row["num_tokens"] is not None and 50 <= row["num_tokens"] <= 210,
    ),
    "characters": ({"min_length": 60}, lambda row, n: len(row["completion"]) >= 60),
    "score": ({"scores": {"scored": Range(1.0, 2.5)}}, lambda row, n: n % 5 != 1 and 1.0 <= n / 10 <= 2.5),
    "score with one bound": ({"scores": {"scored": Range(None, 0.5)}}, lambda row, n: n % 5 != 1 and n <= 5),
    "finish": ({"among": {"finish_reason": ["length"]}}, lambda row, n: n % 5 == 0),
    "text, any case": ({"text": "wHAT IS 1"}, lambda row, n: str(n).startswith("1")),
    "text is no pattern": ({"text": "$5 (a+b)*"}, lambda row, n: True),
    "text with a percent sign": ({"text": "%"}, lambda row, n: False),
    "all at once": (
        {
            "verdicts": ["wrong"], "sources": ["web"], "tokens": Range(20, None), "scores": {"scored": Range(0, 3.5)},
            "text": "think", "votes": {"math_verify": "wrong"}, "max_length": 200, "among": {"model": ["teacher"]},
        },
        lambda row, n: n % 3 == 0 and n % 2 == 0 and (row["num_tokens"] or 0) >= 20 and n % 5 != 1 and n <= 35
        and n % 7 > 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_pages_hold_what_a_filter_lets_through(run: str, name: str):
    """In order, each row once, whether pages are turned forwards or backwards, and the count is theirs."""
    asked, holds = FILTERS[name]
    wanted, right = TraceFilter(**asked), [n for n in range(40) if holds(trace(n), n)]
    pages = walk(run, wanted)
    assert [n for found in pages for n in numbers(found)] == right
    assert all((found.count, found.whole) == (len(right), True) for found in pages)
    assert pages[0].previous is None
    back, before = list[int](), pages[-1].previous
    while before is not None:
        found = page(table_of(run), wanted, before=before, limit=4)
        back, before = [*numbers(found), *back], found.previous
    assert back == right[: len(back)]
    assert len(back) == max(0, 4 * (len(pages) - 1))


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "text with a percent sign"])
def test_a_filter_lets_something_through(name: str):
    """Or the test above would hold of one that lets nothing through."""
    assert any(FILTERS[name][1](trace(n), n) for n in range(40))


def test_the_same_on_s3(bucket: str):
    run = storage.join(bucket, "run")
    make_run(run)
    for name in ("verdict", "all at once"):
        asked, holds = FILTERS[name]
        right = [n for n in range(40) if holds(trace(n), n)]
        assert [n for found in walk(run, TraceFilter(**asked), limit=20) for n in numbers(found)] == right
    place = find_row(table_of(run), "p19#1")
    assert place == Place("round-000/part-03b.parquet", 9)
    assert read_rows(table_of(run).shard(place.shard), [9], large=True)[9]["completion"] == trace(39)["completion"]


def test_scores_stand_beside_the_rows(run: str):
    found = page(table_of(run), TraceFilter(verdicts=["wrong"]), limit=5)
    assert [row.numbers["scored"] for row in found.rows] == [score_of(n) for n in numbers(found)]


def test_pages_hold_while_a_run_grows(tmp_path: Path):
    """Shards that come before and behind a page move no row of it; an unfinished step is looked at as far as it has got."""
    run = str(tmp_path / "run")
    stage = make_run(run, publish=False)
    assert not table_of(run).finished
    first = page(table_of(run), TraceFilter(), limit=15)
    write_shard(stage, "part-00a.parquet", [trace(100)])
    write_shard(stage, "part-99.parquet", [trace(200)])
    second = page(table_of(run), TraceFilter(), limit=100, after=first.following)
    assert numbers(first) == list(range(15))
    assert numbers(second) == [*range(15, 40), 200]
    assert second.count == 42
    assert table_of(run).beside == {}, "a column that lacks shards cannot be filtered by"
    again = page(table_of(run), TraceFilter(), limit=15, before=second.previous)
    assert numbers(again) == list(range(15))


def test_a_large_file_is_looked_at_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan, "UNIT_BYTES", 1)
    monkeypatch.setattr("redi_ray.report.row_pages.UNIT_BYTES", 1)
    make_run(str(tmp_path))
    table = table_of(str(tmp_path))
    assert len(list(scan.units_of(table.shards))) == 16
    for name in ("none", "score", "all at once", "text, any case"):
        test_pages_hold_what_a_filter_lets_through(str(tmp_path), name)


def test_rows_are_found_by_their_ids(tmp_path: Path):
    """Whatever is in them; a hint that is out of date does no harm, and a row that is gone is told."""
    run = str(tmp_path / "run")
    stage = Stage(run, "verified", {}, {})
    storage.write_bytes(storage.join(run, "config.yaml"), CONFIG.encode())
    for number, name in enumerate(ODD):
        write_shard(stage, f"part-{number}.parquet", [trace(number), trace(number, trace_id=name)])
    table = table_of(run)
    for number, name in enumerate(ODD):
        right = Place(f"round-000/part-{number}.parquet", 1)
        for hint in (None, right, Place("round-000/part-0.parquet", 0), Place("gone.parquet", 7)):
            assert find_row(table, name, hint) == right
        assert Place.parse(str(right)) == right
    with pytest.raises(BrowseError, match="verified has no row 'nobody'"):
        find_row(table, "nobody")
    for wrong in ("", "x", ":3", "a:b"):
        with pytest.raises(BrowseError, match="no place of a row"):
            Place.parse(wrong)
    with pytest.raises(BrowseError, match="no row 99; it has 2"):
        read_rows(table.shards[0], [99], large=True)


def test_little_is_read_of_what_is_not_shown(tmp_path: Path):
    """A list and its filters on small columns leave the completions alone: they are damaged here."""
    run = str(tmp_path / "run")
    make_run(run)
    for shard in table_of(run).shards:
        data = bytearray(Path(shard.uri).read_bytes())
        for group in range(4):
            column = pq.read_metadata(shard.uri).row_group(group).column(VERIFIED_TRACE.names.index("completion"))
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
        Path(shard.uri).write_bytes(data)
    asked = TraceFilter(verdicts=["wrong"], tokens=Range(1, 300), scores={"scored": Range(0, 9)})
    assert numbers(page(table_of(run), asked)) == [3, 9, 12, 15, 18, 24, 27, 30]
    with pytest.raises(BrowseError, match="cannot be read as Parquet"):
        page(table_of(run), TraceFilter(text="x"))


def test_texts_are_found_in_turns_messages_and_members(tmp_path: Path):
    run = str(tmp_path / "run")
    stage = make_run(run, publish=False)
    turns = [{"role": "tool", "content": "42 apples"}, {"role": "assistant", "content": "so 42"}]
    write_shard(stage, "part-50.parquet", [trace(300), trace(301, turns=turns), trace(302, turns=turns[1:])])
    found = page(table_of(run), TraceFilter(text="42 APPLES"))
    assert numbers(found) == [301]
    assert found.rows[0].excerpt == "42 apples"
    prompt = [{"role": "user", "content": "a question"}]
    pair = {"problem_id": "p", "prompt": prompt, "chosen_finished": True, "rejected_finished": True}
    pairs = [
        {**pair, "pair_id": name, "chosen": [{"role": "assistant", "content": f"yes {name}"}], "rejected": turns}
        for name in ("one", "two")
    ]
    member = {"side": 1, "reward": None, "finished": True, "spans": None}
    groups = [
        {"group_id": name, "problem_id": "p", "prompt": prompt, "members": [{**member, "turns": turns[:count]}] * count}
        for name, count in (("none", 0), ("tool", 1), ("both", 2))
    ]
    reject = {"where": "x.jsonl:3", "reason": "no_answer", "detail": None, "raw": "{}"}
    for step, name, rows, schema in (
        ("curated", "pairs", pairs, PAIR),
        ("curated", "rejects", [reject], REJECT),
        ("steps/grouped/groups", "groups", groups, GROUP),
    ):
        uri = storage.join(run, step, "0123", name, "part-0.parquet")
        parquet.write_table(uri, pa.Table.from_pylist(rows, schema=schema))
    assert [row.values["pair_id"] for row in page(table_of(run, "curated"), TraceFilter(text="YES two")).rows] == [
        "two"
    ]
    assert page(table_of(run, "curated"), TraceFilter(text="apples")).count == 2
    ids = [row.values["group_id"] for row in page(table_of(run, "grouped"), TraceFilter(text="so 42")).rows]
    assert ids == ["both"]
    rejects = table_of(run, "curated", "rejects")
    assert page(rejects, TraceFilter(among={"reason": ["no_answer"]})).rows[0].values["where"] == "x.jsonl:3"
    assert rejects.tables == ["pairs", "rejects"]


def test_bytes_that_are_no_text_are_shown(tmp_path: Path):
    """A lone surrogate that another program wrote: the row is shown with a mark in its place, the others as they are."""
    run = str(tmp_path / "run")
    make_run(run)
    (shard, *_) = table_of(run).shards
    rows = pq.read_table(shard.uri)
    at = VERIFIED_TRACE.names.index("completion")
    spoilt = pa.array([b"before \xed\xa0\x80 behind", *[b"fine"] * 9], pa.binary()).view(pa.string())
    pq.write_table(rows.set_column(at, VERIFIED_TRACE.field(at), spoilt), shard.uri)
    (shard, *_) = table_of(run).shards
    assert read_rows(shard, [0], large=True)[0]["completion"].startswith("before \ufffd")
    assert page(table_of(run), TraceFilter(text="Behind")).rows[0].excerpt.endswith(" behind")


def test_what_cannot_be_filtered_by_is_told(run: str):
    for asked, told in (
        ({"among": {"flavour": ["x"]}}, "no `flavour`, so it cannot be filtered by; they have problem_id"),
        ({"scores": {"taste": Range(0, 1)}}, "no column taste with numbers beside these rows; there are scored"),
    ):
        with pytest.raises(BrowseError, match=told):
            page(table_of(run), TraceFilter(**asked))
    with pytest.raises(BrowseError, match="no verdict rong"):
        TraceFilter(votes={"judge": "rong"})
    with pytest.raises(BrowseError, match="step curated has no rows yet"):
        table_of(run, "curated")
    with pytest.raises(BrowseError, match="step verified has no pairs; tables with rows: verified"):
        table_of(run, "verified", "pairs")
