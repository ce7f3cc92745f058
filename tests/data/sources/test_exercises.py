"""The built-in exercises are what their columns say: answers and tests that hold, faults and repetitions that curation is for."""

from __future__ import annotations

import json

import pytest

from redi_ray.config.data import Columns, ExerciseSource
from redi_ray.config.worlds import ExerciseSet
from redi_ray.data.sources.exercise_world import exercise_rows
from redi_ray.data.sources.readers import source_rows
from redi_ray.data.sources.rows import Parsed, Refused, parser
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.code import extract_code

COLUMNS = {
    "word_problems": Columns(problem_id="id", problem="question", answer="gold", completion="solutions"),
    "programs": Columns(problem_id="id", problem="task", tests="input_output", completion="programs"),
    "advice": Columns(problem_id="id", problem="instruction", completion="replies"),
}


@pytest.mark.parametrize(
    ("rows", "verified_by"), [("word_problems", "reference"), ("programs", "tests"), ("advice", "neither")]
)
def test_every_row_is_a_problem_of_its_kind(rows: str, verified_by: str) -> None:
    source = ExerciseSource.model_validate(
        {"rows": rows, "size": 60, "traces": 3, "columns": COLUMNS[rows].model_dump()}
    )
    found = [parser(source, verified_by)(row.value or {}) for row in source_rows(source)]  # type: ignore[arg-type]
    assert len(found) == 60
    for one in found:
        assert isinstance(one, Parsed), one
        assert len(one.traces) == 3
        assert (one.answer is not None, one.tests is not None) == (verified_by == "reference", verified_by == "tests")


def test_what_a_source_must_bring_along_and_lacks_is_a_reject() -> None:
    advice = ExerciseSource(rows="advice", size=3, columns=COLUMNS["advice"])
    row = next(exercise_rows(advice))
    assert isinstance(parser(advice)(row), Refused)
    refused = parser(advice, "reference")(row)
    assert isinstance(refused, Refused)
    assert refused.reason == "no_answer"
    sums = ExerciseSource(rows="word_problems", size=3, columns=COLUMNS["word_problems"])
    told = parser(sums, "neither")(next(exercise_rows(sums)))
    assert isinstance(told, Parsed)
    assert told.answer is None


def test_programs_are_told_apart_by_their_tests() -> None:
    """The right expression prints what is expected, the wrong one something else in one of the tests."""
    seen = {True: 0, False: 0}
    for row in exercise_rows(ExerciseSet(rows="programs", size=40)):
        checks = json.loads(row["input_output"])
        for text in row["programs"]:
            code = extract_code(text, ("python",), finished=True)
            if code is None:
                continue
            expression = code.split("print(", 1)[1].rstrip().removesuffix(")")
            printed = [
                f"{eval(expression, {'numbers': [int(word) for word in given.split()]})}\n"
                for given in checks["inputs"]
            ]
            seen[printed == checks["outputs"]] += 1
    assert min(seen.values()) > 20


def test_faults_and_repetitions_are_there_and_follow_from_the_seed() -> None:
    rows = list(exercise_rows(ExerciseSet(rows="word_problems", size=400)))
    assert rows == list(exercise_rows(ExerciseSet(rows="word_problems", size=400)))
    assert rows != list(exercise_rows(ExerciseSet(rows="word_problems", size=400, seed=1)))
    questions = [row["question"].casefold() for row in rows]
    assert any(text.startswith("please tell me") for text in questions)
    texts = [text for row in rows for text in row["solutions"]]
    assert any("</think>" not in text for text in texts)
    assert any(text.count("check that once more") > 30 for text in texts)
    right = sum(extract_boxed(text) == row["gold"] for row in rows for text in row["solutions"])
    assert 0.3 < right / len(texts) < 0.8
    assert any("Wie" in row["instruction"] for row in exercise_rows(ExerciseSet(rows="advice", size=100)))
