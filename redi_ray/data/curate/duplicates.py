"""Block `duplicates`: fingerprints of problems, and which of them are the same. The rule is in `redi_ray.config.curation`.

A fingerprint is made where the text is read, in parallel; comparing takes fingerprints alone, about 1 kB a problem, in one
task. LSH is done band by band with a sort, because an index of sets and dictionaries would take many times as much.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.curation import Duplicates, NearDuplicates
from redi_ray.data.curate.block import CorpusBlock, id_of, without
from redi_ray.data.curate.work import Curation, Drops
from redi_ray.text.normalize import canonical, exact_number
from redi_ray.text.wording import formulas, ngrams, symbols, whole_key

FINGERPRINT = pa.schema(
    [
        pa.field("whole", pa.binary(16)),  # of the whole normalised text
        pa.field("ngrams", pa.list_(pa.uint32())),  # sorted hashes of all runs of symbols
        pa.field("bands", pa.list_(pa.uint64())),  # LSH: near-duplicates agree in at least one
        pa.field("answer", pa.string()),  # the reference answer where it is an exact number
        pa.field("figures", pa.list_(pa.string())),  # numbers in figures
        pa.field("numbers", pa.list_(pa.string())),  # all numbers, in figures or words
    ]
)
MARGIN = 0.1
"""The bands are chosen for a threshold so much lower, so that hardly a pair at the threshold is missed."""
RIVALS = 64
"""A member of a band's bucket is compared with so many before it: more would be quadratic where thousands are alike."""
MAX_ANSWER_CHARS = 64
MIX = np.uint64(0x9E3779B97F4A7C15)


class DuplicatesBlock(CorpusBlock):
    """Of problems that are the same, or nearly so, the one stays whose key comes first."""

    reads = ("problem", "answer")
    reasons = ("duplicate", "near_duplicate")

    def __init__(self, config: Duplicates) -> None:
        self.config = config

    @classmethod
    def of(cls, curation: Curation) -> DuplicatesBlock | None:
        return None if curation.config.duplicates is None else cls(curation.config.duplicates)

    @cached_property
    def _fingerprinter(self) -> Fingerprinter:
        return Fingerprinter(self.config)

    def sign(self, problem: str, answer: str | None) -> dict[str, Any]:
        return self._fingerprinter.fingerprint(problem, answer)

    def sieve(self, table: pa.Table, drops: Drops) -> pa.Table:
        if self.config.exact:
            same = exact_duplicates(table)
            table = without(
                table, {row: f"of {id_of(table, first)}" for row, first in same.items()}, "duplicate", drops
            )
        if self.config.near is not None:
            near = near_duplicates(table, self.config.near)
            told = {row: f"of {id_of(table, first)}, similarity {found:.2f}" for row, (first, found) in near.items()}
            table = without(table, told, "near_duplicate", drops)
        return table


