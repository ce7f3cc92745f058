"""What a guided search is worth: its answers against those of as many samples as cost as many tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.data.curate.scan import spelling
from redi_ray.data.guided.search import Engines, JudgeSteps, Search, guided_search, tokens_drawn
from redi_ray.data.sample.collect import Verification
from redi_ray.data.sample.samples import SampleStats, Sampling
from redi_ray.data.verify.traces import verify_traces
from redi_ray.eval.metrics import PairedComparison, bootstrap_interval, compare_scores, pass_at_k
from redi_ray.eval.ranking import best_of_k, majority_of_k
from redi_ray.schemas import CUT_OFF, Verdict
from redi_ray.store import parquet, storage

READ = ("trace_id", "problem_id", "sample_index", "verdict", "extracted_answer", "finish_reason")


@dataclass(frozen=True)
class Guide:
    """What a search needs beside the evaluation's settings."""

    engines: Engines
    judge: JudgeSteps
    on_progress: Callable[[SampleStats], None] = lambda added: None


@dataclass(frozen=True)
class Found:
    """What a search of all benchmarks has found."""

    rows: pa.Table
    """READ, and `value`, the number that orders a problem's answers."""
    tokens: Mapping[str, int]
    """Problem -> tokens drawn for it."""
    told: Mapping[str, int]
    """As of `redi_ray.data.guided.search.guided_search`."""


@dataclass(frozen=True)
class GuidedResult:
    """A search on one benchmark, one answer of each problem being chosen. JSON-able by `asdict`."""

    guide: str
    """What says how good steps are."""
    keep: int
    candidates: int
    best: float
    """Share of problems whose answer with the highest number is right."""
    best_ci95: tuple[float, float]
    """Percentile bootstrap over problems."""
    majority: float
    """Of the most frequent answer among those that are kept."""
    weighted: float
    """The same, each weighed by its number."""
    any: float
    """Of problems with a right answer among them."""
    cut_off: float
    """Share of the answers that did not come to their end."""
    tokens: float
    """Drawn for a problem, on the average, those of steps that were dropped among them."""
    equal_k: int
    """The fewest samples that cost as many; all there are, where these cost less."""
    equal_tokens: float
    """That they cost on the average."""
    equal: dict[str, float]
    """What so many samples reach: `any` right one, their `majority`, and with `rank_by` the `best` and the `weighted`
    majority."""
    best_against_majority: PairedComparison
    """Of so many samples."""
    best_against_best: PairedComparison | None
    """With `rank_by`."""


def search_answers(
    problems: pa.Table,
    settings: EvaluateSettings,
    guide: Guide,
    model: str,
    sampling: Sampling,
    verification: Verification,
    out_uri: str,
) -> Found:
    """Search answers of all problems, and verify what comes out; answers stay in `<out_uri>/answers`, verdicts in
    `<out_uri>/verified`. verification: how, wherever it writes."""
    assert settings.guided is not None
    out_uri = storage.resolve(out_uri)
    search = Search(settings.guided, out_uri, model, sampling)
    told = guided_search(problems, search, guide.engines, guide.judge, guide.on_progress)
    answers, verified = (storage.join(out_uri, name) for name in ("answers", "verified"))
    shards = storage.list_files(answers, ".parquet")
    verify_traces(
        shards,
        verified,
        verification.settings,
        concurrency=verification.workers,
        label_selector=verification.label_selector,
    )
    names = [shard.rpartition("/")[2] for shard in shards]
    rows = pa.concat_tables(parquet.read_tables([storage.join(verified, name) for name in names], list(READ)))
    values = pa.concat_tables(parquet.read_tables([storage.join(out_uri, "values", name) for name in names]))
    assert values["trace_id"].to_pylist() == rows["trace_id"].to_pylist(), f"{out_uri}/values is not of these answers"
    return Found(rows.append_column("value", values["value"]), tokens_drawn(out_uri, told["steps"]), told)


