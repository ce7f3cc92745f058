"""Problems that a run knows, found by id or by what they ask, and the verdict on an answer to one of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.benchmarks import WORLD
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.errors import UserError
from redi_ray.eval.benchmarks import load_benchmark
from redi_ray.stages.evaluation import benchmark_verification
from redi_ray.store import parquet
from redi_ray.store.manifests import current_manifest
from redi_ray.store.storage import StorageError
from redi_ray.talk.models import TalkError
from redi_ray.text.problem_key import problem_key

log = logging.getLogger("redi_ray")

TABLES = ("test", "dev", "problems")
"""Of the stage `problems`, the held-out ones first."""
FIELDS = ["problem_id", "problem", "answer", "source"]


@dataclass(frozen=True)
class Problem:
    """A problem with its reference answer, and how answers to it are judged."""

    problem_id: str
    problem: str
    answer: str | None
    source: str | None
    table: str
    """Where it is from: `problems` (learnt from), `dev`, `test`, or a benchmark's name."""
    is_clean: bool
    """Whether the reference is an answer alone, as those of benchmarks are."""


@dataclass(frozen=True)
class Judged:
    """The verdict on an answer."""

    verdict: str
    extracted: str | None
    """The answer that was read in the text."""
    gold: str


class KnownProblems:
    """All problems of a run: those it made, and those of its benchmarks that are at hand. Owns a verifier's processes, so close
    it, or use it as a context manager."""

    def __init__(self, run_uri: str, config: ExperimentConfig) -> None:
        self.run_uri, self.config = run_uri, config
        self._verifiers: dict[bool, AnswerVerifier] = {}

    def by_id(self, problem_id: str) -> Problem:
        """Raises TalkError where the run has none of this id."""
        for table, rows, is_clean in self._tables():
            found = rows.filter(pc.equal(rows["problem_id"], problem_id)).slice(0, 1).to_pylist()
            if found:
                return Problem(**found[0], table=table, is_clean=is_clean)
        some = ", ".join(self._some_ids())
        raise TalkError(
            f"{self.run_uri}: no problem {problem_id}" + (f"; there are, for instance, {some}" if some else "")
        )

    def by_text(self, asked: str) -> Problem | None:
        """The problem that asks this, white space and the like aside; None where the run has none."""
        wanted = asked.strip()
        key = problem_key(wanted)
        for table, rows, is_clean in self._tables():
            texts = rows["problem"]
            # what asks the same has about as many characters: only those are brought into the form in which equals are equal
            near = pc.less_equal(pc.abs(pc.subtract(pc.utf8_length(texts), len(wanted))), 20 + len(wanted) // 4)
            for row in rows.filter(pc.or_(near, pc.equal(texts, wanted))).to_pylist():
                if row["problem"].strip() == wanted or problem_key(row["problem"]) == key:
                    return Problem(**row, table=table, is_clean=is_clean)
        return None

    def judge(self, problem: Problem, text: str, finished: bool) -> Judged | None:
        """The verdict on an answer by the run's verifier; None where the problem has no reference answer.

        A judge that the run has besides is not asked.
        """
        if problem.answer is None:
            return None
        if problem.is_clean not in self._verifiers:
            own = self.config.verify
            self._verifiers[problem.is_clean] = AnswerVerifier(benchmark_verification(own) if problem.is_clean else own)
        (found,) = self._verifiers[problem.is_clean].verify_many([(problem.answer, text)], [finished])
        return Judged(str(found.verdict), found.extracted_answer, problem.answer)

    def close(self) -> None:
        """End the verifier's processes."""
        for verifier in self._verifiers.values():
            verifier.close()
        self._verifiers.clear()

    def __enter__(self) -> KnownProblems:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tables(self) -> Iterator[tuple[str, pa.Table, bool]]:
        """Name, rows and `is_clean` of each table, a part of it at a time."""
        for table in TABLES:
            for rows in parquet.read_tables(self._files(table), FIELDS):
                yield table, rows, table == "test"
        for benchmark in self.config.evaluate.benchmarks:
            if benchmark.name == WORLD:  # it is `test`
                continue
            try:
                yield benchmark.name, load_benchmark(benchmark).select(FIELDS), True
            except UserError as error:  # of the hub, which a terminal may not reach
                log.debug("benchmark %s is not at hand: %s", benchmark.name, error)

    def _files(self, table: str) -> list[str]:
        try:
            return current_manifest(self.run_uri, "problems").files(table)
        except StorageError:  # of a run that imports what is learnt from
            return []

    def _some_ids(self) -> list[Any]:
        return next((rows.slice(0, 3)["problem_id"].to_pylist() for _, rows, _ in self._tables()), [])
