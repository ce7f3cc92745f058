"""One problem under one id: spellings of an answer are no conflict, other answers are, and ids may start again per file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redi_ray.data.sources.known_problems import Conflict, KnownProblems
from redi_ray.data.sources.rows import Parsed


class Pass:
    """Rows that are given one by one."""

    def __init__(self) -> None:
        self.known, self.rows = KnownProblems(), 0

    def row(self, problem_id: str, problem: str = "p", answer: str | None = "1", file: str = "a") -> str:
        self.rows += 1
        known, new = self.known.find(Parsed(problem_id, problem, answer, None), file, self.rows)
        if new:
            self.known.add(known)
        return known.problem_id


@pytest.fixture
def rows() -> Iterator[Pass]:
    rows = Pass()
    yield rows
    rows.known.close()


def test_spellings_of_an_answer_are_one(rows: Pass):
    for number, spellings in enumerate(
        (["0.5", r"\frac12", "1/2", r"$\frac{1}{2}$", "0.50", r"50\%"], ["5", "5.0", "x=5", r"5\text{ cm}"], ["1,2", "2,1"],
         [r"\text{(A)}", "A"], ["1,000", "1000"], ["3", "3.", None], [None, "4"])
    ):  # fmt: skip
        assert {rows.row(f"{number}", answer=answer) for answer in spellings} == {f"{number}"}
    with pytest.raises(Conflict, match="has another answer before: '4', here '5'"):
        rows.row("6", answer="5")  # the answer that came later counts too


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.5", "0.7"), ("1", "-1"), ("yes", "no"), ("(1,2)", "(2,1)"), ("A", "B"), ("3", "3,4"),
     ("a" * 300, "b" * 300), ("1", "a" * 300)],
)  # fmt: skip
def test_other_answers_are_a_conflict(rows: Pass, one: str, other: str):
    rows.row("1", answer=one)
    with pytest.raises(Conflict) as conflict:
        rows.row("1", answer=other)
    assert conflict.value.reason == "conflicting_answer"
    rows.row("1", answer=one)


def test_ids_that_start_again_in_each_file(rows: Pass):
    """Each of the problems has an id that depends on its text alone, and all rows of it meet there."""
    first = [rows.row("1", "one", file="a"), rows.row("1", " One. ", file="a")]
    second = [rows.row("1", "two", file=file) for file in ("b", "c", "b")]
    third = rows.row("1", "three", file="d")
    assert first == ["1", "1"]
    assert len({*second, third, "1"}) == 3
    assert len(set(second)) == 1
    assert len(rows.known.renamed) == 3
    other = Pass()
    assert [other.row("1", "one", file="x"), other.row("1", "two", file="y")] == ["1", second[0]]


def test_inside_one_file_an_id_has_one_problem(rows: Pass):
    rows.row("1", "one")
    rows.row("1", "two", file="b")
    for file in ("a", "b"):
        with pytest.raises(Conflict) as conflict:
            rows.row("1", "three", file=file)
        assert conflict.value.reason == "conflicting_problem_id"
