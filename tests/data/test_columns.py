"""Columns beside samples: read side by side whatever their row groups are, refused where they are of other samples."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.data.columns import ColumnError, beside, check_grain, write_column
from redi_ray.schemas import JUDGEMENT, SCORE, SPAN_SCORE, token_scores
from redi_ray.store import parquet


@pytest.fixture
def samples(tmp_path: Path) -> str:
    """1,300 samples in row groups of 500."""
    uri = f"{tmp_path}/samples.parquet"
    table = pa.table({"trace_id": [f"t{n}" for n in range(1300)], "completion": ["x" * (n % 7) for n in range(1300)]})
    pq.write_table(table, uri, row_group_size=500)
    return uri


def test_a_column_lies_beside_its_samples(samples: str, tmp_path: Path) -> None:
    """Each row by its own sample, whatever the sizes of the row groups; nulls stay nulls."""
    uri, other = f"{tmp_path}/score.parquet", f"{tmp_path}/other.parquet"

    def lengths(rows: pa.Table) -> list[dict]:
        return [{"value": len(text) if text else None} for text in rows["completion"].to_pylist()]

    assert write_column(samples, uri, SCORE, ["completion"], lengths) == 1300
    pq.write_table(pq.read_table(uri), other, row_group_size=333)
    seen = 0
    for rows, (one, two) in beside(samples, [uri, other], ["completion"]):
        wanted = [len(text) or None for text in rows["completion"].to_pylist()]
        assert one["value"].to_pylist() == two["value"].to_pylist() == wanted
        seen += rows.num_rows
    assert seen == 1300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda keys: [*keys[:700], "t0", *keys[701:]], "row 700 is of t0, and in .*samples.parquet it is t700"),
        (lambda keys: keys[:1299], "row 1299 is missing, and in .* it is t1299"),
        (lambda keys: [*keys, "t0"], "more rows than the 1300 of"),
    ],
    ids=["another", "fewer", "more"],
)
def test_a_column_of_other_samples_is_refused_by_file_and_row(samples: str, tmp_path: Path, change, told: str) -> None:
    uri = f"{tmp_path}/wrong.parquet"
    keys = change([f"t{n}" for n in range(1300)])
    parquet.write_table(uri, pa.Table.from_pylist([{"trace_id": key, "value": 1.0} for key in keys], schema=SCORE))
    with pytest.raises(ColumnError, match=f"wrong.parquet.*{told}"):
        list(beside(samples, [uri], []))


def test_a_column_says_its_grain_and_its_tokenizer(tmp_path: Path) -> None:
    for name, schema in (("row", SCORE), ("judge", JUDGEMENT), ("span", SPAN_SCORE), ("token", token_scores("abc"))):
        parquet.write_table(f"{tmp_path}/{name}", schema.empty_table())
    check_grain(f"{tmp_path}/judge", "row")
    check_grain(f"{tmp_path}/token", "token", "abc")
    with pytest.raises(ColumnError, match="at grain span; one at grain row is needed"):
        check_grain(f"{tmp_path}/span", "row")
    with pytest.raises(ColumnError, match=r"another tokenizer \(abc, not abd"):
        check_grain(f"{tmp_path}/token", "token", "abd")
