"""The table of problems' tests: written with the problems, looked up by the texts of those whose traces are verified.

A text finds its tests wherever its problem has gone: sampled again, selected, under another id. Two problems of one text and of
different tests are told apart by their ids, and in a mixture no source's problem has the tests of another source's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from redi_ray.data.sources.ids import Hashes, hash_ids
from redi_ray.data.sources.shards import ShardWriter
from redi_ray.schemas import TESTS
from redi_ray.store import parquet, storage
from redi_ray.text.code_tests import CodeTests

TESTS_TABLE = "tests"
"""Where it lies beside the problems."""
OF_SOURCES = "sources.json"
KEPT_BYTES = 64 << 20
"""Of tests that a reader remembers, as they are stored."""


class TestsWriter:
    """Writes tests in the order of their problems."""

    __test__ = False  # no test of ours

    def __init__(self, uri: str) -> None:
        self._shards = ShardWriter(uri, TESTS)
        self.count = 0

    def add(self, problem_id: str, problem: str, tests: CodeTests) -> None:
        stored = tests.stored()
        row = {"problem_id": problem_id, "problem": _signed(hash_ids([problem]))[0], "tests": stored}
        self._shards.add(row, len(stored))
        self.count += 1

    def flush(self) -> None:
        self._shards.flush()


def write_sources(uri: str, sources: Sequence[str]) -> None:
    """Note the sources of a mixture beside its table: ids there are SOURCE/ID."""
    storage.write_json(storage.join(uri, OF_SOURCES), list(sources))


def _source_of(problem_id: str) -> str:
    return problem_id.partition("/")[0]


def _signed(hashes: Hashes) -> list[int]:
    return [int(value) for value in hashes.view(np.int64)]


class TestsReader:
    """Finds tests. Of each problem it holds some 32 bytes, and the tests that were looked up last."""

    __test__ = False

    def __init__(self, uri: str) -> None:
        self.files = storage.list_files(uri, ".parquet")
        named = storage.join(uri, OF_SOURCES)
        sources = storage.read_json(named) if storage.exists(named) else []
        self._number = {name: number for number, name in enumerate(sources)}
        found: list[tuple[np.ndarray, Hashes, int]] = []
        of_source: list[np.ndarray] = [np.empty(0, np.int32)]
        for number, file in enumerate(self.files):
            for table in parquet.read_tables([file], ["problem_id", "problem"]):
                ids = table["problem_id"].to_pylist()
                found.append((table["problem"].to_numpy(), hash_ids(ids), number))
                of_source.append(np.array([self._of(name) for name in ids], np.int32))
        problems = [part for part, _, _ in found]
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *problems]), kind="stable")
        self._problems = np.concatenate([np.empty(0, np.int64), *problems])[order]
        self._ids = np.concatenate([np.empty(0, np.uint64), *(ids for _, ids, _ in found)])[order]
        self._file = np.concatenate([np.empty(0, np.int32), *(np.full(len(p), n, np.int32) for p, _, n in found)])[
            order
        ]
        self._row = np.concatenate([np.empty(0, np.int32), *(np.arange(len(p), dtype=np.int32) for p in problems)])[
            order
        ]
        self._source = np.concatenate(of_source)[order]
        self._kept: OrderedDict[tuple[int, int], tuple[CodeTests, int]] = OrderedDict()
        self._size = 0

    def find(self, problem_ids: Sequence[str], problems: Sequence[str]) -> list[CodeTests | None]:
        """The tests of problems with these ids and texts; None for those that have none."""
        keys = zip(hash_ids(problem_ids), _signed(hash_ids(problems)), map(self._of, problem_ids), strict=True)
        places = [self._place(*key) for key in keys]
        self._read({place for place in places if place is not None})
        told = [None if place is None else self._kept[place][0] for place in places]
        while self._size > KEPT_BYTES and self._kept:
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size
        return told

    def _of(self, problem_id: str) -> int:
        """The number of the source in a mixture; -1 of an id that is none of its."""
        return self._number.get(_source_of(problem_id), -1)

    def _place(self, problem_id: np.uint64, problem: int, source: int) -> tuple[int, int] | None:
        first, after = (int(np.searchsorted(self._problems, problem, side)) for side in ("left", "right"))
        there = [at for at in range(first, after) if source < 0 or self._source[at] == source]
        mine = [at for at in there if self._ids[at] == problem_id] or there
        return (int(self._file[mine[0]]), int(self._row[mine[0]])) if len(mine) == 1 else None

    def _read(self, places: set[tuple[int, int]]) -> None:
        for file in sorted({file for file, _ in places}):
            rows = [row for of, row in places if of == file and (of, row) not in self._kept]
            for row, value in parquet.read_rows(self.files[file], rows, ["tests"]) if rows else ():
                self._kept[file, row] = CodeTests.of_stored(value["tests"]), len(value["tests"])
                self._size += len(value["tests"])
        for place in places:
            self._kept.move_to_end(place)
