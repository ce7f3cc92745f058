"""Block `contamination`: does a problem hold a problem of a benchmark? The rule is in `redi_ray.config.curation`.

The index maps the benchmarks' short n-grams to their problems, in two sorted arrays (12 bytes an entry). A problem's own
n-grams find the benchmark problems that share enough of them, and only those are compared word by word.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from redi_ray.config.curation import Contamination
from redi_ray.text.wording import ngrams, symbols, whole_key, words

BENCHMARKS = pa.schema([pa.field("problem_id", pa.string()), pa.field("problem", pa.string())])
"""The table that benchmarks are handed over in; `problem_id` names the benchmark."""


@dataclass(frozen=True)
class Match:
    """A benchmark problem found in another problem."""

    benchmark_id: str
    share: float
    """Share of the benchmark problem's words that were found."""
    ngram: str
    """A shared run of words."""

    def __str__(self) -> str:
        return f"{self.benchmark_id}: {self.share:.0%} of its words, such as `{self.ngram}`"


class BenchmarkIndex:
    """Finds problems of benchmarks inside other problems. `problems`: (id, text) pairs."""

    def __init__(self, problems: Iterable[tuple[str, str]], config: Contamination) -> None:
        self.config = config
        self.ids: list[str] = []
        self.words: list[list[str]] = []
        self.numbers: list[Counter[str]] = []
        self.whole: dict[str, str] = {}
        hashes, owners = [], []
        for benchmark_id, text in sorted(problems):
            self.whole.setdefault(whole_key(text), benchmark_id)
            found = words(text)
            if len(found) < config.ngram:
                continue
            mine = hash_ngrams(found, config.small_ngram)
            hashes.append(mine)
            owners.append(np.full(len(mine), len(self.ids), np.int32))
            self.ids.append(benchmark_id)
            self.words.append(found)
            self.numbers.append(numbers(text))
        every = np.concatenate(hashes) if hashes else np.empty(0, np.uint32)
        order = np.argsort(every, kind="stable")
        self.hashes = every[order]
        self.owners = np.concatenate(owners)[order] if owners else np.empty(0, np.int32)
        self.lengths = np.array([len(found) for found in self.words], np.int64)

    def find(self, text: str) -> Match | None:
        """The benchmark problem of which most was found in `text`, if it is enough; of equals the first by id."""
        if (same := self.whole.get(whole_key(text))) is not None:
            return Match(same, 1.0, " ".join(words(text)[: self.config.ngram]))
        mine = words(text)
        large, small = set(ngrams(mine, self.config.ngram)), set(ngrams(mine, self.config.small_ngram))
        given, best = numbers(text), None
        for candidate in self.candidates(mine):
            found = [self._match(candidate, large, self.config.ngram, self.config.share)]
            if self.numbers[candidate] <= given:
                found.append(self._match(candidate, small, self.config.small_ngram, self.config.small_share))
            for match in found:
                if match is not None and (best is None or match.share > best.share):
                    best = match
        return best

    def candidates(self, mine: Sequence[str]) -> list[int]:
        """Benchmark problems with enough shared short n-grams: each covers at most `small_ngram` words."""
        hashes = hash_ngrams(mine, self.config.small_ngram)
        starts = np.searchsorted(self.hashes, hashes, "left")
        ends = np.searchsorted(self.hashes, hashes, "right")
        owners = [self.owners[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
        if not owners:
            return []
        found, shared = np.unique(np.concatenate(owners), return_counts=True)
        least = min(self.config.share, self.config.small_share)
        return found[shared * self.config.small_ngram >= least * self.lengths[found]].tolist()

    def _match(self, candidate: int, shared: set[str], size: int, least: float) -> Match | None:
        """How much of the candidate's words lies in n-grams of `size` that are in `shared`."""
        theirs = self.words[candidate]
        covered = np.zeros(len(theirs), bool)
        first = None
        for start, ngram in enumerate(ngrams(theirs, size)):
            if ngram in shared:
                covered[start : start + size] = True
                first = first or ngram
        share = float(covered.mean())
        return Match(self.ids[candidate], share, first) if first is not None and share >= least else None


def hash_ngrams(items: Sequence[str], size: int) -> np.ndarray:
    """uint32[number of different n-grams]. Equal hashes of different n-grams only make a needless candidate."""
    return np.unique(np.array([zlib.crc32(ngram.encode()) for ngram in ngrams(items, size)], np.uint32))


def numbers(text: str) -> Counter[str]:
    """How often each number occurs, those of figures included: two problems may differ in the figure alone."""
    return Counter(item for item in symbols(text) if item[0].isdigit() or item[0] == ".")
