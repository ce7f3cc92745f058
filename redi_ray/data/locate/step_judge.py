"""The first wrong step by a judge that weighs Yes against No: each step is analysed several times, and where an analysis reaches
the verdict question its next token is weighed.

    <uri>/steps/<shard>          what is asked: a row for each step of a sample
          analyses/part-*        what the judge says (TRACE), in any order
          verdicts/judged/...    beside these, or beside `steps` where nothing is analysed: word -> log-probability, as JSON
          weighed/<shard>/...    step by step the probability of Yes, or why there is none
          analyses.json, verdicts.json    written last: all is there
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.locators import LocateSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.step_judges import GenerativeJudge
from redi_ray.data.columns import beside
from redi_ray.data.locate.locator import (
    READS,
    Bar,
    Failed,
    Find,
    Labelled,
    Locator,
    Steps,
    Work,
    reason_not_to_ask,
    steps_of,
)
from redi_ray.data.sample.asking import ask_about
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.samples import Requests, Sampler, SampleStats, Sampling
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.sources.ids import IdSet
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import content_of_model, load_tokenizer
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage
from redi_ray.text.step_verdicts import (
    labels_below,
    mean_value,
    probability_of_yes,
    step_question,
    up_to_question,
    words_misfit,
)
from redi_ray.text.steps import UNSEEN

ASKED = pa.schema([*PROBLEM, pa.field("trace_id", pa.string(), nullable=False)])
"""The question about a step under the id `<trace_id>@<step>`, twice, and the sample's shard as the source."""
WEIGHED = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("probability", pa.float64()),
        pa.field("reason", pa.string()),  # why there is none
    ]
)
AT = "@"
NO_QUESTION, JUDGE_FAILED = "no_verdict_question", "judge_failed"
SHARD_ROWS = 2000
Engines = Callable[[Sampling], AbstractContextManager[Sampler]]
"""What asks the judge, for a block."""


class WordsError(UserError):
    """A judge's words that its tokenizer cannot tell apart; the message says which."""


@dataclass(frozen=True)
class VerdictQuestions:
    """Where the words are weighed: behind the verdict question of an analysis, or right away."""

    judge: GenerativeJudge
    prompt_of: PromptSettings
    reads: tuple[str, ...]

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        """Why nothing is weighed, or None."""
        analysed = self.judge.analyses > 0
        return NO_QUESTION if analysed and up_to_question(row["completion"], self.judge.question) is None else None

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        """The question about the step, as the analysis has seen it."""
        return row["problem"]

    def begun(self, row: Mapping[str, Any]) -> str:
        """What stands before the word."""
        if self.judge.analyses:
            return up_to_question(row["completion"], self.judge.question) or ""
        return self.judge.opening or self.prompt_of.prefix + self.judge.question.question


def _judge_of(settings: LocateSettings) -> GenerativeJudge:
    assert isinstance(settings.locator, GenerativeJudge)
    return settings.locator


def _model_of(work: Work) -> tuple[str, PromptSettings]:
    """The judge's folder, and how it is asked."""
    if (own := _judge_of(work.settings).model) is not None:
        return own, PromptSettings(prefix="")
    assert work.model is not None
    return work.model, work.prompt


def _said(work: Work) -> str:
    """Folder of what verdicts stand beside."""
    return storage.join(work.uri, "analyses" if _judge_of(work.settings).analyses else "steps")


def prepare(work: Work, bar: Bar) -> dict[str, Any]:
    """Ask, analyse, weigh, with engines of our own; what that took."""
    engine, (model, prompt) = _judge_of(work.settings).engine or work.engine, _model_of(work)
    return run_judge(work, bar, lambda sampling: vllm_sampler(model, engine, sampling, prompt))


def run_judge(work: Work, bar: Bar, engines: Engines) -> dict[str, Any]:
    """The same with any engines; none are asked for what is there."""
    judge = _judge_of(work.settings)
    names = [uri.removeprefix(work.samples + "/") for uri in trace_shards(work.samples)]
    asked, done = sum(rows for _, rows in each_shard(names, ask_shard, work)), storage.join(work.uri, "verdicts.json")
    if not asked:
        return {"step_judge": {"model": _model_of(work)[0], "steps": 0}}
    sampled = _analyse(work, bar, engines, asked) if judge.analyses else {}
    if not storage.exists(done):
        storage.write_json(done, _weigh(work, bar, engines, sampled.get("analyses", 0)))
    return {"step_judge": {"model": _model_of(work)[0], "steps": asked, **sampled, **storage.read_json(done)}}


def ask_shard(name: str, work: Work) -> int:
    """Write what is asked about a shard's samples; how many rows there are, and no file for none."""
    judge, (model, _) = _judge_of(work.settings), _model_of(work)
    tokenizer = load_tokenizer(model, (judge.engine or work.engine).trusts_code)
    if (misfit := words_misfit(judge.question, tokenizer)) is not None:
        raise WordsError(f"{work.step}: locator.question: {misfit}, in the tokenizer of {model}")
    asked = list[dict[str, Any]]()
    for batch in parquet.read_batches(storage.join(work.samples, name), ["trace_id", *READS]):
        for row in batch.to_pylist():
            if reason_not_to_ask(row, work.settings, STEP_JUDGE) is not None:
                continue
            texts = steps_of(row, work.settings).texts
            for at in _judged(len(texts), work):
                question = step_question(judge.question, row["problem"], texts, at, tokenizer.all_special_tokens)
                key = f"{row['trace_id']}{AT}{at}"
                asked.append({"problem_id": key, "trace_id": key, "problem": question, "source": name})
    if asked:
        parquet.write_table(storage.join(work.uri, "steps", name), pa.Table.from_pylist(asked, schema=ASKED))
    return len(asked)


