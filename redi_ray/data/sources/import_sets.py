"""Step `import`: from a set that people have to the tables that trainings read.

One streaming pass over the rows in their order, in one Ray task. Tables: `examples` (EXAMPLE) of a set of answers, `pairs` (PAIR)
of a preference set, `groups` (GROUP) of labelled answers, of samples with rewards, of preferences with scores, and wherever an
answer has several turns; `rejects`. Ids are made of seed and content: their order, in which tokens are made, is a fixed shuffle.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.data import FileSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.folders import DataError, expand_paths
from redi_ray.data.sources.import_answers import Answered, LeftOut, Member
from redi_ray.data.sources.import_groups import Samples
from redi_ray.data.sources.import_parts import Sides, questions
from redi_ray.data.sources.import_rows import RowReader
from redi_ray.data.sources.import_tables import MOST_TOLD, SCHEMAS, ImportCounts, example_of, pair_of, refusal
from redi_ray.data.sources.readers import Row, source_rows
from redi_ray.data.sources.shapes import LOOKED_AT, Layout, layout_of
from redi_ray.data.sources.shards import TOLD_LIMIT, RejectWriter, ShardWriter
from redi_ray.store import storage

SHARD_CHARS = 32 << 20
"""Of answers, from which on a shard is written however few rows it has."""


def first_rows(settings: ImportSettings, where: str) -> list[Row]:
    """The first rows of a set that can be read; of those that cannot, one. Raises DataError."""
    rows = itertools.islice(source_rows(settings.source, told=f"{where}.source"), settings.max_rows)
    head = list(itertools.islice(rows, LOOKED_AT))
    return [row for row in head if row.value is not None] or head[:1]


def look(settings: ImportSettings, prompt: PromptSettings, where: str) -> Layout:
    """How a set will be read, by its first rows. Raises DataError where that cannot be told, or not one of them can be used."""
    head = first_rows(settings, where)
    layout = layout_of(settings, _values(head, where), where)
    read, found = RowReader(layout, settings, prompt), Counter[str]()
    first: dict[str, str] = {}
    for row in head:
        try:
            read(row.value or {})
        except LeftOut as error:
            found[error.reason] += 1
            first.setdefault(error.reason, f"{row.where}: {error}")
    if found.total() == len(head):
        raise DataError(refusal(where, f"the first {len(head)} rows", layout, found, first, prompt))
    for reason, count in found.most_common(MOST_TOLD):
        told = (where, count, len(head), reason, first[reason][:TOLD_LIMIT])
        log.warning("%s: %d of the first %d rows cannot be used: %s, %s", *told)
    return layout


def _values(head: Sequence[Row], where: str) -> Sequence[Mapping[str, Any]]:
    """What the first rows hold. Raises DataError where none can be read."""
    values = [row.value for row in head if row.value is not None]
    if not values:
        why = f"no row can be read; {head[0].where} {head[0].error}" if head else "the set has no rows"
        raise DataError(f"{where}: {why}")
    return values


def import_set(settings: ImportSettings, prompt: PromptSettings, out_uri: str, where: str) -> ImportCounts:
    """Write the set's tables below `out_uri`. where: what the config calls the step.

    Raises DataError if a file cannot be read, the shape cannot be told, or no row can be used.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=2)(_import_rows)
    try:
        counts: ImportCounts = ray.get(remote.remote(settings, prompt, out_uri, where))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return counts


def _import_rows(settings: ImportSettings, prompt: PromptSettings, out_uri: str, where: str) -> ImportCounts:
    rows = itertools.islice(source_rows(settings.source, told=f"{where}.source"), settings.max_rows)
    head = list(itertools.islice(rows, LOOKED_AT))
    layout = layout_of(settings, _values(head, where), where)
    importing = _Importing(RowReader(layout, settings, prompt), out_uri, where)
    with importing.samples:
        for row in itertools.chain(head, rows):
            importing.add(row)
        return importing.finish()


