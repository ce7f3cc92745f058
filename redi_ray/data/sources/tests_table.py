"""The table of problems' tests: written with the problems, looked up by the texts of those whose traces are verified.

A text finds its tests wherever its problem has gone: sampled again, selected, under another id. Two problems of one text and of
different tests are told apart by their ids.
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


def _signed(hashes: Hashes) -> list[int]:
    return [int(value) for value in hashes.view(np.int64)]


class TestsReader:
    """Finds tests. Of each problem it holds some 28 bytes, and the tests that were looked up last."""

    __test__ = False

    def __init__(self, uri: str) -> None:
        self.files = storage.list_files(uri, ".parquet")
        found: list[tuple[np.ndarray, Hashes, int]] = []
        for number, file in enumerate(self.files):
            for table in parquet.read_tables([file], ["problem_id", "problem"]):
                found.append((table["problem"].to_numpy(), hash_ids(table["problem_id"].to_pylist()), number))
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
        self._kept: OrderedDict[tuple[int, int], tuple[CodeTests, int]] = OrderedDict()
        self._size = 0

    def find(self, problem_ids: Sequence[str], problems: Sequence[str]) -> list[CodeTests | None]:
        """The tests of problems with these ids and texts; None for those that have none."""
        places = [self._place(*pair) for pair in zip(hash_ids(problem_ids), _signed(hash_ids(problems)), strict=True)]
        self._read({place for place in places if place is not None})
        told = [None if place is None else self._kept[place][0] for place in places]
        while self._size > KEPT_BYTES and self._kept:
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size
        return told

    def _place(self, problem_id: np.uint64, problem: int) -> tuple[int, int] | None:
        first, after = (int(np.searchsorted(self._problems, problem, side)) for side in ("left", "right"))
        mine = [at for at in range(first, after) if self._ids[at] == problem_id] or range(first, after)
        return (int(self._file[mine[0]]), int(self._row[mine[0]])) if len(mine) == 1 else None

    def _read(self, places: set[tuple[int, int]]) -> None:
        for file in sorted({file for file, _ in places}):
            rows = [row for of, row in places if of == file and (of, row) not in self._kept]
            for row, value in parquet.read_rows(self.files[file], rows, ["tests"]) if rows else ():
                self._kept[file, row] = CodeTests.of_stored(value["tests"]), len(value["tests"])
                self._size += len(value["tests"])
        for place in places:
            self._kept.move_to_end(place)
