"""Numbers for the samples of an evaluation, by the scorers of a step `score`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.scorers import Scorer
from redi_ray.data.curate.scan import spelling
from redi_ray.eval.agreement import score_agreement
from redi_ray.eval.ranking import summarize_ranking, summarize_scores
from redi_ray.schemas import Verdict
from redi_ray.store import parquet, storage

SCORE, RANK = "score", "rank_by"
"""Fields of the evaluation that name a scorer, and folders of its column."""
LABEL = " label"
"""Ends the column of a scorer's words, behind the field's name."""


WriteColumn = Callable[[str, str], str]
"""Of samples below the first folder writes a scorer's column below the second, shard by shard, and says in which folder it lies;
Ray must be connected."""


def scorers_of(settings: EvaluateSettings) -> dict[str, Scorer]:
    """Those that are set, by their field."""
    named = {name: getattr(settings, name) for name in (SCORE, RANK)}
    return {name: scorer for name, scorer in named.items() if scorer is not None}


def with_numbers(rows: pa.Table, verified: str, out_uri: str, columns: Mapping[str, WriteColumn]) -> pa.Table:
    """The rows of all verified shards below `verified`, in their order, with a column of numbers for each scorer under its
    field's name, and one of its words if it has any. columns: of each field in `scorers_of`."""
    root = storage.resolve(verified)
    names = [uri.removeprefix(root + "/") for uri in storage.list_files(root, ".parquet")]
    for field, write in columns.items():
        column = write(verified, storage.join(out_uri, field))
        found = pa.concat_tables(parquet.read_tables([storage.join(column, name) for name in names]))
        assert found["trace_id"].to_pylist() == rows["trace_id"].to_pylist(), f"{column} is not of these samples"
        rows = rows.append_column(field, found["value"])
        if "label" in found.column_names:
            rows = rows.append_column(field + LABEL, found["label"])
    return rows


def add_scores(result: dict[str, Any], rows: pa.Table, problems: pa.Table, settings: EvaluateSettings) -> None:
    """Add to a benchmark's result what its scorers say: `score` and `ranked` (`redi_ray.eval.ranking`), where they are asked.

    rows: of `with_numbers`, of this benchmark. A mean that no problem has is null.
    """
    scorers = scorers_of(settings)
    if not scorers:
        return
    row_of = {problem_id: at for at, problem_id in enumerate(problems["problem_id"].to_pylist())}
    at = [row_of[problem_id] for problem_id in rows["problem_id"].to_pylist()], rows["sample_index"].to_pylist()

    def placed(values: list[Any], empty: Any, kind: Any) -> NDArray[Any]:
        table = np.full((len(row_of), rows.num_rows // len(row_of)), empty, kind)
        table[at] = values
        return table

    def numbers(field: str) -> NDArray[np.float64]:
        return placed([np.nan if value is None else value for value in rows[field].to_pylist()], np.nan, np.float64)

    if SCORE in scorers:
        labels = Counter(rows[SCORE + LABEL].to_pylist()) if SCORE + LABEL in rows.column_names else {}
        ordered, ddof, seed = dict(sorted(labels.items())), settings.ddof, settings.seed
        found = summarize_scores(scorers[SCORE].name, numbers(SCORE), labels=ordered, ddof=ddof, seed=seed)
        result["score"] = None if found is None else asdict(found)
    if RANK in scorers:
        right = placed([verdict == Verdict.CORRECT for verdict in rows["verdict"].to_pylist()], False, bool)
        read = [spelling(answer) or None for answer in rows["extracted_answer"].to_pylist()]
        answers = placed(read, None, object).tolist()
        ranked = summarize_ranking(scorers[RANK].name, numbers(RANK), right, answers, settings.ks, settings.seed)
        result["ranked"] = asdict(ranked)


def add_agreement(result: dict[str, Any], rows: pa.Table, problems: pa.Table, settings: EvaluateSettings) -> None:
    """Add to a benchmark's result how far the answers agree with the scores that people have given: `agreement`."""
    answers: dict[str, list[str | None]] = {name: [] for name in problems["problem_id"].to_pylist()}
    for row in rows.select(["problem_id", "extracted_answer"]).to_pylist():
        answers[row["problem_id"]].append(_one_spelling(row["extracted_answer"]))
    gold = [_one_spelling(answer) or "" for answer in problems["answer"].to_pylist()]
    result["agreement"] = asdict(score_agreement(gold, list(answers.values()), seed=settings.seed))


def _one_spelling(score: str | None) -> str | None:
    """A score as it is compared: numbers by their value, words in one spelling; None where there is none."""
    try:
        return repr(float(score or ""))
    except ValueError:
        return spelling(score) or None
