"""The engine's own log-probs as a column: of the very tokens that are trained on, for any part of the samples, or none at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from curation_runs import trace
from test_token_scoring import PROMPT, TURNS, tiny

from redi_ray.config.token_steps import LogpsSettings
from redi_ray.config.training import ModelOverrides
from redi_ray.data.columns import ColumnError, beside, check_grain
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import SAMPLED_TRACE, VERIFIED_TRACE
from redi_ray.stages.stored_logps import StoredLogps, store_shard
from redi_ray.store import parquet
from redi_ray.text.templates import closing_id

NAME = "round-000/part-0.parquet"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("model"), 0)


def drawn(model: str, number: int, text: str, *, ends: bool = True, **columns: Any) -> dict[str, Any]:
    """A wrong sample as it was drawn: one log-prob after the other, so that none is another's."""
    tokenizer = load_tokenizer(model)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + ([closing_id(tokenizer)] if ends else [])
    logps = [-(number + 1) - at / 64 for at in range(len(ids))]
    told = {"finish_reason": "stop" if ends else "length", "token_ids": ids, "logps": logps}
    return trace(
        "p", number, "wrong" if number % 2 else "correct", PROMPT.prefix + text, problem="1+1", **told | columns
    )


def written(folder: Path, model: str, rows: list[dict[str, Any]], kept: list[int] | None = None) -> StoredLogps:
    """The rows as traces, and those of them with these numbers as samples with verdicts."""
    parquet.write_table(f"{folder}/traces/{NAME}", pa.Table.from_pylist(rows, schema=SAMPLED_TRACE))
    some = rows if kept is None else [rows[at] for at in kept]
    parquet.write_table(f"{folder}/verified/{NAME}", pa.Table.from_pylist(some, schema=VERIFIED_TRACE))
    places = (f"{folder}/verified", f"{folder}/traces", f"{folder}/out")
    return StoredLogps(*places, model, model, LogpsSettings(), PROMPT, ModelOverrides())


def column(how: StoredLogps) -> dict[str, list[float] | None]:
    """Beside its samples, row by row."""
    pairs = beside(f"{how.samples}/{NAME}", [f"{how.out_uri}/column/{NAME}"], [])
    return {row["trace_id"]: row["values"] for _, (found,) in pairs for row in found.to_pylist()}


def test_the_column_has_the_engines_numbers_to_the_bit(tmp_path: Path, model: str):
    """Of finished samples with the token that closed them, of those that were cut off without."""
    rows = [drawn(model, n, f"{n}+1={n}", ends=n != 2) for n in range(4)]
    how = written(tmp_path, model, rows)
    assert store_shard(NAME, how) == Counter({"in": 4, "scored": 4, "tokens": 3 * 6 + 5})
    assert column(how) == {row["trace_id"]: np.float32(row["logps"]).tolist() for row in rows}
    check_grain(f"{how.out_uri}/column/{NAME}", "token", tokenizer_fingerprints(load_tokenizer(model))["tokenizer"])


def test_of_selected_samples_it_has_theirs(tmp_path: Path, model: str):
    rows = [drawn(model, n, f"{n}") for n in range(6)]
    how = written(tmp_path, model, rows, kept=[1, 4])
    assert store_shard(NAME, how)["scored"] == 2
    assert column(how) == {rows[at]["trace_id"]: np.float32(rows[at]["logps"]).tolist() for at in (1, 4)}
    missing = written(tmp_path / "other", model, rows[:3])
    parquet.write_table(f"{missing.samples}/{NAME}", pa.Table.from_pylist(rows[::-1], schema=VERIFIED_TRACE))
    with pytest.raises(ColumnError, match="has no trace p#5"):
        store_shard(NAME, missing)


def test_a_sample_that_is_trained_as_other_tokens_has_none(tmp_path: Path, model: str):
    """Counted by the reason: its text is read otherwise than it was drawn, ended by another token, or in turns; nothing, or no
    number, was stored."""
    rows = [drawn(model, n, f"{n}") for n in range(6)]
    rows[0]["token_ids"] = rows[0]["token_ids"][::-1]
    rows[1]["token_ids"], rows[1]["logps"] = rows[1]["token_ids"] + [5], rows[1]["logps"] + [-1.0]
    rows[2] |= {"token_ids": None, "logps": None}
    rows[3]["logps"] = [float("-inf")] * len(rows[3]["logps"])
    rows[4]["turns"] = TURNS
    how = written(tmp_path, model, rows)
    counts = store_shard(NAME, how)
    assert counts == Counter({"in": 6, "other_tokens": 3, "not_stored": 1, "not_finite": 1, "scored": 1, "tokens": 2})
    assert [key for key, values in column(how).items() if values is not None] == ["p#5"]
    assert store_shard(NAME, replace(how, traces="gone")) == counts, "what is done is only counted"


def test_verdicts_that_are_not_wanted_are_left_out(tmp_path: Path, model: str):
    how = replace(
        written(tmp_path, model, [drawn(model, n, "1") for n in range(3)]), settings=LogpsSettings(verdicts=["wrong"])
    )
    assert store_shard(NAME, how) == Counter({"in": 3, "verdict_correct": 2, "scored": 1, "tokens": 2})


def test_another_tokenizer_is_an_error(tmp_path: Path, model: str):
    other = tiny(tmp_path / "other", 0, alphabet="9876543210=+")
    how = replace(written(tmp_path, model, [drawn(model, 0, "1")]), sampler=other)
    with pytest.raises(UserError, match="has sampled with another tokenizer than the base model's"):
        store_shard(NAME, how)
