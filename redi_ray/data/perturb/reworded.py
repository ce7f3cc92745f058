"""Variants by a model: asked to write each problem in other words, and a judge whether it is still the same problem.

Below the step's folder:

    work/asked/<shard>      MADE: the problems, and those that are wanted as they are
    work/said/judged/       what the model wrote (JUDGEMENT), as all answers about rows are kept
    work/written/<shard>    MADE: the variants, those that are none with the reason
    work/heard/judged/      what the judge said of each
    work/made/<shard>       MADE: the same with the judge's reasons, as all variants go on

Each part that is there stays, so that a killed run asks nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.paraphrase import ParaphraseSettings, Rewriter, VariantJudge
from redi_ray.config.resources import EngineSettings
from redi_ray.data.perturb.made import MADE, SAME, as_made, unfit
from redi_ray.data.sample.asking import ask_about, asking
from redi_ray.data.shard_tasks import each_shard
from redi_ray.schemas import CUT_OFF, PROBLEM, Verdict
from redi_ray.store import parquet, storage
from redi_ray.text.extract import split_thought
from redi_ray.text.judgement import break_up, judge_prompt, read_judgement
from redi_ray.text.number_words import numbers_in
from redi_ray.text.problem_key import problem_key

PARAPHRASE = "paraphrase"
FAILED, CUT, EMPTY, NUMBERS = "model_failed", "cut_off", "empty", "numbers_changed"
"""Why what a model wrote is no variant."""
NOT_SAME, NO_VERDICT = "judged_another_problem", "no_verdict"
"""Why a judge's word keeps it out."""


@dataclass(frozen=True)
class Rewording:
    """How, the same for every shard."""

    problems: str
    """Folder of the problems' shards."""
    out_uri: str
    settings: ParaphraseSettings
    answers: AnswerSettings

    def work(self, *parts: str) -> str:
        return storage.join(self.out_uri, "work", *parts)


@dataclass(frozen=True)
class Wanted:
    """What the model is asked to write."""

    settings: ParaphraseSettings
    reads: tuple[str, ...] = ("problem", "perturbation", "reason")

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        return "original" if row["perturbation"] is None else row["reason"]

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        return self.settings.by.prompt.format(problem=break_up(row["problem"], special_tokens))


@dataclass(frozen=True)
class Doubts:
    """What the judge is asked about."""

    settings: ParaphraseSettings
    reads: tuple[str, ...] = ("problem", "perturbation", "reason", "original", "original_answer")

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        return "original" if row["perturbation"] is None else row["reason"]

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        return judge_prompt(
            self.settings.judged_by,
            problem=row["original"],
            answer=row["original_answer"],
            completion=row["problem"],
            extracted_answer=None,
            special_tokens=special_tokens,
        )


def reword(names: list[str], how: Rewording, step: str, engine: EngineSettings, bar: Any) -> dict[str, int]:
    """Write `work/made` for the shards of these names; tokens read and written by model and judge. step: its name, for messages.
    engine: the run's. bar: hears how many answers are wanted and there. Raises the sampler's UserError."""
    for _ in each_shard(names, ask_shard, how):
        pass
    told, settings = Counter[str](), how.settings

    def ask(field: str, model: Rewriter | VariantJudge, samples: str, out: str, questions: Wanted | Doubts) -> None:
        with asking(f"steps.{step}.{field}", model, engine) as sampler:
            ask_about(
                how.work(samples),
                how.work(out),
                questions,
                sampler,
                tokenizer=model.model,
                trust_remote_code=(model.engine or engine).trusts_code,
                on_total=bar.set_total,
                on_progress=bar,
            )

    def count(field: str, then: Callable[..., dict[str, int]]) -> None:
        for _, counts in each_shard(names, then, how):
            told.update({f"{field}/{name}": number for name, number in counts.items()})

    ask("by", settings.by, "asked", "said", Wanted(settings))
    count("by", write_shard)
    ask("judge", settings.judged_by, "written", "heard", Doubts(settings))
    count("judge", judge_shard)
    return dict(told)


def ask_shard(name: str, how: Rewording) -> int:
    """The rows that the model is asked about."""
    out, rows = how.work("asked", name), 0
    if storage.exists(out):
        return 0
    with parquet.table_writer(out, MADE) as write:
        for batch in parquet.read_batches(storage.join(how.problems, name), PROBLEM.names):
            made = []
            for row in batch.to_pylist():
                made += [as_made(row, None, row["problem"])] if how.settings.originals else []
                made.append(as_made(row, PARAPHRASE, row["problem"], reason=unfit(row, how.answers)))
            write(pa.Table.from_pylist(made, schema=MADE))
            rows += len(made)
    return rows


def write_shard(name: str, how: Rewording) -> dict[str, int]:
    """The variants that the model wrote; tokens."""

    def judged(row: dict[str, Any], said: Mapping[str, Any]) -> None:
        row["problem"], row["reason"] = written(row["original"], said, how.settings)

    return _with_answers(name, how, ("asked", "said", "written"), judged)


def judge_shard(name: str, how: Rewording) -> dict[str, int]:
    """The same with the judge's reasons; tokens."""

    def heard(row: dict[str, Any], said: Mapping[str, Any]) -> None:
        vote = None
        if said["failure"] is None:
            finished = said["finish_reason"] not in CUT_OFF
            vote = read_judgement(said["output"], how.settings.judged_by, finished=finished).vote
        if vote != Verdict.CORRECT:
            row["reason"] = NOT_SAME if vote == Verdict.WRONG else NO_VERDICT

    return _with_answers(name, how, ("written", "heard", "made"), heard)


def _with_answers(name: str, how: Rewording, places: tuple[str, str, str], change: Any) -> dict[str, int]:
    """Write the rows of one folder to another, changed by what was said of each; its tokens."""
    rows_of, said_in, out = places
    (said,) = parquet.read_tables([how.work(said_in, "judged", name)])
    answers = {row["trace_id"]: row for row in said.to_pylist() if row["not_asked"] is None}
    if not storage.exists(how.work(out, name)):
        with parquet.table_writer(how.work(out, name), MADE) as write:
            for batch in parquet.read_batches(how.work(rows_of, name)):
                rows = batch.to_pylist()
                for row in rows:
                    if row["trace_id"] in answers:
                        change(row, answers[row["trace_id"]])
                write(pa.Table.from_pylist(rows, schema=MADE))
    return {name: sum(row[name] or 0 for row in answers.values()) for name in ("num_tokens", "prompt_tokens")}


def written(original: str, said: Mapping[str, Any], settings: ParaphraseSettings) -> tuple[str, str | None]:
    """(the variant's text, why it is none): of what the model said behind its thought."""
    if said["failure"] is not None:
        return original, FAILED
    if said["finish_reason"] in CUT_OFF:
        return original, CUT
    text = split_thought(said["output"])[0].strip()
    if not text:
        return original, EMPTY
    if problem_key(text) == problem_key(original):
        return text, SAME
    if settings.same_numbers and Counter(numbers_in(text)) != Counter(numbers_in(original)):
        return text, NUMBERS
    return text, None
