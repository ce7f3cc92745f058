"""Drawing of a mixture: the same problems whatever the shards, exactly as many as asked for, each as often as its epochs say,
with all that belongs to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from redi_ray.data.mix.draw import OF_EPOCH, TABLES, Part, draw, named, parts_of, write_part
from redi_ray.data.mix.overlaps import held_out_elsewhere
from redi_ray.schemas import PROBLEM, TESTS, TRACE
from redi_ray.store import parquet

NUMBER = 300


def write_source(folder: Path, rows_per_shard: int) -> dict[str, list[str]]:
    """Shards by table: problems, and two traces and a row of tests for each."""
    problems = [{"problem_id": f"p{at}", "problem": f"P {at}", "answer": None, "source": None if at % 2 else "own"}
                for at in range(NUMBER)]  # fmt: skip
    traces = [
        {**row, "trace_id": f"{row['problem_id']}#{at}", "sample_index": at, "completion": "c",
         "finish_reason": "stop" if at else None}
        for row in problems for at in range(2)
    ]  # fmt: skip
    tests = [{"problem_id": row["problem_id"], "problem": at, "tests": "t"} for at, row in enumerate(problems)]
    found: dict[str, list[str]] = {}
    for table, rows, schema in (("problems", problems, PROBLEM), ("imported", traces, TRACE), ("tests", tests, TESTS)):
        for start in range(0, len(rows), rows_per_shard):
            uri = str(folder / table / f"part-{start:05d}.parquet")
            parquet.write_table(uri, pa.Table.from_pylist(rows[start : start + rows_per_shard], schema=schema))
            found.setdefault(table, []).append(uri)
    return found


def mixture(
    folder: Path, tables: dict[str, list[str]], taken: int, seed: int = 1
) -> dict[str, list[dict[str, object]]]:
    """Rows by table of `taken` problems of the source."""
    drawn = draw(tables["problems"], "a", taken, seed)
    rows: dict[str, list[dict[str, object]]] = {table: [] for table in TABLES}
    for part in parts_of({"a": (drawn, taken / NUMBER, tables)}, str(folder)):
        assert write_part(part)["out"] == len(next(parquet.read_tables([part.out])))
        rows[part.table] += next(parquet.read_tables([part.out])).to_pylist()
    return rows


@pytest.mark.parametrize("taken", [1, 120, 300, 450, 900])
def test_as_many_as_asked_for_the_same_under_any_sharding(taken: int, tmp_path: Path) -> None:
    small = mixture(tmp_path / "x", write_source(tmp_path / "small", 17), taken)
    large = mixture(tmp_path / "y", write_source(tmp_path / "large", 1000), taken)
    for table in ("problems", "imported", "tests"):
        assert sorted(map(str, small[table])) == sorted(map(str, large[table])), table
    ids = [str(row["problem_id"]) for row in small["problems"]]
    assert len(ids) == len(set(ids)) == taken
    assert sum("~again" in name for name in ids) == max(0, taken - NUMBER)
    assert sorted(f"{name}#{at}" for name in ids for at in range(2)) == sorted(
        str(r["trace_id"]) for r in small["imported"]
    )
    assert sorted(ids) == sorted(str(row["problem_id"]) for row in small["tests"])


def test_more_of_a_source_holds_what_less_of_it_held(tmp_path: Path) -> None:
    """A mixture that grows samples nothing again."""
    tables = write_source(tmp_path / "s", 50)
    less, more = (
        {str(row["problem_id"]) for row in mixture(tmp_path / str(n), tables, n)["problems"]} for n in (50, 90)
    )
    assert less < more
    other = {str(row["problem_id"]) for row in mixture(tmp_path / "o", tables, 50, seed=2)["problems"]}
    assert other != less


def test_ids_of_another_mixture_are_told_apart_from_problems_that_come_again() -> None:
    ids = ["x", "x~again2", "x~again2~", "x~", "x~again"]
    rows = pa.Table.from_pylist(
        [{"problem_id": one, "problem": "p", "answer": None, "source": None} for one in ids], PROBLEM
    )
    found = [name for epoch in (1, 2) for name in named(rows, "a", epoch)["problem_id"].to_pylist()]
    assert len(set(found)) == 2 * len(ids)
    assert [name for name in found if OF_EPOCH.search(name)] == found[len(ids) :], "only those of the second epoch"
    assert found[:3] == ["a/x", "a/x~again2~", "a/x~again2~~"]


def test_what_another_source_holds_out_is_not_drawn(tmp_path: Path) -> None:
    """By its text; of a problem with an answer the source has held it out itself."""
    tables = write_source(tmp_path / "s", 50)
    dev = str(tmp_path / "dev.parquet")
    parquet.write_table(dev, pa.Table.from_pylist(
        [{"problem_id": "q", "problem": text, "answer": "1", "source": None} for text in ("p  7.", "Q 1")], PROBLEM))  # fmt: skip
    assert held_out_elsewhere([dev], {"a": tables["problems"]}, {"a": tables["imported"]}) == {"a": (["p7"], 2)}
    left = [f"p{at}" for at in range(0, NUMBER, 2)]
    drawn = draw(tables["problems"], "a", NUMBER // 2 + 30, 1, left)
    copies = drawn.copies([f"p{at}" for at in range(NUMBER)])
    assert copies.sum() == NUMBER // 2 + 30
    assert not copies[::2].any()
    assert set(copies[1::2].tolist()) == {1, 2}


def test_ids_and_sources_begin_with_the_sources_name(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(
        [{"problem_id": "1", "problem": "p", "answer": None, "source": own} for own in (None, "b/c")], schema=PROBLEM
    )
    assert named(rows, "a", 2).select(["problem_id", "source"]).to_pylist() == [
        {"problem_id": "a/1~again2", "source": "a"}, {"problem_id": "a/1~again2", "source": "a/b/c"},
    ]  # fmt: skip


def test_a_shard_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    tables = write_source(tmp_path / "s", 100)
    drawn = draw(tables["problems"], "a", 150, 1)
    part = Part(drawn, "problems", tuple(tables["problems"]), str(tmp_path / "out.parquet"))
    first = write_part(part)
    before = Path(part.out).stat().st_mtime_ns
    assert write_part(part) == first
    assert Path(part.out).stat().st_mtime_ns == before