def summarize_guided(
    found: Found,
    problem_ids: Sequence[str],
    correct: NDArray[np.bool_],
    answers: Sequence[Sequence[str | None]],
    tokens: NDArray[np.int64],
    numbers: NDArray[np.float64] | None,
    settings: EvaluateSettings,
) -> GuidedResult:
    """A search against samples of the same problems.

    correct, tokens: [P, n] of the samples; answers: P rows of n; numbers: float[P, n] of `rank_by`, NaN for none, or None without
    it.
    """
    own, seed = settings.guided, settings.seed
    assert own is not None
    searched = _searched(found.rows, problem_ids)
    spent = float(np.mean([found.tokens.get(key, 0) for key in problem_ids]))
    each, most = float(tokens.mean()), correct.shape[1]
    k = max(1, min(most, int(np.ceil(spent / each)) if each else most))
    majority = majority_of_k(answers, correct, k, seed=seed)
    equal, best = {"any": pass_at_k(correct.sum(axis=1), most, k), "majority": float(majority.mean())}, None
    if numbers is not None:
        chosen = best_of_k(correct, numbers, k)
        equal |= {
            "best": float(chosen.mean()),
            "weighted": float(majority_of_k(answers, correct, k, numbers, seed).mean()),
        }
        best = compare_scores(chosen, searched["best"], seed=seed)
    return GuidedResult(
        guide=own.told,
        keep=own.keep,
        candidates=own.candidates,
        best=float(searched["best"].mean()),
        best_ci95=bootstrap_interval(searched["best"], seed=seed),
        majority=float(searched["majority"].mean()),
        weighted=float(searched["weighted"].mean()),
        any=float(searched["any"].mean()),
        cut_off=float(searched["cut_off"].mean()),
        tokens=spent,
        equal_k=k,
        equal_tokens=k * each,
        equal=equal,
        best_against_majority=compare_scores(majority, searched["best"], seed=seed),
        best_against_best=best,
    )


def _searched(rows: pa.Table, problem_ids: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Of each problem, float[P], what its answers are worth by each way to choose; 0 where there is none. `cut_off`: of
    answers."""
    of: dict[str, list[dict[str, Any]]] = {key: [] for key in problem_ids}
    for row in rows.to_pylist():
        if row["problem_id"] in of:
            of[row["problem_id"]].append(row)
    found: dict[str, list[float]] = {name: [] for name in ("best", "majority", "weighted", "any")}
    for answers in of.values():
        answers.sort(key=lambda row: row["sample_index"])  # the best first
        right = [[row["verdict"] == Verdict.CORRECT for row in answers]]
        said = [[spelling(row["extracted_answer"]) or None for row in answers]]
        votes = [[np.nan if row["value"] is None else row["value"] for row in answers]]
        many = len(answers)
        found["best"].append(float(right[0][0]) if many else 0.0)
        found["any"].append(float(any(right[0])))
        found["majority"].append(float(majority_of_k(said, right, many)[0]) if many else 0.0)
        found["weighted"].append(float(majority_of_k(said, right, many, votes)[0]) if many else 0.0)
    cut = [row["finish_reason"] in CUT_OFF for answers in of.values() for row in answers]
    return {
        name: np.array(values) for name, values in {**found, "cut_off": [float(one) for one in cut] or [0.0]}.items()
    }


def add_guided(
    result: dict[str, Any],
    found: Found,
    rows: pa.Table,
    problems: pa.Table,
    numbers: str | None,
    settings: EvaluateSettings,
) -> None:
    """Add to a benchmark's result what a search is worth: `guided`. rows: the benchmark's verified samples; numbers: their column
    of `rank_by`, if there is one."""
    ids = problems["problem_id"].to_pylist()
    of = {key: at for at, key in enumerate(ids)}
    shape = (len(ids), rows.num_rows // len(ids))
    correct, tokens = np.zeros(shape, bool), np.zeros(shape, np.int64)
    values = np.full(shape, np.nan)
    answers: list[list[str | None]] = [[None] * shape[1] for _ in ids]
    read = ["problem_id", "sample_index", "verdict", "num_tokens", "extracted_answer", *([numbers] if numbers else [])]
    for row in rows.select(read).to_pylist():
        at = of[row["problem_id"]], row["sample_index"]
        correct[at], tokens[at] = row["verdict"] == Verdict.CORRECT, row["num_tokens"]
        answers[at[0]][at[1]] = spelling(row["extracted_answer"]) or None
        if numbers and row[numbers] is not None:
            values[at] = row[numbers]
    made = summarize_guided(found, ids, correct, answers, tokens, values if numbers else None, settings)
    result["guided"] = asdict(made)