def _judged(steps: int, work: Work) -> range:
    """The steps of a sample that are judged."""
    return range(max(0, steps - 1) if work.last_step else 0, steps)


def _analyse(work: Work, bar: Bar, engines: Engines, asked: int) -> dict[str, int]:
    """Draw the analyses, unless they are there; what it took."""
    judge, mark = _judge_of(work.settings), storage.join(work.uri, "analyses.json")
    if storage.exists(mark):
        return storage.read_json(mark)
    sampling = Sampling(judge.temperature, judge.top_p, judge.max_tokens, judge.seed)
    problems = storage.list_files(storage.join(work.uri, "steps"), ".parquet")
    requests = Requests.of_problems(problems, asked, range(judge.analyses), IdSet())
    bar.set_total(requests.asked)

    def progress(added: SampleStats) -> None:
        bar(added.traces, 0 if added.resumed else added.tokens)

    with engines(sampling) as sampler:
        made = collect(
            requests,
            sampler,
            model=_model_of(work)[0],
            sampling=sampling,
            out_uri=_said(work),
            shard_rows=SHARD_ROWS,
            on_progress=progress,
        )
    names = ("traces", "tokens", "prompt_tokens", "truncated")
    told = {**{name: getattr(made, name) for name in names}, "rejected": made.rejected.total()}
    told["analyses"] = told.pop("traces")
    storage.write_json(mark, told)
    return told


def _weigh(work: Work, bar: Bar, engines: Engines, before: int) -> dict[str, int]:
    """Weigh the words behind every analysis; how many are weighed, and how many are not by reason."""
    judge, (model, prompt) = _judge_of(work.settings), _model_of(work)
    reads = ("problem", "completion") if judge.analyses else ("problem",)
    questions, out = VerdictQuestions(judge, prompt, reads), storage.join(work.uri, "verdicts")
    words = (judge.question.yes, judge.question.no)
    sampling, engine = Sampling(1.0, 1.0, 1, judge.seed, words=words), judge.engine or work.engine
    with engines(sampling) as sampler:
        ask_about(
            _said(work),
            out,
            questions,
            sampler,
            tokenizer=model,
            trust_remote_code=engine.trusts_code,
            begun=questions.begun,
            on_total=lambda total: bar.set_total(before + total),
            on_progress=bar,
        )
    names = [uri.removeprefix(_said(work) + "/") for uri in trace_shards(_said(work))]
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, weigh_shard, work):
        counts.update(found)
    return dict(sorted(counts.items()))


def weigh_shard(name: str, work: Work) -> dict[str, int]:
    """Write `weighed/<shard of the samples>/<this shard>` of one shard of verdicts; counts by what came of them."""
    judge, found = _judge_of(work.settings), defaultdict[str, list[dict[str, Any]]](list)
    judged = storage.join(work.uri, "verdicts/judged", name)
    for rows, (said,) in beside(storage.join(_said(work), name), [judged], ["problem_id", "source"]):
        for row, told in zip(rows.to_pylist(), said.to_pylist(), strict=True):
            reason = told["not_asked"] or (JUDGE_FAILED if told["failure"] is not None else None)
            p = probability_of_yes(json.loads(told["output"]), judge.question) if reason is None else None
            found[row["source"]].append({"problem_id": row["problem_id"], "probability": p, "reason": reason})
    for source, rows_of in found.items():
        out = storage.join(_weighed(work, source), name.replace("/", "-"))
        parquet.write_table(out, pa.Table.from_pylist(rows_of, schema=WEIGHED))
    counts = Counter(row["reason"] or "weighed" for rows_of in found.values() for row in rows_of)
    return dict(counts)


def _weighed(work: Work, name: str) -> str:
    return storage.join(work.uri, "weighed", name.removesuffix(".parquet"))


def start(work: Work, name: str) -> Find:
    """Reads what the steps of a shard's samples are worth."""
    judge, known, why = (
        _judge_of(work.settings),
        defaultdict[str, list[float]](list),
        defaultdict[str, Counter[str]](Counter),
    )
    for table in parquet.read_tables(storage.list_files(_weighed(work, name), ".parquet")):
        for row in table.to_pylist():
            if row["reason"] is None:
                known[row["problem_id"]].append(row["probability"])
            else:
                why[row["problem_id"]][row["reason"]] += 1

    def find(row: Mapping[str, Any], steps: Steps) -> Labelled | Failed:
        judged = _judged(len(steps.spans), work)
        keys = [f"{row['trace_id']}{AT}{at}" for at in judged]
        values = [mean_value(sorted(known[key]), judge) if key in known else None for key in keys]
        labels = labels_below(values, judge.threshold)
        if labels is None:
            at = values.index(None)
            reasons = why.get(keys[at], Counter({JUDGE_FAILED: 1}))
            told = f"no verdict on step {judged[at]}: {dict(reasons)}"
            return Failed(max(sorted(reasons), key=reasons.__getitem__), told)
        before = judged.start
        return Labelled([*[UNSEEN] * before, *labels], [*[None] * before, *values])

    return find


def _outside(judge: GenerativeJudge) -> Any:
    return None if judge.model is None else content_of_model(judge.model)


STEP_JUDGE = Locator(start, prepare, outside=_outside)
