"""Sampling a model on benchmarks and scoring it: one engine start for all of them.

Prompts are made by the functions that made the training prompts; `check_prompt` compares some with the token ids that
training recorded, because a template that differs by a newline costs accuracy silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.answers import VerifySettings
from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.collect import Verification, collect
from redi_ray.data.sample.samples import Progress, Requests, Sampler, Sampling, explode
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.verify.traces import verify_traces
from redi_ray.errors import UserError
from redi_ray.eval.guided import Guide, add_guided, search_answers
from redi_ray.eval.metrics import BenchmarkResult, summarize
from redi_ray.eval.scoring import RANK, WriteColumn, add_agreement, add_scores, with_numbers
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import CUT_OFF, Verdict
from redi_ray.store import parquet, storage
from redi_ray.text.recorded import difference

SHARD_ROWS = 512
"""Traces of a shard: verified while the next ones are sampled."""
SCORED = ("trace_id", "problem_id", "sample_index", "verdict", "num_tokens", "finish_reason")
SHOWN = ("problem_id", "problem", "answer", "completion", "extracted_answer", "verdict", "num_tokens", "trace_id")
"""Columns of verified traces."""
SHOWN_SAMPLES = 6
"""Traces of each kind, right and wrong, that a report shows per benchmark."""


class EvaluationError(UserError):
    """The evaluation cannot be trusted or finished; the message says why."""


def check_prompt(
    recorded: Mapping[str, Any], model: str, prompt: PromptSettings, trust_remote_code: bool = False
) -> None:
    """Raise EvaluationError unless this model's tokenizer and template make the recorded prompts, token for token.

    recorded: see `redi_ray.text.recorded`.
    """
    if told := difference(recorded, load_tokenizer(model, trust_remote_code), prompt):
        raise EvaluationError(
            f"the evaluation prompt differs from the training prompt: {told}\n{model} must have the tokenizer and the chat "
            "template that it was trained with: restore them, or train again"
        )


def evaluate_model(
    model: str,
    benchmarks: dict[str, pa.Table],
    settings: EvaluateSettings,
    *,
    engine: EngineSettings,
    prompt: PromptSettings,
    recorded: Mapping[str, Any],
    verify: VerifySettings,
    verify_workers: int,
    verify_labels: Mapping[str, str] | None = None,
    out_uri: str,
    on_progress: Progress,
    sampler: Sampler | None = None,
    columns: Mapping[str, WriteColumn] | None = None,
    guide: Guide | None = None,
) -> dict[str, Any]:
    """Sample, verify and score; traces stay in `<out_uri>/traces`, verdicts in `<out_uri>/verified`.

    benchmarks: name -> problems (PROBLEM schema). recorded: the prompts that the model was trained with. verify_labels:
    labels of the nodes that verify. sampler: null starts engines of its own, as `engine` says. columns: for each scorer that
    `settings` name, by its field, what writes its numbers. guide: of the search, where `settings` have one; it stays in
    `<out_uri>/guided`.
    Returns {"benchmarks": [scores], "samples": [traces to show]}.
    Raises EvaluationError if the prompts would be others than in training, or some samples could not be drawn.
    """
    check_prompt(recorded, model, prompt, engine.trusts_code)
    sampling, asked = sampling_of(settings), requests(benchmarks, settings)
    verification = Verification(storage.join(out_uri, "verified"), verify, verify_workers, verify_labels or {})
    own = vllm_sampler(model, engine, sampling, prompt, asked.num_rows)
    with own if sampler is None else nullcontext(sampler) as drawing:
        _draw(asked, drawing, model, sampling, storage.join(out_uri, "traces"), verification, on_progress)
    files = storage.list_files(verification.out_uri, ".parquet")
    verified = with_numbers(read_scored(files, settings), verification.out_uri, out_uri, columns or {})
    found = None
    if guide is not None:
        problems = pa.concat_tables(benchmarks[name] for name in benchmarks if name not in settings.judge_on)
        found = search_answers(
            problems, settings, guide, model, sampling, verification, storage.join(out_uri, "guided")
        )
    scored, samples = [], []
    for name, problems in benchmarks.items():
        rows = verified.filter(pc.is_in(verified["problem_id"], value_set=problems["problem_id"].combine_chunks()))
        scored.append({"name": name, **asdict(score(rows, problems, settings))})
        add_scores(scored[-1], rows, problems, settings)
        if name in settings.judge_on:
            add_agreement(scored[-1], rows, problems, settings)
        elif found is not None:
            add_guided(scored[-1], found, rows, problems, RANK if settings.rank_by is not None else None, settings)
        samples += [{"benchmark": name, **row} for row in shown_samples(rows, files)]
    return {"benchmarks": scored, "samples": samples}


def _draw(
    asked: pa.Table,
    sampler: Sampler,
    model: str,
    sampling: Sampling,
    out_uri: str,
    verification: Verification,
    on_progress: Progress,
) -> None:
    """Sample and verify. Raises EvaluationError if some samples could not be drawn."""
    stats = collect(
        Requests.of_table(asked),
        sampler,
        model=model,
        sampling=sampling,
        out_uri=out_uri,
        shard_rows=SHARD_ROWS,
        verification=verification,
        on_progress=on_progress,
    )
    if stats.rejected:
        raise EvaluationError(
            f"{sum(stats.rejected.values())} of {stats.asked} samples failed ({stats.rejected}); see "
            f"{storage.join(out_uri, 'rejects')}. Run the command again to sample only what is missing"
        )
    # what could not be verified while the rest was sampled, or was written by a run that was cut off
    verify_traces(
        trace_shards(out_uri),
        verification.out_uri,
        verification.settings,
        concurrency=verification.workers,
        label_selector=verification.label_selector,
    )


def sampling_of(settings: EvaluateSettings) -> Sampling:
    """How one sample is drawn."""
    return Sampling(settings.temperature, settings.top_p, settings.max_tokens, settings.seed, tools=settings.tools)


def num_samples(name: str, settings: EvaluateSettings) -> int:
    """Samples a problem of one benchmark."""
    own = {benchmark.name: benchmark.num_samples for benchmark in settings.benchmarks}
    return own.get(name) or settings.num_samples


def requests(benchmarks: dict[str, pa.Table], settings: EvaluateSettings) -> pa.Table:
    """All samples of all benchmarks as one table."""
    return pa.concat_tables(
        explode(problems, range(num_samples(name, settings))) for name, problems in benchmarks.items()
    )


def score(rows: pa.Table, problems: pa.Table, settings: EvaluateSettings) -> BenchmarkResult:
    """Verified traces -> scores. Only `correct` counts; what could not be judged counts against the model."""
    ids = problems["problem_id"].to_pylist()
    row_of = {problem_id: index for index, problem_id in enumerate(ids)}
    samples = rows.num_rows // len(ids)
    correct = np.zeros((len(ids), samples), bool)
    tokens = np.zeros((len(ids), samples), np.int64)
    truncated = np.zeros((len(ids), samples), bool)
    for row in rows.select(["problem_id", "sample_index", "verdict", "num_tokens", "finish_reason"]).to_pylist():
        at = row_of[row["problem_id"]], row["sample_index"]
        correct[at] = row["verdict"] == Verdict.CORRECT
        tokens[at], truncated[at] = row["num_tokens"], row["finish_reason"] in CUT_OFF
    return summarize(correct, tokens, truncated, settings.ks, ddof=settings.ddof, problem_ids=ids, seed=settings.seed)


def read_scored(files: list[str], settings: EvaluateSettings) -> pa.Table:
    """What scores need of all verified traces, without texts: SCORED, answers where they are counted, and `file` and `row`, where
    each lies."""
    counted = settings.rank_by is not None or settings.guided is not None or settings.judge_on
    tables, voted = [], ["extracted_answer"] if counted else []
    for file, table in enumerate(parquet.read_tables(files, [*SCORED, *voted])):
        number = pa.array(np.arange(table.num_rows))
        tables.append(table.append_column("row", number).append_column("file", pa.array([file] * table.num_rows)))
    return pa.concat_tables(tables)


def shown_samples(rows: pa.Table, files: list[str]) -> list[dict[str, Any]]:
    """A few right and wrong traces of `rows`, which `read_scored` gave of these files; the same every time."""
    ordered = rows.sort_by("trace_id")
    right = pc.equal(ordered["verdict"], str(Verdict.CORRECT))
    chosen = [table.slice(0, SHOWN_SAMPLES) for table in (ordered.filter(right), ordered.filter(pc.invert(right)))]
    places = [(row["file"], row["row"]) for table in chosen for row in table.select(["file", "row"]).to_pylist()]
    found = {
        (file, row): value
        for file in {file for file, _ in places}
        for row, value in parquet.read_rows(files[file], [row for other, row in places if other == file], SHOWN)
    }
    return [found[place] for place in places]