class Fingerprinter:
    """Makes fingerprints."""

    def __init__(self, config: Duplicates) -> None:
        self.near = config.near
        if config.near is not None:
            self.shape = lsh_shape(config.near.threshold, config.near.num_perm)
            from datasketch import MinHash  # loads scipy, which only the tasks that sign need

            self.blank = MinHash(num_perm=config.near.num_perm, seed=1, hashfunc=int, scheme="affine32")

    def fingerprint(self, problem: str, answer: str | None) -> dict[str, Any]:
        """A row of FINGERPRINT."""
        whole = hashlib.blake2b(whole_key(problem).encode(), digest_size=16).digest()
        if self.near is None:
            return {"whole": whole, "ngrams": None, "bands": None, "answer": None}
        runs = symbol_runs(problem, self.near.ngram)
        return {"whole": whole, "ngrams": runs, "bands": self._bands(problem, runs), "answer": number_of(answer)}

    def _bands(self, problem: str, runs: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """uint64[bands]: a hash of each band of the MinHash and, under `same_formulas`, of the formulas."""
        assert self.near is not None
        minhash = self.blank.copy()
        minhash.update_batch(runs.tolist())
        bands, rows = self.shape
        values = minhash.hashvalues[: bands * rows].astype(np.uint64).reshape(bands, rows)
        mixed = np.zeros(bands, np.uint64)
        if self.near.same_formulas:
            digest = hashlib.blake2b("\n".join(formulas(problem)).encode(), digest_size=8).digest()
            mixed += np.frombuffer(digest, np.uint64)
        for row in range(rows):
            mixed = (mixed ^ values[:, row]) * MIX
            mixed ^= mixed >> np.uint64(29)
        return mixed


def symbol_runs(problem: str, longest: int) -> NDArray[np.uint32]:
    """Sorted hashes of all runs of one to `longest` symbols."""
    items = symbols(problem)
    runs = {run for size in range(1, longest + 1) for run in ngrams(items, size)}
    return np.unique(np.array([zlib.crc32(run.encode()) for run in runs], np.uint32))


def number_of(answer: str | None) -> str | None:
    """The answer as a fraction if it is an integer or a fraction, whatever its spelling."""
    number = exact_number(canonical(answer)) if answer and len(answer) <= MAX_ANSWER_CHARS else None
    return None if number is None else str(number)


@lru_cache(maxsize=8)
def lsh_shape(threshold: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows) of an LSH that misses few pairs; those that it finds needlessly cost one comparison each."""
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=max(0.1, threshold - MARGIN), num_perm=num_perm, weights=(0.1, 0.9))
    return lsh.b, lsh.r


def exact_duplicates(fingerprints: pa.Table) -> dict[int, int]:
    """Row -> the first row with the same text, for all but the first."""
    first: dict[bytes, int] = {}
    same = {}
    for row, whole in enumerate(fingerprints["whole"].to_pylist()):
        if first.setdefault(whole, row) != row:
            same[row] = first[whole]
    return same


def near_duplicates(fingerprints: pa.Table, config: NearDuplicates) -> dict[int, tuple[int, float]]:
    """Row -> (the first row of its group, its similarity to a member), for all but the first of each group.

    A row belongs to a group if it is near to any of its members: of three copies with an edit each, two may be nearer to
    the original than to each other.
    """
    flat = fingerprints["bands"].combine_chunks()
    bands = flat.flatten().to_numpy().reshape(len(flat), -1) if len(flat) else np.empty((0, 0), np.uint64)
    lists = fingerprints["ngrams"].combine_chunks()
    offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
    answers = fingerprints["answer"].to_pylist()
    group = list(range(len(flat)))
    joined: dict[int, float] = {}
    for earlier, later in sorted(set(candidate_pairs(bands))):
        contradict = config.same_formulas and None not in (answers[earlier], answers[later])
        if (contradict and answers[earlier] != answers[later]) or _first(group, earlier) == _first(group, later):
            continue
        mine, theirs = (values[offsets[row] : offsets[row + 1]] for row in (later, earlier))
        found = jaccard(mine, theirs)
        if found >= config.threshold:
            first, second = sorted((_first(group, earlier), _first(group, later)))
            group[second] = first
            joined[second] = found
    return {row: (_first(group, row), found) for row, found in sorted(joined.items())}


def _first(group: list[int], row: int) -> int:
    """The first row of a row's group; `group[row]` is an earlier row of the group, or the row itself."""
    while group[row] != row:
        group[row] = group[group[row]]
        row = group[row]
    return row


def candidate_pairs(bands: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """(earlier row, later row) of rows that agree in a band. bands: uint64[rows, bands]."""
    for band in bands.T:
        order = np.argsort(band, kind="stable")  # equal ones stay in the order of the rows
        borders = np.flatnonzero(np.diff(band[order])) + 1
        starts, ends = np.r_[0, borders], np.r_[borders, len(order)]
        for which in np.flatnonzero(ends - starts > 1):
            bucket = order[starts[which] : ends[which]].tolist()
            yield from bucket_pairs(bucket)


def bucket_pairs(bucket: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each member with the RIVALS first before it."""
    for position, later in enumerate(bucket):
        for earlier in bucket[: min(position, RIVALS)]:
            yield earlier, later


def jaccard(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Size of the intersection over that of the union, of two sorted arrays without repeats."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(1, len(one) + len(other) - shared)
