"""Which samples a selection keeps by a column: those that sorting by hand keeps, ties by id, whatever the shards."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curation_runs import trace, write_shards

from redi_ray.config.selection import KeptSamples
from redi_ray.data.columns import ColumnError
from redi_ray.data.curate.kept import reasons_of_samples
from redi_ray.data.curate.problems import Kept, select
from redi_ray.schemas import column
from redi_ray.store import parquet, storage

VALUE = column("row", pa.field("value", pa.float64()))
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def samples(test_data: Path) -> Rows:
    """800 real samples of 100 problems, with their length in hundreds of characters: many are equal, every 13th has none."""
    found = []
    with gzip.open(test_data / "traces/qwen2.5math_cot_100x8.jsonl.gz", "rt") as file:
        for number, row in enumerate(map(json.loads, file)):
            for index, (text, right) in enumerate(zip(row["code"], row["score"], strict=True)):
                made = trace(f"p{number}", index, "correct" if right else "wrong", text)
                place = len(found)
                found.append({**made, "value": None if place % 13 == 0 else len(text) // 100})
    return found


def written(folder: Path, samples: Rows, shards: int) -> tuple[list[str], list[str]]:
    """The samples dealt out to so many shards, and the column beside them."""
    parts = [samples[n::shards] for n in range(shards)]
    columns = []
    for number, part in enumerate(parts):
        rows = [{"trace_id": row["trace_id"], "value": row["value"]} for row in part]
        columns.append(f"{folder}/column/part-{number}.parquet")
        parquet.write_table(columns[-1], pa.Table.from_pylist(rows, schema=VALUE))
    return write_shards(
        folder, [[{k: v for k, v in row.items() if k != "value"} for row in part] for part in parts]
    ), columns


def kept(
    folder: Path, samples: Rows, wanted: KeptSamples, shards: int = 3, like: Rows | None = None
) -> tuple[Kept, set[str]]:
    """The counts, and the ids of what is there afterwards."""
    uris, columns = written(folder, samples, shards)
    others = write_shards(folder / "like", [like]) if like is not None else []
    made = select(uris, uris, others, columns, f"{folder}/in", f"{folder}/out", wanted)
    tables = parquet.read_tables(storage.list_files(f"{folder}/out"), ["trace_id"])
    return made, {key for table in tables for key in table["trace_id"].to_pylist()}


def by_hand(samples: Rows, sign: int, per_problem: int, overall: int, verdict: str | None = None) -> set[str]:
    """With Python's sort alone."""
    fit = [row for row in samples if row["value"] is not None and verdict in (None, row["verdict"])]
    fit.sort(key=lambda row: (sign * row["value"], row["problem_id"], row["sample_index"]))
    counts, found = Counter[str](), []
    for row in fit:
        counts[row["problem_id"]] += 1
        if counts[row["problem_id"]] <= per_problem:
            found.append(row["trace_id"])
    return set(found[:overall])


@pytest.mark.parametrize(
    ("settings", "hand"),
    [
        ({"per_problem": 2}, (-1, 2, 10**9)),
        ({"per_problem": 1, "order": "lowest"}, (1, 1, 10**9)),
        ({"overall": 50}, (-1, 10**9, 50)),
        ({"overall": 50, "order": "lowest", "per_problem": 1}, (1, 1, 50)),
        ({"per_problem": 3, "verdicts": ["correct"]}, (-1, 3, 10**9, "correct")),
    ],
)
def test_the_best_of_real_samples(tmp_path: Path, samples: Rows, settings: dict[str, Any], hand: Any) -> None:
    made, ids = kept(tmp_path, samples, KeptSamples(**settings))
    assert ids == by_hand(samples, *hand)
    assert made.rows == len(ids) == sum(made.verdicts.values())
    assert made.rows + sum(made.left_out.values()) == len(samples) == 800
    wrong = sum(row["verdict"] == "wrong" for row in samples if "verdicts" in settings)
    assert made.left_out.get("verdict_wrong", 0) == wrong
    right_or_all = [row for row in samples if "verdicts" not in settings or row["verdict"] == "correct"]
    assert made.left_out["no_score"] == sum(row["value"] is None for row in right_or_all)
    assert kept(tmp_path / "whole", samples[::-1], KeptSamples(**settings), shards=1)[1] == ids, "whatever the shards"


