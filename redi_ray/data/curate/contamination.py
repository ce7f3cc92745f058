"""Block `contamination`: does a problem hold a problem of a benchmark? The rule is in `redi_ray.config.curation`.

The index maps the benchmarks' short n-grams to their problems, in sorted arrays (12 bytes an entry). A problem's own
n-grams find the benchmark problems that share enough of them, and only those are compared word by word.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.curation import BenchmarkFile, Contamination
from redi_ray.data.curate.block import ProblemBlock, Why
from redi_ray.data.curate.work import Curation
from redi_ray.data.sources.readers import DataError, file_rows
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import spoken
from redi_ray.text.wording import ngrams, symbols, whole_key, words

BENCHMARKS = pa.schema([PROBLEM.field("problem_id"), PROBLEM.field("problem")])
"""The table that benchmarks are handed over in; `problem_id` names the benchmark."""


def read_problems(file: BenchmarkFile, field: str = "curate") -> pa.Table:
    """The problems of a file as BENCHMARKS. Raises DataError where it is not there, or a row has no text. field: where the config
    has the section."""
    told = f"{field}.contamination.files"
    if not storage.exists(file.path):
        raise DataError(f"{told}: {file.path} is not there")
    rows = []
    for number, row in enumerate(file_rows(file.path)):
        problem = row.value.get(file.column) if row.value is not None else None
        if not isinstance(problem, str):
            raise DataError(
                f"{told}: {row.where} of {file.path} has no text in column {file.column!r}; "
                f"{row.error or f'its columns are {sorted(row.value or {})}'}"
            )
        rows.append({"problem_id": f"{file.name}-{number}", "problem": problem})
    return pa.Table.from_pylist(rows, schema=BENCHMARKS)


class ContaminationBlock(ProblemBlock):
    """Problems that hold a benchmark's problem, whole or in large part."""

    reasons = ("contaminated",)

    def __init__(self, config: Contamination, benchmarks: str) -> None:
        """benchmarks: the table BENCHMARKS."""
        self.config, self.benchmarks = config, benchmarks

    @classmethod
    def of(cls, curation: Curation) -> ContaminationBlock | None:
        config = curation.config.contamination
        return None if config is None else cls(config, curation.work("benchmarks.parquet"))

    @cached_property
    def _index(self) -> BenchmarkIndex:
        rows = next(parquet.read_tables([self.benchmarks])).select(BENCHMARKS.names).to_pylist()
        return BenchmarkIndex(((row["problem_id"], spoken(row["problem"])) for row in rows), self.config)

    def why(self, problem: str) -> Why | None:
        match = self._index.find(problem)
        return None if match is None else ("contaminated", str(match))


@dataclass(frozen=True)
class Match:
    """A benchmark problem found in another problem."""

    benchmark_id: str
    share: float
    """Share of the benchmark problem's words that were found, by weight."""
    ngram: str
    """The shared run of words that tells most."""

    def __str__(self) -> str:
        return f"{self.benchmark_id}: {self.share:.0%} of it, such as `{self.ngram}`"


@dataclass(frozen=True)
class Known:
    """A benchmark problem as it is compared with others."""

    benchmark_id: str
    words: list[str]
    numbers: Counter[str]
    weights: NDArray[np.float64]
    """float[words]: what each word tells, summing to 1. A word in an n-gram that k benchmark problems share tells 1/k of
    what one in an n-gram of its own does; of the n-grams around it the rarest counts."""


class BenchmarkIndex:
    """Finds problems of benchmarks inside other problems. `problems`: (id, text) pairs."""

    def __init__(self, problems: Iterable[tuple[str, str]], config: Contamination) -> None:
        self.config = config
        ordered = [(benchmark_id, text, words(text)) for benchmark_id, text in sorted(problems)]
        self.whole = {whole_key(text): benchmark_id for benchmark_id, text, _ in reversed(ordered)}
        shared_by = Counter(ngram for *_, found in ordered for ngram in set(ngrams(found, config.ngram)))
        self.known = [
            Known(benchmark_id, found, numbers(text), weigh(found, config.ngram, shared_by))
            for benchmark_id, text, found in ordered
            if len(found) >= config.ngram
        ]
        hashes, owners, masses = [], [], []
        for number, known in enumerate(self.known):
            for start, ngram in enumerate(ngrams(known.words, config.small_ngram)):
                hashes.append(zlib.crc32(ngram.encode()))
                owners.append(number)
                masses.append(known.weights[start : start + config.small_ngram].sum())
        order = np.argsort(np.array(hashes, np.uint32), kind="stable")
        self.hashes = np.array(hashes, np.uint32)[order]
        self.owners = np.array(owners, np.int32)[order]
        self.masses = np.array(masses, np.float32)[order]

    def find(self, text: str) -> Match | None:
        """The benchmark problem of which most was found in `text`, if it is enough; of equals the first by id."""
        mine = words(text)
        if (same := self.whole.get(whole_key(text))) is not None:
            return Match(same, 1.0, " ".join(mine[: self.config.ngram]))
        large, small = set(ngrams(mine, self.config.ngram)), set(ngrams(mine, self.config.small_ngram))
        given = numbers(text)
        found = []
        for known in self.candidates(mine):
            found.append(share_of(known, large, self.config.ngram, self.config.share))
            if known.numbers <= given:
                found.append(share_of(known, small, self.config.small_ngram, self.config.small_share))
        return max(filter(None, found), key=lambda match: match.share, default=None)

    def candidates(self, mine: Sequence[str]) -> list[Known]:
        """Benchmark problems whose n-grams found in `mine` weigh enough, were none to overlap; in the order of their ids."""
        ours = np.unique(np.array([zlib.crc32(n.encode()) for n in ngrams(mine, self.config.small_ngram)], np.uint32))
        starts, ends = (np.searchsorted(self.hashes, ours, side) for side in ("left", "right"))
        at = [np.arange(start, end) for start, end in zip(starts, ends, strict=True) if end > start]
        if not at:
            return []
        hits = np.concatenate(at)
        owners, which = np.unique(self.owners[hits], return_inverse=True)
        weight = np.bincount(which, self.masses[hits])
        least = min(self.config.share, self.config.small_share) - 1e-6
        return [self.known[owner] for owner in owners[weight >= least]]


def weigh(found: list[str], size: int, shared_by: Mapping[str, int]) -> NDArray[np.float64]:
    """The weights of a benchmark problem's words, see `Known`."""
    weights = np.zeros(len(found))
    for start, ngram in enumerate(ngrams(found, size)):
        around = weights[start : start + size]
        np.maximum(around, 1 / shared_by[ngram], out=around)
    return weights / weights.sum()


def share_of(known: Known, shared: set[str], size: int, least: float) -> Match | None:
    """How much of a benchmark problem lies in n-grams of `size` that are in `shared`; None if it is less than `least`, or
    less than two n-grams of a problem that has as much."""
    covered = np.zeros(len(known.words), bool)
    told: tuple[float, str] | None = None
    for start, ngram in enumerate(ngrams(known.words, size)):
        if ngram in shared:
            covered[start : start + size] = True
            weight = float(known.weights[start : start + size].sum())
            if told is None or weight > told[0]:
                told = weight, ngram
    share = float(known.weights[covered].sum())
    if told is None or share < least or (least and covered.sum() < min(2 * size, len(covered))):
        return None
    return Match(known.benchmark_id, share, told[1])


def numbers(text: str) -> Counter[str]:
    """How often each number occurs, those of figures included: two problems may differ in the figure alone."""
    return Counter(item for item in symbols(text) if item[0].isdigit() or item[0] == ".")
