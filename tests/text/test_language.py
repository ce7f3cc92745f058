"""Languages are told by prose; formulas and short texts leave the question open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redi_ray.text.language import identify, prose


def test_prose_is_what_is_left_without_formulas():
    assert prose(r"Find $x$ if \(x=2\), and \[y=3\] c \frac{1}{2}.") == "Find if and"
    assert prose("求 $x$ 的值") == "求 的值"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Find all real numbers $x$ such that $x^2=4$.", "en"),
        ("Trouver toutes les valeurs de $x$ telles que $x^2=4$.", "fr"),
        ("求所有满足 $x^2=4$ 的实数 $x$ 的值。", "zh"),
        ("Найдите все значения $x$, при которых $x^2=4$.", "ru"),
        ("Bestimme alle reellen Zahlen $x$ mit $x^2=4$.", "de"),
    ],
)
def test_problems_with_prose(text: str, language: str):
    found, confidence = identify(text)
    assert found == language
    assert confidence > 0.5


@pytest.mark.parametrize("text", ["Find $x$.", "3+4*2", r"Compute $\sin 3$", ""])
def test_problems_without_are_undecided(text: str):
    assert identify(text)[1] < 0.5


def test_no_english_problem_is_taken_for_another_language(test_data: Path):
    with open(test_data / "benchmarks" / "prm800k_math500.jsonl") as file:
        texts = [json.loads(line)["problem"] for line in file]
    wrong = [(text, *found) for text in texts if (found := identify(text))[0] != "en" and found[1] >= 0.5]
    assert len(texts) == 500
    assert not wrong
