"""The stage `verified`, and where a judge or inverted labels ask for it, `checked` and `judged` before it.

    traces -> checked -> judged -> verified      Math-Verify, then what the judge says, then the label policy
    traces -> verified                           without a judge: all in one pass

Each has a key of its own, so that another policy, another reading of the judge's outputs or inverted labels ask no judge
again, and another judge compares no answer again. Between rounds of sampling only the first of them runs: a problem then
counts as solved when Math-Verify says so. A judge would have to be loaded beside the teacher for every round, and what
Math-Verify calls wrong by mistake costs some more samples, no trace.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.judges import JudgeSettings
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.verify.decide import NO_VOTE, JudgeCounts, decide_traces
from redi_ray.data.verify.judge import judge_sampler, judge_traces
from redi_ray.data.verify.traces import verify_traces
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.schemas import TESTED, Verdict, votes_of
from redi_ray.stages.bars import WorkBar, label_of
from redi_ray.stages.origins import by_source
from redi_ray.stages.problems import tests_of
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage

VERSION = 2
"""Of verified tables; raise it when their rows change."""


def checked_stage(run: Run, traces: Manifest | Stage) -> Stage:
    """Where the verdicts of the first pass go, those between rounds of sampling too."""
    settings = run.config.verify
    name = "verified" if settings.in_one_pass else "checked"
    return run.stage(name, settings.first_pass(), {"traces": traces}, version=VERSION)


def verified_stage(run: Run, traces: Manifest | Stage) -> Stage:
    settings, checked = run.config.verify, checked_stage(run, traces)
    if settings.in_one_pass:
        return checked
    inputs = {"checked": checked}
    if settings.judge is not None:
        inputs["judged"] = _judged_stage(run, checked, settings.judge)
    return run.stage("verified", _deciding(run), inputs)


def verified(run: Run, traces: Manifest, problems: Manifest | None = None) -> Manifest:
    """A verdict for every trace. problems: theirs, where they are not the run's own of one source."""
    if run.config.verify.in_one_pass:
        return _checked(run, traces, problems)
    settings, stage = run.config.verify, verified_stage(run, traces)
    if found := run.reuse(stage):
        return found
    first = _checked(run, traces, problems)
    judged = _judged(run, first, settings.judge) if settings.judge is not None else None
    started, table = time.monotonic(), storage.join(stage.uri, "verified")
    counts = decide_traces(first.table("verified"), judged.table("judged") if judged else None, table, settings)
    facts: dict[str, Any] = {"inverted": True} if settings.invert_labels else {}
    if settings.judge is not None:
        facts["judge"] = _judge_facts(counts, settings.judge)
    return _publish(run, stage, started, first.counts["in"], facts, problems)


def _checked(run: Run, traces: Manifest, problems: Manifest | None) -> Manifest:
    """The first pass. Rounds of sampling have verified theirs already; those shards are found done."""
    stage = checked_stage(run, traces)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    table = storage.join(stage.uri, "verified")
    shards, tests_uri = trace_shards(traces.table("traces")), tests_of(run, problems)
    with WorkBar(label_of("verify", run.step), traces.counts["out"], "traces") as progress:
        for folder in sorted({shard.rsplit("/", 2)[1] for shard in shards}):
            mine = [shard for shard in shards if shard.rsplit("/", 2)[1] == folder]
            verify_traces(
                mine,
                storage.join(table, folder),
                run.config.verify.first_pass(),
                concurrency=run.config.resources.verify_workers,
                tests_uri=tests_uri,
                label_selector=run.config.resources.cpu_label_selector,
                on_progress=progress,
            )
    return _publish(run, stage, started, traces.counts["out"], {}, problems)


def _judged_stage(run: Run, checked: Manifest | Stage, judge: JudgeSettings) -> Stage:
    deciding: dict[str, Any] = {"judge": judge, "reuse_votes": run.config.verify.reuse_votes}
    if judge.model is not None:
        deciding |= {"engine": judge.engine or run.config.resources.engine, "content": content_of_model(judge.model)}
    return run.stage("judged", deciding, {"checked": checked})


