"""Answers told apart by their values: right where it decides, silent where Math-Verify reads an answer in its own way."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from redi_ray.config.answers import AnswerSettings
from redi_ray.text import equivalence
from redi_ray.text.numeric import certainly_differ, evaluate

DIFFERENT = [
    (r"\frac{1}{3}", "0.3334"),
    (r"2\sqrt{5}", r"\sqrt{5}"),
    (r"-\frac{1+\sqrt{5}}{2}", r"\frac{1-\sqrt{5}}{2}"),
    (r"14(\sqrt{2}-1)", r"\frac{14}{3}"),
    ("x^2+2x+1", "(x+1)^2+1"),
    ("y = 2x+3", r"y = \frac{4}{25}x+\frac{21}{125}"),
    ("c = 3", "4"),
    ("(6,31,-1)", r"\left(\frac{1}{2}, 31, -1\right)"),
    (r"(2,\infty)", r"[2,\infty)"),
    (r"(2,\infty)", r"(3,\infty)"),
    (r"3\pm 2\sqrt{2}", r"3+2\sqrt{2}, 3"),
    ("3,5,7", "3, 5"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}"),
    (r"90^\circ", r"67^{\circ}"),
    ("1+274i", "1+264i"),
    ("2^{-1}", "2"),
]
UNDECIDED = [
    (r"\frac{1}{3}", "0.333333", "equal at the decimals in use"),
    ("x^2+2x+1", "(x+1)^2", "equal at the point"),
    ("15", "15 m", "Math-Verify drops units, and letters that may be one"),
    ("2", "2c", "the same"),
    (r"10\%", "0.1", "a percentage has two values"),
    ("2.5", "2,5", "a decimal comma"),
    ("(1,2)", "1,2", "an open interval may be a pair"),
    ("(1,2,3)", "1", "shapes differ"),
    ("6", "(2)(3)", "Math-Verify reads 5"),
    (r"2\frac{1}{2}", "3", "a mixed fraction or a product"),
    ("1/2x", "3", "x may stand above or below"),
    ("x^10", "3", "LaTeX reads x^1 0"),
    ("f(x)", "3", "a function or a product"),
    (r"\sqrt[3]{-8}", "3", "a negative number has several roots"),
    ("10^{9999}", "3", "too large"),
    ("(" * 149 + "1" + ")" * 149, "1", "deep, and equal"),
    ("$1$", "2", "a text with mathematics in it, which Math-Verify searches"),
]


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different_values(gold: str, answer: str) -> None:
    assert certainly_differ(gold, answer, decimals=6, strict_variables=True)
    assert certainly_differ(answer, gold, decimals=6, strict_variables=True)
    assert not certainly_differ(gold, gold, decimals=6, strict_variables=True)


@pytest.mark.parametrize(("gold", "answer", "reason"), UNDECIDED)
def test_left_to_math_verify(gold: str, answer: str, reason: str) -> None:
    assert not certainly_differ(gold, answer, decimals=6, strict_variables=True), reason


def test_settings_count() -> None:
    assert not certainly_differ("x+1", "y+2", decimals=6, strict_variables=False)
    assert certainly_differ("0.33", "0.34", decimals=6, strict_variables=True)
    assert not certainly_differ("0.33", "0.34", decimals=2, strict_variables=True)


def test_whatever_differs_is_wrong_to_math_verify(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of the published cases and of this file, each beside many others: none is `correct`.

    Some are more than Math-Verify can read, which says `no_answer` or `gold_unparseable` of those.
    """
    with open(test_data / "equivalence" / "equivalence_cases.jsonl") as file:
        cases = [json.loads(line) for line in file]
    published = {side.strip("$") for case in cases for side in (case["gold"], case["pred"])}
    own = {side for pair in (*DIFFERENT, *UNDECIDED) for side in pair[:2]}
    readable = sorted(answer for answer in published | own if evaluate(answer))
    assert len(readable) > 150
    choose = random.Random(0)
    pairs = [(choose.choice(readable), choose.choice(readable)) for _ in range(1500)]
    decided = [pair for pair in pairs if certainly_differ(*pair, decimals=6, strict_variables=True)]
    assert len(decided) > 500
    monkeypatch.setattr(equivalence, "certainly_differ", lambda *_, **__: False)
    settings = AnswerSettings()
    verdicts = {pair: equivalence.compare(*pair, settings) for pair in decided}
    assert [pair for pair, verdict in verdicts.items() if verdict == "correct"] == []
    read = [verdict for verdict in verdicts.values() if verdict == "wrong"]
    assert len(read) > 0.9 * len(decided)
