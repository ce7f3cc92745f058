"""Verdicts by thresholds on a column, for traces of problems with neither a reference answer nor tests. One task per shard; a
shard that is there is only counted."""

from __future__ import annotations

import math
from collections import Counter

import pyarrow as pa

from redi_ray.config.grades import GradeSettings
from redi_ray.data.columns import beside
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.data.verify.traces import TESTS_VOTE
from redi_ray.schemas import VOTES, Verdict, stored_votes, votes_of
from redi_ray.store import parquet, storage
from redi_ray.text.finish import is_partial

GRADE = "grade"
"""Name of the vote."""
READ = ["answer", "verdict", "verdict_by", "finish_reason"]


def grade_traces(verified_uri: str, column_uri: str, out_uri: str, settings: GradeSettings) -> Counter[str]:
    """Write `<out_uri>/<shard>` for every shard of verified traces; the counts: `graded/VERDICT` of those that have a verdict by
    their number, `undecided` between the thresholds, `without` a number, `others`, which it was not for.

    column_uri: shards of the same names with a `value` for each trace. Raises ColumnError where they are of other traces.
    """
    root, counts = storage.resolve(verified_uri), Counter[str]()
    names = [uri.removeprefix(root + "/") for uri in trace_shards(root)]
    column, out = storage.resolve(column_uri), storage.resolve(out_uri)
    for _, found in each_shard(names, _grade_shard, root, column, out, settings):
        counts.update(found)
    return counts


def _grade_shard(name: str, verified: str, column: str, out: str, settings: GradeSettings) -> dict[str, int]:
    shard, written, counts = storage.join(verified, name), storage.join(out, name), Counter[str]()
    done, schema = storage.exists(written), parquet.read_schema(shard)
    if done:
        for rows, (numbers,) in beside(shard, [storage.join(column, name)], READ):
            counts += _graded(rows, numbers, settings)[1]
        return dict(counts)
    with parquet.table_writer(written, schema) as write:
        for rows, (numbers,) in beside(shard, [storage.join(column, name)], schema.names):
            table, found = _graded(rows, numbers, settings)
            write(table.select(schema.names).cast(schema))
            counts += found
    return dict(counts)


def _graded(rows: pa.Table, numbers: pa.Table, settings: GradeSettings) -> tuple[pa.Table, Counter[str]]:
    counts: Counter[str] = Counter()
    verdicts, votes = rows["verdict"].to_pylist(), rows["verdict_by"].to_pylist()
    answered, reasons = rows["answer"].is_valid().to_pylist(), rows["finish_reason"].to_pylist()
    for at, number in enumerate(numbers["value"].to_pylist()):
        if verdicts[at] != Verdict.GOLD_UNPARSEABLE or answered[at] or TESTS_VOTE in votes_of(votes[at]):
            counts["others"] += 1
            continue
        verdict = verdict_of(number, settings)
        if verdict is None:
            counts["without" if number is None or math.isnan(number) else "undecided"] += 1
            continue
        verdict = Verdict.NO_ANSWER if verdict == Verdict.WRONG and is_partial(reasons[at]) else verdict
        counts[f"graded/{verdict.value}"] += 1
        verdicts[at] = verdict.value
        votes[at] = stored_votes({GRADE: verdict.value, **votes_of(votes[at])})
    for name, values, kind in (("verdict", verdicts, pa.string()), ("verdict_by", votes, VOTES)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, kind))
    return rows, counts


def verdict_of(number: float | None, settings: GradeSettings) -> Verdict | None:
    """What a number says; None where there is none, and between the thresholds."""
    if number is None or math.isnan(number):
        return None
    if settings.right is not None and number >= settings.right:
        return Verdict.CORRECT
    return Verdict.WRONG if settings.wrong is not None and number <= settings.wrong else None
