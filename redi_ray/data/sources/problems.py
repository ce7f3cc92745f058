"""Stage `problems`: from a source to distinct problems, and to the traces that came with them.

One streaming pass over the rows in their order, in one Ray task: reading is cheap beside everything that follows, the
order decides the `sample_index` of imported traces, and the driver's memory stays flat.

Tables: `problems` and `dev` (PROBLEM), `imported` (TRACE, where the source has traces), `tests` (TESTS, where columns name them),
`rejects`; the built-in world also writes `test`. `dev` holds the problems held out for development, whose traces go no further
either.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.data import Columns, NoSource, OpenR1Source
from redi_ray.config.loops import LoopSettings
from redi_ray.config.mixture import MixSource, VerifiedBy
from redi_ray.config.problems import DevelopmentSplit, ProblemsConfig
from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.sources.built_in import answer_of, splits_of
from redi_ray.data.sources.known_problems import Conflict, Known, KnownProblems, hash_of
from redi_ray.data.sources.readers import DataError, Row, source_rows
from redi_ray.data.sources.rows import Parsed, Refused, parser
from redi_ray.data.sources.shapes import LOOKED_AT, import_instead
from redi_ray.data.sources.shards import RejectWriter, ShardWriter
from redi_ray.data.sources.tests_table import TESTS_TABLE, TestsWriter
from redi_ray.schemas import PROBLEM, TRACE, stored_votes, trace_id
from redi_ray.store import storage
from redi_ray.text.loops import infer_finish_reason
from redi_ray.text.problem_key import problem_key

LOOPS = LoopSettings()
"""How the ends of imported traces are read."""
HELD_OUT = "held_out_for_development"
"""Drop reason of the rows, and of their traces, that belong to a development problem."""
HOW_TO_MEND = {
    "conflicting_problem_id": ". To tell problems by their text, set {section}.source.columns.problem_id: null",
}
"""Reject reason -> what to do, where its detail does not say so."""


@dataclass(frozen=True)
class ProblemCounts:
    """How the rows and their traces came through."""

    counts: dict[str, int]
    dropped: dict[str, int]
    rejected: dict[str, int]
    traces: dict[str, Any]
    """`in`, `out`, `dropped` and `rejected` of the traces in the rows, and the `finish_reasons` of those that are out."""
    tests: int = 0
    """Problems with tests."""
    dev: int = 0
    """Problems held out for development."""
    warnings: list[str] = field(default_factory=list)
    """What was rejected and why, with the first of each, in words."""


def collect_problems(
    config: ProblemsConfig, out_uri: str, verified_by: VerifiedBy | None = None, told: str = "problems"
) -> ProblemCounts:
    """Write the source's problems (and traces) below `out_uri`.

    verified_by: what every row must bring along, see `SourceSettings`. told: what the config calls the section. Raises DataError
    if a file cannot be read or no row can be used.
    """
    import ray

    if isinstance(config.source, BuiltInSource):
        return _write_world(config, config.source, out_uri)
    remote: Any = ray.remote(num_cpus=1, max_retries=2)(_collect_rows)
    try:
        counts: ProblemCounts = ray.get(remote.remote(config, out_uri, verified_by, told))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    for warning in counts.warnings:
        log.warning("%s: %s", told, warning)
    return counts


def _write_world(config: ProblemsConfig, source: BuiltInSource, out_uri: str) -> ProblemCounts:
    world = splits_of(source)
    splits = {"problems": world.train[: config.max_problems], "dev": world.dev, "test": world.test}
    for split, problems in splits.items():
        writer = ShardWriter(storage.join(out_uri, split), PROBLEM)
        prefix = "train" if split == "problems" else split
        for index, problem in enumerate(problems):
            row = {
                "problem_id": f"{prefix}-{index}",
                "problem": problem,
                "answer": answer_of(source, problem),
                "source": source.kind,
            }
            writer.add(row)
        writer.flush()
    kept = len(splits["problems"])
    over = len(world.train) - kept
    dropped = {"over_max_problems": over} if over else {}
    return ProblemCounts({"in": len(world.train), "out": kept}, dropped, {}, {}, dev=len(world.dev))


def is_held_out(problem: str, split: DevelopmentSplit) -> bool:
    """Whether a problem with this text belongs to the development split."""
    if not split.share:
        return False
    digest = hashlib.blake2b(f"{split.seed}/{problem_key(problem)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < split.share * 2**64


def _collect_rows(
    config: ProblemsConfig, out_uri: str, verified_by: VerifiedBy | None = None, told: str = "problems"
) -> ProblemCounts:
    collector = _Collector(config, out_uri, verified_by, told)
    for row in source_rows(config.source, f"{told}.source"):  # type: ignore[arg-type]  # the built-in world never comes here
        collector.rows += 1
        if row.value is not None and len(collector.head) < LOOKED_AT:
            collector.head.append(row.value)
        if row.value is None:
            collector.rejects.add(row.where, "unreadable_row", row.error, row.raw)
            continue
        parsed = collector.parse(row.value)
        if isinstance(parsed, Refused):
            collector.refuse(row.where, parsed, row.value)
        else:
            collector.accept(row, parsed)
    return collector.finish()


class _Collector:
    """The state of the pass: which problems have been seen, and the writers."""

    def __init__(self, config: ProblemsConfig, out_uri: str, verified_by: VerifiedBy | None, told: str) -> None:
        source = config.source
        assert not isinstance(source, BuiltInSource | NoSource | MixSource)
        self.config, self.parse, self.told = config, parser(source, verified_by), told
        self.known = KnownProblems(same_id_is_another_problem=isinstance(source, OpenR1Source))
        self.problems = ShardWriter(storage.join(out_uri, "problems"), PROBLEM)
        self.dev = ShardWriter(storage.join(out_uri, "dev"), PROBLEM)
        self.traces = ShardWriter(storage.join(out_uri, "imported"), TRACE, rows_per_shard=1000)
        columns = None if isinstance(source, OpenR1Source) else source.columns
        tested = columns is not None and columns.tests is not None
        self.tests = TestsWriter(storage.join(out_uri, TESTS_TABLE)) if tested else None
        self.rejects = RejectWriter(storage.join(out_uri, "rejects"))
        self.dropped: Counter[str] = Counter()
        self.trace_rejects: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.held_out_traces = self.labelled = 0
        self.head: list[dict[str, Any]] = []
        """The first rows, to tell what they are if they are no problems."""
        self.rows = 0

    def refuse(self, where: str, refused: Refused, value: dict[str, Any]) -> None:
        if refused.by_rule:
            self.dropped[refused.reason] += 1
        else:
            self.rejects.add(where, refused.reason, refused.detail, value)

    def accept(self, row: Row, parsed: Parsed) -> None:
        try:
            known, new = self.known.find(parsed, row.file, self.rows)
        except Conflict as conflict:
            self.rejects.add(row.where, conflict.reason, str(conflict), row.value)
            return
        limit = self.config.max_problems
        if new and limit is not None and self.problems.count >= limit:
            self.dropped["over_max_problems"] += 1
            return
        if new:
            known.held_out = parsed.answer is not None and is_held_out(parsed.problem, self.config.dev)
            self.known.add(known)
            self._add_problem(known, parsed)
        else:
            self.dropped["same_problem_again"] += 1  # its traces still join the problem's own
        if parsed.tests is not None and self.tests is not None and (new or known.tests is None):
            known.tests = hash_of(parsed.tests)
            self.tests.add(known.problem_id, parsed.problem, parsed.tests)
        if known.held_out:
            self.held_out_traces += len(parsed.traces)
        else:
            self._add_traces(known, parsed)
        for reason, detail in parsed.refused_traces:
            self.trace_rejects[reason] += 1
            self.rejects.add(f"{row.where} ({known.problem_id})", f"trace:{reason}", detail)
        known.traces += len(parsed.traces)

    def _add_problem(self, known: Known, parsed: Parsed) -> None:
        row = {
            "problem_id": known.problem_id,
            "problem": parsed.problem,
            "answer": parsed.answer,
            "source": parsed.source,
        }
        if known.held_out:
            self.dev.add(row)
            self.dropped[HELD_OUT] += 1
        else:
            self.problems.add(row)

    def _add_traces(self, known: Known, parsed: Parsed) -> None:
        for index, trace in enumerate(parsed.traces, start=known.traces):
            reason = trace.finish_reason or infer_finish_reason(trace.completion, LOOPS)
            self.finish_reasons[reason or "unknown"] += 1
            self.labelled += any(vote is not None for vote in (trace.votes or {}).values())
            self.traces.add(
                {
                    "problem_id": known.problem_id,
                    "problem": parsed.problem,
                    "answer": parsed.answer,
                    "source": parsed.source,
                    "trace_id": trace_id(known.problem_id, index),
                    "sample_index": index,
                    "completion": trace.completion,
                    "turns": trace.turns,
                    "finish_reason": reason,
                    "model": trace.model,
                    "votes": None if trace.votes is None else stored_votes(trace.votes),
                }
            )

    def finish(self) -> ProblemCounts:
        self.known.close()
        for writer in (self.problems, self.dev, self.traces, self.rejects, self.tests):
            if writer is not None:
                writer.flush()
        row_rejects = {k: v for k, v in self.rejects.reasons.items() if not k.startswith("trace:")}
        if not self.problems.count:
            raise DataError(
                f"no usable problem in {self.rows} rows: dropped {dict(self.dropped)}, rejected {row_rejects}; "
                f"check {self.told}.source.columns against the rows (rejects/ holds each with its reason)"
                + "".join(f"\n  {reason}: {first}" for reason, first in self.rejects.first.items())
                + import_instead(self.config.source, self.head)
            )
        dropped = {HELD_OUT: self.held_out_traces} if self.held_out_traces else {}
        total = self.traces.count + self.held_out_traces + self.trace_rejects.total()
        return ProblemCounts(
            {"in": self.rows, "out": self.problems.count},
            dict(self.dropped),
            row_rejects,
            {
                "in": total,
                "out": self.traces.count,
                "dropped": dropped,
                "rejected": dict(self.trace_rejects),
                "finish_reasons": dict(self.finish_reasons),
            },
            tests=0 if self.tests is None else self.tests.count,
            dev=self.dev.count,
            warnings=self._warnings(),
        )

    def _warnings(self) -> list[str]:
        """What the user should know of the rows that did not come through, and of ids that were changed."""
        found = []
        for reason, count in self.rejects.reasons.items():
            what, of = ("traces", reason.removeprefix("trace:")) if reason.startswith("trace:") else ("rows", reason)
            mend = HOW_TO_MEND.get(of, "").format(section=self.told)
            found.append(f"{count:,} {what} rejected as {of}; the first is {self.rejects.first[reason]}{mend}")
        source, traces = self.config.source, self.traces.count
        columns: Columns | None = getattr(source, "columns", None)
        if columns is not None and self.tests is not None and not self.tests.count:
            found.append(
                f"none of {self.problems.count:,} problems has tests; check {self.told}.source.columns.tests "
                f"({columns.tests})"
            )
        if columns is not None and columns.label and traces and not self.labelled:
            label = columns.label
            found.append(f"none of {traces:,} traces has a label; check {self.told}.source.columns.label ({label})")
        if renamed := self.known.renamed:
            (_, before), after = next(iter(renamed.items()))
            found.append(
                f"{len(renamed):,} problems have an id that names another problem in another file, and got an id of their "
                f"own, such as {after} for {before}. If ids mean nothing here, set {self.told}.source.columns.problem_id: null"
            )
        return found
