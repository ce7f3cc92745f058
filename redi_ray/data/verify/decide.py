"""From votes to verdicts where that takes a second pass: a judge's outputs are read, the label policy decides, labels may be
inverted. One task per shard, as in `redi_ray.data.verify.traces`; a shard whose verdicts are there is only counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.answers import VerifySettings
from redi_ray.data.columns import beside
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.verify.traces import decide_votes, in_order
from redi_ray.schemas import CUT_OFF, TESTED, VERIFIED_TRACE, VOTES, Verdict, stored_votes, votes_of, with_tests
from redi_ray.store import parquet, storage
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
    done, counts = set(storage.list_files(out_uri, ".parquet")), JudgeCounts()
    here = {name for name in names if storage.join(storage.resolve(out_uri), name) in done}
    for _, found in each_shard(names, _decide_shard, root, judged_uri, out_uri, settings, here):
        counts.add(found)
    return counts


def _decide_shard(
    name: str, verified_uri: str, judged_uri: str | None, out_uri: str, settings: VerifySettings, done: set[str]
) -> dict[str, Any]:
    """The counts of a shard; its verdicts are written, unless it is one of `done`."""
    counts, shard = JudgeCounts(), storage.join(verified_uri, name)
    columns = [] if judged_uri is None else [storage.join(judged_uri, name)]
    if name in done:
        for column in columns:
            for judgements in parquet.read_batches(column):
                _judge_votes(judgements, settings, counts)
        return counts.plain()
    schema = with_tests(VERIFIED_TRACE) if TESTED.name in parquet.read_schema(shard).names else VERIFIED_TRACE
    with parquet.table_writer(storage.join(out_uri, name), schema) as write:
        for rows, found in beside(shard, columns, schema.names):
            judged = _judge_votes(found[0], settings, counts) if found else None
            write(decide_table(rows.select(schema.names), judged, settings))
    return counts.plain()


def _judge_votes(judgements: pa.Table, settings: VerifySettings, counts: JudgeCounts) -> list[Verdict | None]:
    """The vote of each JUDGEMENT row, None where there is none; counted by reason."""
    judge = settings.judge
    assert judge is not None
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
    counts.traces += judgements.num_rows
    counts.tokens += pc.sum(judgements["num_tokens"]).as_py() or 0
    counts.prompt_tokens += pc.sum(judgements["prompt_tokens"]).as_py() or 0
    return votes


def decide_table(table: pa.Table, judged: list[Verdict | None] | None, settings: VerifySettings) -> pa.Table:
    """VERIFIED_TRACE rows of the first pass -> the same rows with the judge's votes and the policy's verdicts.

    judged: Verdict[num_rows], None where our judge did not vote; None without one, and then shipped votes stand.
    """
    verdicts, verdicts_by = [], []
    empty, reasons = pc.equal(pc.binary_length(table["completion"]), 0).to_pylist(), table["finish_reason"].to_pylist()
    has_tests = table[TESTED.name].is_valid().to_pylist() if TESTED.name in table.column_names else []
    for index, stored in enumerate(table["verdict_by"].to_pylist()):
        is_tested = bool(has_tests) and has_tests[index]
        by = votes_of(stored)
        # its text was no text: the first pass left it empty, with an error for Math-Verify's vote
        unreadable = empty[index] and by.get("math_verify") == Verdict.ERROR
        if judged is not None and not is_tested and not (settings.reuse_votes and by.get("judge") in set(Verdict)):
            by.pop("judge", None)
            if (vote := judged[index]) is not None:
                by["judge"] = vote.value
        verdict = Verdict.ERROR if unreadable else decide_votes(by, settings, reasons[index], tested=is_tested)
        verdicts.append((invert(verdict) if settings.invert_labels else verdict).value)
        verdicts_by.append(stored_votes(in_order(by, settings)))
    columns = {"verdict": pa.array(verdicts, pa.string()), "verdict_by": pa.array(verdicts_by, VOTES)}
    schema = with_tests(VERIFIED_TRACE) if TESTED.name in table.column_names else VERIFIED_TRACE
    return pa.table({name: columns.get(name, table[name]) for name in schema.names}).cast(schema)
