"""Critical tokens by rollouts: where all is lost, and how small a column's numbers are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.data.columns import ColumnError
from redi_ray.eval.critical import critical_token, judge_column, rank_of, scores
from redi_ray.schemas import token_scores
from redi_ray.store import parquet


@pytest.mark.parametrize(
    ("right", "later", "token"),
    [
        ([5, 0, 9, 0, 1, 0], 3, 3),  # the 0 before the 9 is a mishap: it can still be solved
        ([5, 0, 3, 0, 0], 3, 1),
        ([5, 0, 3, 0, 0], 2, 3),
        ([0, 0], 0, 0),
        ([64, 60, 4], 3, None),
        ([64, 60, 1], 3, None),
        ([], 3, None),
    ],
)
def test_the_first_token_behind_which_all_is_lost(right: list[int], later: int, token: int | None):
    assert critical_token(right, later) == token


def test_the_rank_of_a_number_among_its_samples():
    values = [0.9, 0.2, 0.9, 0.5]
    assert [rank_of(values, token) for token in range(4)] == [pytest.approx(x) for x in (2.5 / 3, 0, 2.5 / 3, 1 / 3)]
    assert rank_of([0.1], 0) is None


def write(folder: Path, rights: dict[str, list[int]], values: dict[str, Any], samples: int = 4) -> tuple[str, str]:
    """Continuations, so many of them right behind each token, in another order than the column."""
    rows = [
        {"problem_id": f"{trace}@{token}", "verdict": "correct" if n < number else "wrong"}
        for trace, right in reversed(rights.items())
        for token, number in enumerate(right)
        for n in range(samples)
    ]
    verified, column = str(folder / "verified.parquet"), str(folder / "column.parquet")
    parquet.write_table(verified, pa.Table.from_pylist(rows))
    told = [{"trace_id": trace, "values": found} for trace, found in values.items()]
    parquet.write_table(column, pa.Table.from_pylist(told, schema=token_scores("mine")))
    return verified, column


def test_a_column_is_judged_by_the_samples_that_were_drawn(tmp_path: Path):
    """Of five drawn ones two have a critical token; a number for the token that closes a turn, or none, is the same."""
    rights = {"p#0": [4, 3, 0, 0], "p#1": [4, 0, 0], "p#2": [4, 4], "q@1#0": [0, 0], "q@1#1": [1, 0]}
    values = {
        "p#0": [0.9, 0.8, 0.1, 0.7, 0.99], "p#1": [0.2, 0.3, 0.4], "p#2": [0.5, 0.5], "q@1#0": None, "q@1#1": [0.1] * 5,
        "of no interest": [0.1],
    }  # fmt: skip
    verified, column = write(tmp_path, rights, values)
    rows, counts = judge_column([verified], [column], "mine", later=0)
    assert counts == {"drawn": 5, "judged": 3, "no_numbers": 1, "other_tokens": 1}
    assert [(row["trace_id"], row["critical"], row["rank"]) for row in rows] == [
        ("p#0", 2, 0),
        ("p#1", 1, 0.5),
        ("p#2", None, None),
    ]
    assert rows[0]["right"] == [4, 3, 0, 0]
    told = scores(rows)
    assert (told["with_critical"], told["without_critical"]) == (2, 1)
    assert told["auc"] == pytest.approx(0.75)
    assert told["auc_sem"] == pytest.approx(0.25)
    assert (told["top_1"], told["top_1_by_chance"]) == (0.5, pytest.approx((1 / 4 + 1 / 3) / 2))
    assert (told["top_5"], told["top_5_by_chance"]) == (1, 1)
    assert told["place"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert told["value"] == pytest.approx(0.2)
    with pytest.raises(ColumnError, match="another tokenizer"):
        judge_column([verified], [column], "theirs", later=0)
    assert scores([]) == {"with_critical": 0, "without_critical": 0}