def _judged(run: Run, checked: Manifest, judge: JudgeSettings) -> Manifest:
    """What the judge says of each trace that it is asked about."""
    stage = _judged_stage(run, checked, judge)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    asking = judge_sampler(judge, run.config.resources.engine, checked.counts["out"])
    with WorkBar(label_of("judge", run.step), 0, "traces") as progress, asking as sampler:
        judge_traces(
            checked.table("verified"),
            stage.uri,
            run.config.verify,
            sampler,
            on_total=progress.set_total,
            on_progress=progress,
            trust_remote_code=(judge.engine or run.config.resources.engine).trusts_code,
        )
    not_asked, failures, rows = Counter[str](), 0, 0
    for table in parquet.read_tables(storage.list_files(stage.uri, ".parquet"), ["not_asked", "failure"]):
        rows += table.num_rows
        not_asked.update(_value_counts(table["not_asked"]))
        failures += table.num_rows - table["failure"].null_count
    answered = rows - sum(not_asked.values()) - failures
    counts = {"in": checked.counts["out"], "out": answered}
    return run.publish(stage, started, counts=counts, dropped=not_asked, rejected={"engine_error": failures})


def _deciding(run: Run) -> dict[str, Any]:
    """What turns votes into verdicts, for the key."""
    settings = run.config.verify
    reading = None
    if settings.judge is not None:
        reading = {"pattern": settings.judge.verdict_pattern, "words": settings.judge.verdict_words}
    names = ("votes", "policy", "invert_labels", "reuse_votes")
    return {**{name: getattr(settings, name) for name in names}, "reading": reading}


def _judge_facts(counts: JudgeCounts, judge: JudgeSettings) -> dict[str, Any]:
    no_vote = {reason: counts.no_vote[reason] for reason in NO_VOTE}
    facts = {**counts.plain(), "no_vote": no_vote, "model": judge.endpoint.model if judge.endpoint else judge.model}
    if judge.endpoint is not None and judge.endpoint.has_prices:
        facts["cost"] = judge.endpoint.cost(counts.prompt_tokens, counts.tokens)
    return facts


def _publish(
    run: Run, stage: Stage, started: float, num_traces: int, facts: dict[str, Any], problems: Manifest | None
) -> Manifest:
    told = verdict_counts(storage.list_files(storage.join(stage.uri, "verified"), ".parquet"))
    of_sources = by_source(run, stage, "verified", problems)
    counts = {"in": num_traces, "out": sum(told["verdicts"].values())}
    return run.publish(stage, started, counts=counts, facts={**facts, **told, **of_sources})


def verdict_counts(shards: Sequence[str]) -> dict[str, Any]:
    """What a manifest tells of verified shards: rows by verdict, by votes, and by how their tests ended."""
    verdicts = Counter[str]({str(verdict): 0 for verdict in Verdict})
    votes: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for shard in shards:
        told = [TESTED.name] if TESTED.name in parquet.read_schema(shard).names else []
        for table in parquet.read_tables([shard], ["verdict", "verdict_by", *told]):
            verdicts.update(_value_counts(table["verdict"]))
            votes.update(_combinations(table["verdict_by"]))
            tests.update(_endings(table[TESTED.name]) if told else ())
    return {**({"tests": dict(tests)} if tests else {}), "verdicts": dict(verdicts), "votes": dict(votes)}


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column.drop_null()).to_pylist()
    return {item["values"]: item["counts"] for item in counted}


def _endings(tested: pa.ChunkedArray) -> Iterator[str]:
    """How tests ended for each trace that has been tested: `passed`, the reason of the first failure, or `no_code`."""
    for told in tested.drop_null().to_pylist():
        failures = told["failures"]
        yield failures[0]["reason"] if failures else "passed" if told["run"] else "no_code"


def _combinations(votes: pa.ChunkedArray) -> dict[str, int]:
    """How often votes fell together: `math_verify wrong, judge correct` -> rows; verifiers without a vote are left out."""
    cast = (votes_of(stored) for stored in votes.to_pylist())
    return Counter(", ".join(f"{name} {vote}" for name, vote in by.items()) or "no vote" for by in cast)
