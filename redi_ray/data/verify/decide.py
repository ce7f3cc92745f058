"""From votes to verdicts where that takes a second pass: a judge's outputs are read, the label policy decides, labels may be
inverted. One task per shard, as in `redi_ray.data.verify.traces`; a shard whose verdicts are there is only counted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from redi_ray.config.answers import VerifySettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.verify.traces import decide_trace
from redi_ray.schemas import CUT_OFF, VERIFIED_TRACE, VERIFIERS, VOTES, Verdict
from redi_ray.store import storage
from redi_ray.text.judgement import read_judgement
from redi_ray.text.verdicts import invert

NO_VOTE = ("abstained", "unparseable", "truncated", "engine_error")


@dataclass
class JudgeCounts:
    """What became of a judge's traces: `traces = sum(votes) + sum(no_vote) + sum(not_asked)`."""

    traces: int = 0
    votes: Counter[str] = field(default_factory=Counter)
    no_vote: Counter[str] = field(default_factory=Counter)
    not_asked: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    prompt_tokens: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def add(self, plain: dict[str, Any]) -> None:
        """Add the counts of a shard, as `plain` gives them."""
        for name, value in plain.items():
            if isinstance(value, dict):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


def decide_traces(verified_uri: str, judged_uri: str | None, out_uri: str, settings: VerifySettings) -> JudgeCounts:
    """Write `<out_uri>/<shard>` (VERIFIED_TRACE) for every shard below `verified_uri`, with the verdicts of the policy.

    verified_uri: what Math-Verify and shipped votes say. judged_uri: JUDGEMENT shards of the same names, None without a
    judge.
    """
    root = storage.resolve(verified_uri)
    names = [uri.removeprefix(root + "/") for uri in trace_shards(root)]
    done = set(storage.list_files(out_uri, ".parquet"))
    rows = [{"name": name, "done": storage.join(storage.resolve(out_uri), name) in done} for name in names]
    counts = JudgeCounts()
    if rows:
        call = partial(_decide_shard, verified_uri=root, judged_uri=judged_uri, out_uri=out_uri, settings=settings)
        tasks = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(call, batch_size=1, num_cpus=0.5)
        for row in tasks.iter_rows():
            counts.add(json.loads(row["counts"]))
    return counts


def _decide_shard(
    batch: dict[str, Any], verified_uri: str, judged_uri: str | None, out_uri: str, settings: VerifySettings
) -> dict[str, list[str]]:
    name, counts = str(batch["name"][0]), JudgeCounts()
    judged: list[Verdict | None] | None = None
    if judged_uri is not None:
        assert settings.judge is not None
        (judgements,) = storage.read_tables([storage.join(judged_uri, name)])
        judged = _judge_votes(judgements, settings.judge, counts)
    if not batch["done"][0]:
        (table,) = storage.read_tables([storage.join(verified_uri, name)])
        if judged is not None:
            assert table["trace_id"].equals(judgements["trace_id"]), f"{name}: judgements of other traces"
        storage.write_table(storage.join(out_uri, name), decide_table(table, judged, settings))
    return {"counts": [json.dumps(counts.plain())]}


def _judge_votes(judgements: pa.Table, judge: JudgeSettings, counts: JudgeCounts) -> list[Verdict | None]:
    """The vote of each JUDGEMENT row, None where there is none; counted by reason."""
    votes: list[Verdict | None] = []
    for row in judgements.drop(["trace_id", "num_tokens", "prompt_tokens"]).to_pylist():
        vote = None
        if row["not_asked"] is not None:
            counts.not_asked[row["not_asked"]] += 1
        elif row["failure"] is not None:
            counts.no_vote["engine_error"] += 1
        else:
            judgement = read_judgement(row["output"], judge, finished=row["finish_reason"] not in CUT_OFF)
            vote = judgement.vote
            if vote is None:
                counts.no_vote[str(judgement.reason)] += 1
            else:
                counts.votes[vote.value] += 1
        votes.append(vote)
    counts.traces = judgements.num_rows
    counts.tokens = pc.sum(judgements["num_tokens"]).as_py() or 0
    counts.prompt_tokens = pc.sum(judgements["prompt_tokens"]).as_py() or 0
    return votes


def decide_table(table: pa.Table, judged: list[Verdict | None] | None, settings: VerifySettings) -> pa.Table:
    """VERIFIED_TRACE rows of the first pass -> the same rows with the judge's votes and the policy's verdicts.

    judged: Verdict[num_rows], None where our judge did not vote; None without one, and then shipped votes stand.
    """
    verdicts, verdicts_by = [], []
    unreadable, reasons = _unreadable(table), table["finish_reason"].to_pylist()
    for index, by in enumerate(table["verdict_by"].to_pylist()):
        if judged is not None and not (settings.reuse_votes and by["judge"] in set(Verdict)):
            by["judge"] = judged[index]
        cast: dict[str, Verdict | None] = {
            name: Verdict(by[name]) if by[name] in set(Verdict) else None for name in settings.votes
        }
        verdict = Verdict.ERROR if unreadable[index] else decide_trace(cast, settings.policy, reasons[index])
        verdicts.append((invert(verdict) if settings.invert_labels else verdict).value)
        verdicts_by.append({name: by[name] for name in VERIFIERS})
    columns = {"verdict": pa.array(verdicts, pa.string()), "verdict_by": pa.array(verdicts_by, VOTES)}
    return pa.table({name: columns.get(name, table[name]) for name in VERIFIED_TRACE.names}).cast(VERIFIED_TRACE)


def _unreadable(table: pa.Table) -> list[bool]:
    """Rows whose text was no text: the first pass left them empty, with an error for Math-Verify's vote."""
    failed = pc.equal(pc.struct_field(table["verdict_by"], "math_verify"), Verdict.ERROR.value)
    empty = pc.equal(pc.binary_length(table["completion"]), 0)
    return pc.fill_null(pc.and_(failed, empty), False).to_pylist()
