"""What data call true, wrong or an answer: read strictly, so that no label or gold is made up from a value's truth."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from redi_ray.data.sources.values import BadValue, is_true, read_answer, read_id, read_vote

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("vote", "labels"),
    [
        ("correct", [True, 1, 1.0, "true", "True", " YES ", "y", "1", "1.0", "right", "Correct", np.True_, np.int8(1),
                     np.float32(1), Decimal(1)]),
        ("wrong", [False, 0, 0.0, -0.0, "False", "FALSE", "no", "n", "f", "0", "0.0", "incorrect", "Wrong", np.False_,
                   np.int64(0), np.float64(0), Decimal("0.0")]),
        ("timeout", ["timeout"]),
        (None, [None, NAN, np.float32("nan"), Decimal("NaN"), "", " ", "none", "null", "NaN", "N/A"]),
    ],
)  # fmt: skip
def test_labels(vote: str | None, labels: list[Any]):
    assert {repr(label): read_vote(label) for label in labels} == {repr(label): vote for label in labels}


@pytest.mark.parametrize(
    "label",
    [-1, -1.0, 0.1, 0.999, 2, 10**400, INFINITE, "-1", "maybe", "0.5", "unsure", [True], [], {}, np.array([True]), b"true",
     date(2020, 1, 1)],
)  # fmt: skip
def test_what_is_no_label_is_no_vote(label: Any):
    with pytest.raises(BadValue, match="neither true nor false; write true or false"):
        read_vote(label)
    assert not is_true(label)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        *((value, "0.00001") for value in (1e-05, np.float64(1e-5), Decimal("0.0000100"), "1e-05", "1E-05", "$1e-05$")),
        (1.5e-07, "0.00000015"),
        (1e16, "1" + "0" * 16),
        (1e23, "1" + "0" * 23),
        (27.0, "27"),
        (-0.0, "0"),
        (-2.50, "-2.5"),
        (np.float32(0.1), "0.1"),
        (7, "7"),
        (np.int16(-3), "-3"),
        (Decimal("5.00"), "5"),
        (Decimal("1E+3"), "1000"),
        (Fraction(1, 2), "1/2"),
        (True, "True"),
        (np.False_, "False"),
        (["5"], "5"),
        ([5.0], "5"),
        ([["5"]], "5"),
        (("5", None, " "), "5"),
        (np.array(["5"]), "5"),
        (["0.5", r"\frac12", 0.5], "0.5"),
        (" x = 5 ", " x = 5 "),
        ("2e-5", "2e-5"),  # may well be 2e - 5
        *((text, text) for text in ("**Na**", "(A)", "[1e-05]", "(-1)", r"\boxed{None}")),
        *((text, text) for text in ("undefined", "no solution", "DNE", r"\text{None}", "Na", "True", "{}", "0", "e")),
    ],
)  # fmt: skip
def test_answers(value: Any, answer: str):
    assert read_answer(value) == answer


@pytest.mark.parametrize(
    "value",
    [None, NAN, INFINITE, np.float32("nan"), Decimal("NaN"), Decimal("-Infinity"), "", " \n", [], [None, NAN], ["N/A"], "None",
     "null", "nan", "N/A", "n/a", "NA", "-", "\u2014", "?", "...", "[]", "proof", "Proof.", "'proof'", "see solution",
     "\u200b", "\xa0", "\u2026", "**N/A**", "(proof)", "[None]", "N.A.", "NaT", "#VALUE!", "No answer provided.", "___",
     r"\text{(proof)}", r"\text{N/A}", r"$\boxed{\text{proof}}$", r"\boxed{Proof}", "Not found", "unknown"],
)  # fmt: skip
def test_what_stands_for_no_answer(value: Any):
    assert read_answer(value) is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"value": 5}, "name it as `column.field`"),
        (
            ["1", "2"],
            "2 different answers, which may be parts of one or spellings of one; write one text, such as '1, 2'",
        ),
        ([[[["5"]]]], "no answer: write text"),
        (b"5", "no answer: write text"),
        (date(2020, 1, 1), "no answer: write text"),
        (Decimal("1E+5000"), "write it as a power"),
    ],
)
def test_what_is_no_answer(value: Any, told: str):
    with pytest.raises(BadValue, match=told):
        read_answer(value)


def test_ids():
    """An id column of floats with gaps, as pandas writes it, has no problem named `nan`."""
    found = [read_id(value) for value in (1, 142.0, 1e16, np.int64(4), "x", NAN, "nan", "None", None, " ", True)]
    assert found == ["1", "142", "10000000000000000", "4", "x", None, None, None, None, None, None]
