"""Which problems a pass has seen: by id, and whether a row that has the same id is the same problem.

Ids that start again in every file are told apart by the problem's text; inside one file an id that names two problems is a
conflict, and so are two different answers to one problem. An id costs some 300 bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from redi_ray.data.sources.rows import Parsed
from redi_ray.data.sources.same_answer import SameAnswers
from redi_ray.text.code_tests import CodeTests
from redi_ray.text.problem_key import problem_key

MAX_ANSWER_CHARS = 200
"""A longer text is a solution: it is kept as a hash, and compared as a whole."""


class Conflict(ValueError):
    """A row whose id or answer contradicts an earlier one: `reason` in a word, and what contradicts what."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True)
class Known:
    """What is kept of a problem."""

    problem_id: str
    key: int
    """Hash of its text, however that is typed."""
    answer: str | None
    file: int
    tests: int | None = None
    """Hash of its tests."""
    held_out: bool = False
    traces: int = 0
    """So far."""


class KnownProblems:
    """The problems so far. `renamed` holds the ids that other files had used for other problems."""

    def __init__(self, *, same_id_is_another_problem: bool = False) -> None:
        """same_id_is_another_problem: every row is a problem of its own, whatever its id."""
        self.same_id_is_another_problem = same_id_is_another_problem
        self.renamed: dict[tuple[int, str], str] = {}
        """(file, id) -> the id that the problem has here."""
        self._known: dict[str, Known] = {}
        self._files: dict[str, int] = {}
        self._same_answer = SameAnswers()

    def find(self, parsed: Parsed, file: str, row: int) -> tuple[Known, bool]:
        """The row's problem, and whether it is new; a new one is known only once it is given to `add`.

        Raises Conflict.
        """
        number = self._files.setdefault(file, len(self._files))
        key = _hashed(problem_key(parsed.problem))
        problem_id, known = parsed.problem_id, self._known.get(parsed.problem_id)
        if known is not None and self.same_id_is_another_problem:
            problem_id, known = f"{problem_id}~{row}", None
        if known is not None and known.key != key:
            problem_id = self._rename(known, key, number)
            known = self._known.get(problem_id)
        tests = None if parsed.tests is None else hash_of(parsed.tests)
        if known is None:
            return Known(problem_id, key, _kept(parsed.answer), number, tests), True
        if known.tests is not None and tests not in (None, known.tests):
            raise Conflict("conflicting_tests", f"{known.problem_id} has other tests before")
        self._check_answer(known, parsed.answer)
        return known, False

    def add(self, known: Known) -> None:
        self._known[known.problem_id] = known

    def close(self) -> None:
        self._same_answer.close()

    def _rename(self, known: Known, key: int, file: int) -> str:
        """An id that depends on nothing but id and text, so that all rows of the problem meet under it."""
        problem_id = f"{known.problem_id}~{key:016x}"
        if file == known.file or self.renamed.setdefault((file, known.problem_id), problem_id) != problem_id:
            raise Conflict(
                "conflicting_problem_id", f"{known.problem_id} names another problem before, in the same file"
            )
        return problem_id

    def _check_answer(self, known: Known, answer: str | None) -> None:
        """Raise Conflict if the row's answer is another one. Where only one of the two has an answer, that is the answer."""
        found, before = _kept(answer), known.answer
        if before is None or found is None or found == before:
            known.answer = before if found is None else before or found
            return
        if "\0" in found + before or not self._same_answer(before, found):
            raise Conflict(
                "conflicting_answer",
                f"{known.problem_id} has another answer before: {_told(before)}, here {_told(found)}",
            )


def hash_of(tests: CodeTests) -> int:
    """By which a problem's tests are known again."""
    return _hashed(tests.stored())


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _kept(answer: str | None) -> str | None:
    if answer is None or len(answer) <= MAX_ANSWER_CHARS:
        return answer
    return "\0" + hashlib.blake2b(answer.encode(), digest_size=8).hexdigest()  # no short answer holds a null


def _told(answer: str) -> str:
    return "a longer text" if "\0" in answer else repr(answer)
