"""The first wrong step by what a language model says of each step (`redi_ray.data.sample.asking` asks)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from redi_ray.config.locators import LocateSettings, StepJudge
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
from redi_ray.data.sample.asking import ask_about, asking
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.schemas import CUT_OFF
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import spoken
from redi_ray.text.step_judgement import read_labels, steps_prompt

JUDGED = "judged"
"""The table of what the judge said."""


@dataclass(frozen=True)
class StepQuestions:
    """Which samples the judge is asked about, and what."""

    settings: LocateSettings
    judge: StepJudge
    reads: tuple[str, ...] = READS

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        """Why it is not asked about a sample, or None."""
        return reason_not_to_ask(row, self.settings, JUDGE)

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        """See `steps_prompt`."""
        return steps_prompt(
            self.judge,
            problem=spoken(row["problem"]),
            answer=row["answer"] or "",
            steps=steps_of(row, self.settings).texts,
            special_tokens=special_tokens,
        )


def prepare(work: Work, bar: Bar) -> dict[str, Any]:
    """Write `<uri>/judged/<shard>` (JUDGEMENT); the judge's name and tokens."""
    judge = work.settings.locator
    assert isinstance(judge, StepJudge)
    if work.model is not None:
        judge = replace(judge, model=work.model)
    engine = judge.engine or work.engine
    with asking(f"steps.{work.step}.locator", judge, work.engine) as sampler:
        ask_about(
            work.samples,
            work.uri,
            StepQuestions(work.settings, judge),
            sampler,
            tokenizer=judge.model,
            trust_remote_code=engine.trusts_code,
            on_total=bar.set_total,
            on_progress=bar,
        )
    told = {"asked": 0, "tokens": 0, "prompt_tokens": 0}
    columns = ["not_asked", "num_tokens", "prompt_tokens"]
    for table in parquet.read_tables(storage.list_files(storage.join(work.uri, JUDGED), ".parquet"), columns):
        told["asked"] += table["not_asked"].null_count
        told["tokens"] += pc.sum(table["num_tokens"]).as_py() or 0
        told["prompt_tokens"] += pc.sum(table["prompt_tokens"]).as_py() or 0
    name = judge.endpoint.model if judge.endpoint is not None else judge.model
    cost = {}
    if judge.endpoint is not None and judge.endpoint.has_prices:
        cost = {"cost": judge.endpoint.cost(told["prompt_tokens"], told["tokens"])}
    return {"judge": {"model": name, **told, **cost}}


def start(work: Work, name: str) -> Find:
    """Reads what the judge said of each sample of the shard."""
    judge = work.settings.locator
    assert isinstance(judge, StepJudge)
    (table,) = parquet.read_tables([storage.join(work.uri, JUDGED, name)])
    said = {row["trace_id"]: row for row in table.to_pylist()}

    def find(row: Mapping[str, Any], steps: Steps) -> Labelled | Failed:
        told = said[row["trace_id"]]
        if told["failure"] is not None:
            return Failed("judge_failed", told["failure"])
        finished = told["finish_reason"] not in CUT_OFF
        labels, reason = read_labels(told["output"], len(steps.spans), judge, finished=finished)
        return (
            Failed(reason, "what the judge said is no verdict", told["output"]) if labels is None else Labelled(labels)
        )

    return find


def _outside(judge: StepJudge) -> Any:
    return None if judge.model is None else content_of_model(judge.model)


JUDGE = Locator(start, prepare, outside=_outside, needs_answer=lambda judge: judge.shows_answer)