class _Importing:
    """The state of the pass: what has been seen, and the writers."""

    def __init__(self, reader: RowReader, out_uri: str, where: str) -> None:
        self.reader, self.out_uri, self.where = reader, out_uri, where
        self.layout, settings = reader.layout, reader.settings
        own = {"sft": "examples", "preference": "pairs"}.get(self.layout.shape)
        own = None if "begun" in self.layout.columns else own  # a pair has no spans
        own = "examples" if settings.judge is not None else own
        self.sides = Sides(settings.split, where) if settings.split is not None else None
        self.writers = {
            name: ShardWriter(storage.join(out_uri, name), SCHEMAS[name]) for name in (own, "groups") if name
        }
        self.rejects = RejectWriter(storage.join(out_uri, "rejects"))
        self.samples = Samples(_sizes(settings))
        self.dropped, self.first = Counter[str](), dict[str, str]()
        self.seen, self.prompts_of = Counter[bytes](), dict[str, bytes]()
        self.verdicts, self.graded_otherwise = dict[bytes, bytes](), 0
        self.held = self.rows = self.kept = self.renamed = self.positive = self.answers = self.several_turns = (
            self.rewarded
        ) = 0

    def add(self, row: Row) -> None:
        self.rows += 1
        if row.value is None:
            self.rejects.add(row.where, "unreadable_row", row.error, row.raw)
            return
        try:
            found = self.reader(row.value)
            if not self._takes(row.value, found):
                return
            asked = self._asked(found)
        except LeftOut as error:
            if error.by_rule:
                self.dropped[error.reason] += 1
                self.first.setdefault(error.reason, str(error))
            else:
                self.rejects.add(row.where, error.reason, str(error), row.value)
            return
        if asked is not None:
            self._add_questions(asked)
            return
        if self.layout.shape == "rollouts":
            self._add_samples(found)
            return
        if (before := self._times_before(found)) and not self.reader.settings.keep_duplicates:
            self.dropped["duplicate"] += 1
        else:
            self.kept += 1
            self._write(found, before)

    def _times_before(self, found: Answered) -> int:
        """How many earlier rows say the same."""
        digest = _digest(found.prompt, [(member.turns, member.side, *self._reward(member)) for member in found.members])
        self.seen[digest] += 1
        return self.seen[digest] - 1

    def _reward(self, member: Member) -> list[float | None]:
        """What tells equal rollouts apart."""
        return [member.reward] if self.layout.shape == "rollouts" else []

    def _add_samples(self, found: Answered) -> None:
        """Samples of one prompt, which make a group with those of other rows. Equal samples are samples all the same; a row of
        several that says what an earlier one has said is a duplicate."""
        repeated = len(found.members) > 1 and self._times_before(found)
        if repeated and not self.reader.settings.keep_duplicates:
            self.dropped["duplicate"] += 1
            return
        self.kept += 1
        for member in found.members:
            self.samples.add(_digest(found.problem_id, found.prompt), replace(found, members=[member]))

    def _takes(self, row: Mapping[str, Any], found: Answered) -> bool:
        """Whether a row is on the side that is taken; if not, it is counted. Raises LeftOut, SplitError."""
        if self.sides is None:
            return True
        side = self.sides(row, found)
        if taken := side == self.sides.split.take:
            return taken
        self.dropped[f"{side}_side"] += 1
        self.first.setdefault(f"{side}_side", f"`split.take: {self.sides.split.take}` leaves them out")
        return False

    def _asked(self, found: Answered) -> list[Answered] | None:
        """What a judge is asked about the answers, where that is wanted. Raises LeftOut."""
        judge = self.reader.settings.judge
        return None if judge is None else list(questions(found, judge, self.reader.prompt))

    def _add_questions(self, asked: list[Answered]) -> None:
        """Questions of one row; none is asked again, and a row that asks nothing new is a duplicate."""
        new = 0
        for one in asked:
            verdict = one.members[0].turns
            digest = _digest(one.prompt, verdict)
            self.graded_otherwise += self.verdicts.setdefault(_digest(one.prompt), digest) != digest
            before = self.seen[digest]
            self.seen[digest] += 1
            if not before or self.reader.settings.keep_duplicates:
                self._write(one, before)
                new += 1
        if new:
            self.kept += 1
        else:
            self.dropped["duplicate"] += 1

    def _write(self, found: Answered, before: int = 0) -> None:
        """before: earlier rows that say the same."""
        members = [member.as_row() for member in found.members]
        self.answers += len(members)
        self.positive += sum(member.side > 0 for member in found.members)
        self.several_turns += sum(len(member.turns) > 1 for member in found.members)
        self.rewarded += any(member.reward is not None for member in found.members)
        group = {
            "group_id": self._id(found, before),
            "problem_id": self._problem_id(found),
            "prompt": found.prompt,
            "members": members,
        }
        self.writers["groups"].add(group)
        if "pairs" in self.writers:
            self.writers["pairs"].add(pair_of(group))
        if "examples" in self.writers:
            self.writers["examples"].add(example_of(group))
        self.held += sum(len(turn["content"]) for member in found.members for turn in member.turns)
        if self.held > SHARD_CHARS:
            self._flush()

    def _flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()
        self.held = 0

    def _id(self, found: Answered, before: int) -> str:
        members = [(member.turns, member.side, member.reward) for member in found.members]
        whose = [found.problem_id] if self.layout.shape == "rollouts" and found.problem_id is not None else []
        digest = _digest(found.prompt, members, *whose).hex()
        return f"{_digest(self.reader.settings.seed, digest).hex()[:12]}/{digest}" + (
            f"~{before + 1}" if before else ""
        )

    def _problem_id(self, found: Answered) -> str:
        """The data's own where it names this prompt alone, else with a hash of the prompt behind it, or only that."""
        digest = _digest(found.prompt)
        if found.problem_id is None:
            return digest.hex()
        if self.prompts_of.setdefault(found.problem_id, digest) == digest:
            return found.problem_id
        self.renamed += 1
        return f"{found.problem_id}~{digest.hex()}"

    def finish(self) -> ImportCounts:
        for group in self.samples:
            self._write(group)
        self._flush()
        self.rejects.flush()
        if self.sides is not None:
            self.sides.check()
        if not self.kept:
            reasons, first = self.dropped + self.rejects.reasons, self.first | self.rejects.first
            raise DataError(refusal(self.where, f"{self.rows} rows", self.layout, reasons, first, self.reader.prompt))
        gone = self._superfluous()
        for name in gone:
            storage.delete(storage.join(self.out_uri, name))
        return ImportCounts(
            self.layout,
            {"in": self.rows, "out": self.kept},
            dict(self.dropped),
            dict(self.rejects.reasons),
            {name: writer.count for name, writer in self.writers.items() if name not in gone},
            positive=self.positive,
            answers=self.answers,
            several_turns=self.several_turns,
            warnings=self._warnings(),
            first=self.first,
        )

    def _superfluous(self) -> list[str]:
        """Tables that say no more than another, or that cannot say it: the usual ones hold one turn an answer and no reward."""
        if len(self.writers) == 1:
            return []
        if self.several_turns:
            return [name for name in self.writers if name != "groups"]
        return [] if self.rewarded else ["groups"]

    def _warnings(self) -> list[str]:
        reasons = self.rejects.reasons
        found = [
            f"{count:,} rows rejected as {name}; the first is {self.rejects.first[name]}"
            for name, count in reasons.items()
        ]
        if self.renamed:
            found.append(
                f"{self.renamed:,} rows have an id that names another prompt before; they count as problems of their own"
            )
        if self.graded_otherwise:
            found.append(
                f"{self.graded_otherwise:,} answers have another score than the same answer had before; a judge learns both"
            )
        return found


def _digest(*parts: Any) -> bytes:
    """Eight bytes of what is said, the same everywhere."""
    return hashlib.blake2b(json.dumps(parts, ensure_ascii=True).encode(), digest_size=8).digest()


def _sizes(settings: ImportSettings) -> Sequence[int] | None:
    """Sizes of the set's files; None where they are not known."""
    source = settings.source
    return storage.file_sizes(expand_paths(source.paths)) if isinstance(source, FileSet) else None