def test_bounds_hold_their_ends_and_come_first(tmp_path: Path, samples: Rows) -> None:
    values = [row["value"] for row in samples if row["value"] is not None]
    made, ids = kept(tmp_path, samples, KeptSamples(at_least=10, at_most=20))
    assert len(ids) == sum(10 <= value <= 20 for value in values)
    assert made.left_out == {
        "too_low": sum(value < 10 for value in values),
        "too_high": sum(value > 20 for value in values),
        "no_score": 800 - len(values),
    }
    best = kept(tmp_path / "best", samples, KeptSamples(at_most=20, overall=1))[1]
    assert best == by_hand([row for row in samples if (row["value"] or 0) <= 20], -1, 10**9, 1)


def test_equal_numbers_leave_the_first_ids(tmp_path: Path) -> None:
    """The order is of problem and index, not of `p#10` and `p#2` as text."""
    same = [{**trace(problem, index, "correct"), "value": 1.0} for problem in "ba" for index in (10, 2, 7)]
    assert kept(tmp_path, same, KeptSamples(per_problem=2))[1] == {"a#2", "a#7", "b#2", "b#7"}
    assert kept(tmp_path / "all", same, KeptSamples(overall=1))[1] == {"a#2"}
    nan = [{**row, "value": float("nan")} for row in same[:3]] + same[3:]
    made, ids = kept(tmp_path / "nan", nan, KeptSamples(overall=9, order="lowest"))
    assert (made.left_out, len(ids)) == ({"no_score": 3}, 3)


def test_chance_is_as_large_and_by_the_seed_alone(tmp_path: Path, samples: Rows) -> None:
    """A control has the size of what it is held against: so many of each problem, or as many as a step has."""
    drawn = [
        kept(tmp_path / str(n), rows, KeptSamples(order="random", per_problem=2, seed=seed))[1]
        for n, (rows, seed) in enumerate(((samples, 0), (samples[::-1], 0), (samples, 1)))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    counts = defaultdict(int)
    for key in drawn[0]:
        counts[key.split("#")[0]] += 1
    assert [*counts.values()] == [2] * 100
    like = [{k: v for k, v in row.items() if k != "value"} for row in samples[:37]]
    made, _ = kept(tmp_path / "like", samples, KeptSamples(order="random", like="some"), like=like)
    assert (made.rows, made.left_out) == (37, {"no_score": 62, "over_overall": 701})
    uris = storage.list_files(f"{tmp_path}/0/in")
    without = list(reasons_of_samples(uris, (), (), KeptSamples(order="random", overall=5)))
    assert Counter(reason for part in without for reason in part) == {"": 5, "over_overall": 795}, "needs no column"


def test_a_column_of_other_samples_is_refused(tmp_path: Path, samples: Rows) -> None:
    uris, columns = written(tmp_path, samples, 2)
    with pytest.raises(ColumnError, match="make the column again"):
        list(reasons_of_samples(uris, columns[::-1], (), KeptSamples(overall=5)))


def test_shards_of_one_row_and_of_none(tmp_path: Path) -> None:
    def told() -> Iterator[int]:
        for number in (0, 1):
            rows = [{**trace("p", index, "wrong"), "value": 1} for index in range(number)]
            uris, columns = written(tmp_path / str(number), rows, 1)
            yield from map(len, reasons_of_samples(uris, columns, (), KeptSamples(per_problem=1)))

    assert [*told()] == [0, 1]
