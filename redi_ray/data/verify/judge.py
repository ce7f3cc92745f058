"""A language model as verifier: which traces it is asked about, and what (`redi_ray.data.sample.asking` asks)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redi_ray.config.answers import VerifySettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.asking import ask_about, asking
from redi_ray.data.sample.samples import Sampler
from redi_ray.schemas import Verdict, votes_of
from redi_ray.text.dialogue import spoken
from redi_ray.text.judgement import judge_prompt


@contextmanager
def judge_sampler(judge: JudgeSettings, engine: EngineSettings, rows: int | None = None) -> Iterator[Sampler]:
    """What asks the judge, for the block. engine: the run's, where the judge has none of its own. rows: the most it is asked."""
    with asking("verify.judge", judge, engine, rows) as sampler:
        yield sampler


def judge_traces(
    verified_uri: str,
    out_uri: str,
    settings: VerifySettings,
    sampler: Sampler,
    rows_per_part: int = 256,
    trust_remote_code: bool = False,
    on_total: Callable[[int], None] = lambda total: None,
    on_progress: Callable[[int, int], None] = lambda judged, tokens: None,
) -> None:
    """Write `<out_uri>/judged/<shard>` (JUDGEMENT schema) for every shard of VERIFIED_TRACE rows below `verified_uri`.

    Judgements that are there are kept; call it again to continue. rows_per_part: judgements per file while they come in,
    which is also what a crash can cost, beside those in flight. `on_total` hears how many traces are to be asked about,
    `on_progress` of (judgements, tokens) as they are written. Raises the sampler's UserError, if that is what ends it.
    """
    assert settings.judge is not None
    ask_about(
        verified_uri,
        out_uri,
        Ballots(settings, settings.judge),
        sampler,
        tokenizer=settings.judge.model,
        trust_remote_code=trust_remote_code,
        rows_per_part=rows_per_part,
        on_total=on_total,
        on_progress=on_progress,
    )


@dataclass(frozen=True)
class Ballots:
    """The questions whose answers are a judge's votes on VERIFIED_TRACE rows."""

    settings: VerifySettings
    judge: JudgeSettings
    reads: tuple[str, ...] = ("problem", "answer", "completion", "extracted_answer", "votes", "verdict_by")

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        """Why the judge is not asked about a row, or None."""
        if self.settings.reuse_votes and votes_of(row["votes"]).get("judge") in set(Verdict):
            return "vote_came_with_trace"
        if not row["completion"].strip() or not row["problem"].strip():
            return "no_text"
        ours, shipped = votes_of(row["verdict_by"]), votes_of(row["votes"])
        if "tests" in ours and "tests" not in shipped:
            return "judged_by_tests"
        if not (row["answer"] or "").strip():
            return "no_reference_answer"
        if self.judge.ask == "not_correct" and votes_of(row["verdict_by"]).get("math_verify") == Verdict.CORRECT:
            return "math_verify_correct"
        return None

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        """See `judge_prompt`."""
        return judge_prompt(
            self.judge,
            problem=spoken(row["problem"]),
            answer=row["answer"],
            completion=row["completion"],
            extracted_answer=row["extracted_answer"],
            special_tokens=special_tokens,
        )
