"""Two columns of tokens: how far apart they are, token by token, and what ends a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from redi_ray.config.token_steps import CheckSettings
from redi_ray.data.columns import ColumnError
from redi_ray.eval.check_tokens import differences, fault
from redi_ray.schemas import TRACE, token_scores
from redi_ray.store import parquet

Values = list[list[float] | None]


def shards(folder: Path, *columns: Values, tokenizers: tuple[str, str] = ("t", "t")) -> list[tuple[str, str, str]]:
    keys = [f"p#{n}" for n in range(len(columns[0]))]
    rows = [
        {"problem_id": "p", "problem": "", "trace_id": key, "sample_index": n, "completion": ""}
        for n, key in enumerate(keys)
    ]
    parquet.write_table(f"{folder}/samples", pa.Table.from_pylist(rows, schema=TRACE))
    for place, (values, tokenizer) in enumerate(zip(columns, tokenizers, strict=True)):
        found = [{"trace_id": key, "values": value} for key, value in zip(keys, values, strict=True)]
        parquet.write_table(f"{folder}/{place}", pa.Table.from_pylist(found, schema=token_scores(tokenizer)))
    return [(f"{folder}/samples", f"{folder}/0", f"{folder}/1")]


def test_the_difference_is_told_per_token(tmp_path: Path):
    """Three tokens: 0.5 below, 0.25 above, equal. A sample that one column leaves out is not compared."""
    counts, told = differences(shards(tmp_path, [[-1.0, -2.0], [-3.0], None], [[-0.5, -2.25], [-3.0], [-1.0]]))
    assert counts == {"in": 3, "compared": 2, "not_in_both": 1}
    assert (told["tokens"], told["max_difference"], told["worst"]) == (3, 0.5, "p#0")
    assert told["mean_difference"] == pytest.approx(0.25)
    assert told["signed_difference"] == pytest.approx(-0.25 / 3)
    assert told["share_up_to"]["0.1"] == pytest.approx(1 / 3)
    assert told["share_up_to"]["1"] == 1


def test_limits_are_of_the_largest_and_of_the_mean(tmp_path: Path):
    _, told = differences(shards(tmp_path, [[-1.0, -2.0]], [[-1.0, -2.5]]))
    assert fault(told, CheckSettings(max_difference=0.5)) is None
    assert fault(told, CheckSettings(max_difference=0.4)) == (
        "max_difference 0.5 > 0.4 nats a token over 2 tokens, the most in p#0"
    )
    assert fault(told, CheckSettings(max_difference=1, mean_difference=0.25)) is None
    assert "mean_difference 0.25 > 0.2" in str(fault(told, CheckSettings(max_difference=1, mean_difference=0.2)))


def test_what_is_no_number_is_never_near(tmp_path: Path):
    _, told = differences(shards(tmp_path, [[np.nan]], [[-1.0]]))
    assert "max_difference inf" in str(fault(told, CheckSettings(max_difference=1e9)))


def test_other_tokens_and_other_tokenizers_are_errors(tmp_path: Path):
    with pytest.raises(ColumnError, match="p#0: one column has 1 tokens and the other 2"):
        differences(shards(tmp_path / "a", [[-1.0]], [[-1.0, -2.0]]))
    with pytest.raises(ColumnError, match="values of the tokens of another tokenizer"):
        differences(shards(tmp_path / "b", [[-1.0]], [[-1.0]], tokenizers=("t", "u")))


def test_nothing_in_both_says_nothing(tmp_path: Path):
    assert differences(shards(tmp_path, [None], [[-1.0]])) == ({"in": 1, "not_in_both": 1}, {})
