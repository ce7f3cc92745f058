"""Counts by source and by kind of verification, of every table that comes of a mixture: by the ids of its problems.

A task holds 16 bytes a problem, and the tables' ids a few rows at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redi_ray.data.sources.ids import Hashes, contained, hash_ids
from redi_ray.store import parquet

KINDS = ("reference", "tests", "neither")
"""What a problem brings along that its traces are verified by."""
BySource = dict[str, dict[str, Any]]
"""Source -> kind of verification -> counts."""


@dataclass(frozen=True)
class Origins:
    """Where each problem comes from, and what it is verified by."""

    sources: list[str]
    hashes: Hashes
    """uint64[n], sorted."""
    codes: NDArray[np.int32]
    """int32[n]: number of the source, times the number of kinds, plus that of the kind."""

    @classmethod
    def of(cls, problems: Sequence[str], tests: Sequence[str]) -> Origins:
        """By the shards of a mixture's `problems` and `tests`; those of tests that verification leaves aside are left out."""
        tested = [hash_ids(rows["problem_id"].to_pylist()) for rows in parquet.read_tables([*tests], ["problem_id"])]
        known = np.sort(np.concatenate([np.empty(0, np.uint64), *tested]))
        sources: dict[str, int] = {}
        hashes, codes = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for rows in parquet.read_tables([*problems], ["problem_id", "answer"]):
            ids = rows["problem_id"]
            named = pc.dictionary_encode(pc.replace_substring_regex(ids, "(?s)/.*", "")).combine_chunks()
            numbers = [sources.setdefault(name, len(sources)) for name in named.dictionary.to_pylist()]
            mine = hash_ids(ids.to_pylist())
            kinds = np.where(rows["answer"].is_valid().to_numpy(), 0, 2)
            kinds[contained(mine, known)] = 1
            hashes.append(mine)
            of_source = np.array(numbers, np.int32)[named.indices.to_numpy()] if len(ids) else np.empty(0, np.int32)
            codes.append((of_source * len(KINDS) + kinds).astype(np.int32))
        order = np.argsort(np.concatenate(hashes), kind="stable")
        return cls(list(sources), np.concatenate(hashes)[order], np.concatenate(codes)[order])

    def codes_of(self, ids: list[str]) -> NDArray[np.int32]:
        """int32[n]: of problems with these ids, all of them of the mixture."""
        found = hash_ids(ids)
        places = np.minimum(np.searchsorted(self.hashes, found), max(0, len(self.hashes) - 1))
        assert (self.hashes[places] == found).all(), "a row of a problem that is none of the mixture's"
        return self.codes[places]

    def tally(self, shards: Sequence[str], by: Sequence[str] = (), *, once: bool = False) -> Counter[tuple[Any, ...]]:
        """(source, kind, values of the columns `by`) -> rows; once: of several rows of one problem in a shard the first."""
        found: Counter[tuple[Any, ...]] = Counter()
        for shard in shards:
            for rows in parquet.read_tables([shard], ["problem_id", *by]):
                table = rows.group_by(["problem_id"]).aggregate([]) if once else rows
                codes = pa.array(self.codes_of(table["problem_id"].to_pylist()))
                table = table.drop_columns(["problem_id"]).append_column("code", codes)
                counted = table.group_by(["code", *by]).aggregate([([], "count_all")])
                for row in counted.to_pylist():
                    source, kind = divmod(row["code"], len(KINDS))
                    found[self.sources[source], KINDS[kind], *(row[name] for name in by)] += row["count_all"]
        return found

    def counted(self) -> Counter[tuple[Any, ...]]:
        """(source, kind) -> problems."""
        numbers, counts = np.unique(self.codes, return_counts=True)
        places = [divmod(int(code), len(KINDS)) for code in numbers]
        return Counter({(self.sources[at], KINDS[kind]): int(n) for (at, kind), n in zip(places, counts, strict=True)})


def verdicts_by_source(problems: Sequence[str], tests: Sequence[str], verified: Sequence[str]) -> BySource:
    """Source -> kind -> verdict -> traces."""
    found: BySource = {}
    for (source, kind, verdict), count in sorted(Origins.of(problems, tests).tally(verified, ["verdict"]).items()):
        found.setdefault(source, {}).setdefault(kind, {})[verdict] = count
    return found


def traces_by_source(problems: Sequence[str], tests: Sequence[str], traces: Sequence[str]) -> BySource:
    """Source -> kind -> traces."""
    found: BySource = {}
    for (source, kind), count in sorted(Origins.of(problems, tests).tally(traces).items()):
        found.setdefault(source, {})[kind] = count
    return found


def curated_by_source(problems: Sequence[str], tests: Sequence[str], tables: dict[str, Sequence[str]]) -> BySource:
    """Source -> kind -> `problems`, the `positives` of them, `dropped` by reason, `pairs`, `pairs_dropped` by reason.

    `problems = positives + sum(dropped)`, `no_trace` among the reasons. tables: shards of `examples`, `pairs` and `dropped`.
    """
    origins = Origins.of(problems, tests)
    of: dict[tuple[str, str], dict[str, Any]] = {
        place: {"problems": count, "positives": 0, "dropped": {}, "pairs": 0, "pairs_dropped": {}}
        for place, count in sorted(origins.counted().items())
    }
    for place, count in origins.tally(tables["examples"], once=True).items():
        of[place[0], place[1]]["positives"] += count
    for place, count in origins.tally(tables["pairs"]).items():
        of[place[0], place[1]]["pairs"] += count
    for (source, kind, what, reason), count in sorted(origins.tally(tables["dropped"], ["what", "reason"]).items()):
        if what in ("problem", "pair"):
            of[source, kind]["dropped" if what == "problem" else "pairs_dropped"][reason] = count
    found: BySource = {}
    for (source, kind), counts in of.items():
        if left := counts["problems"] - counts["positives"] - sum(counts["dropped"].values()):
            counts["dropped"]["no_trace"] = left
        found.setdefault(source, {})[kind] = counts
    return found
