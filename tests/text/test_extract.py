"""Extraction: the last answer, by the rules that keep a trace's earlier guesses from counting."""

from __future__ import annotations

import time

import pytest

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.extract import extract_answer, extract_gold, find_answer

DEFAULT = AnswerSettings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{3}. Wait, \boxed{4}", "4"),  # Math-Verify reads {3, 4}
        (r"\boxed{3}, no wait, \boxed{4}", "4"),
        (r"\boxed{3} so \boxed{4}", "4"),
        (r"First \boxed{7}, finally \boxed{8}", "8"),
        (r"\boxed{1}, \boxed{2} and finally \boxed{3}", "1,2,3"),
        (r"\boxed{1} and \boxed{2} and \boxed{3}", "1,2,3"),
        (r"$x = \boxed{1}$ or $x = \boxed{-2}$", "1,-2"),
        (r"$\boxed{(98, 2)} \quad \text{and} \quad \boxed{(99, 503)}$", "(98, 2),(99, 503)"),
        (r"\boxed{5}, that is \boxed{5}", "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),  # an escaped brace that never closes
        (r"\fbox{7}", "7"),
        (r"\boxed 8", "8"),
        (r"\boxed {9}", "9"),
        (r"put it in \boxed notation: \boxed{3}", "3"),
        (r"\boxed{5}. \boxed{}. \boxed{}.", "5"),
        (r"\boxed{3} then \boxed{\frac{4", None),  # cut off inside the last box: 3 was not the answer
        (r"\boxed{}", None),
        ("no box", None),
    ],
)
def test_boxed(text, expected):
    assert extract_boxed(text) == expected


@pytest.mark.parametrize(
    ("specs", "text", "expected"),
    [
        (["after:A:"], "6 * 7 = 42\nA: 42", "42"),
        (["after:A:"], "A: 1\nA: 2\n", "2"),
        (["after:A:"], "ALPHA: 3", None),
        (["after:####"], "so 5\n#### 1,234", "1,234"),
        (["after:final answer is"], "The FINAL ANSWER IS: **$\\frac12$**. I hope it is correct.", "\\frac12"),
        (["after:final answer is"], "The final answer is\n\\[\n\\boxed{4}\n\\]", "4"),
        ([r"regex:ANSWER\s*=\s*(\S+)"], "ANSWER = 3\nANSWER = x+1", "x+1"),
        (["last_number"], "from 3 to 1,250.", "1250"),
        (["boxed", "after:A:"], "A: 1 \\boxed{2}", "2"),
        (["after:A:", "boxed"], "A: 1\n\\boxed{2}", "1"),
        (["whole"], " \\frac{1}{2} ", "\\frac{1}{2}"),
    ],
)
def test_extractors(specs, text, expected):
    """Each source's own way of marking answers, and their order."""
    assert extract_answer(text, AnswerSettings(extract=specs)) == expected


def test_final_answer_sentence_beats_an_earlier_box():
    text = r"We get $\boxed{255}$ more. Final Answer: The final answer is $10,455$. I hope it is correct."
    assert extract_answer(text, DEFAULT) == "10,455"


def test_answer_after_the_reasoning():
    """What counts as a bare answer is what follows the reasoning."""
    assert extract_answer("<think>" + "is it 7? " * 200 + "</think>\n42", DEFAULT) == "42"


def test_conclusions():
    long = "We count the ways one by one, which takes a while. " * 20
    assert "is 31" in extract_answer(long + "Therefore, the greatest perimeter is 31.", DEFAULT)
    assert extract_answer(long + "Alternatively, we could try x = 31", DEFAULT) is None, "ends in mid-sentence"
    assert extract_answer(long, DEFAULT) is None, "announces no result"


def test_cut_off_completions_need_an_explicit_answer():
    assert extract_answer("so far we have 12", DEFAULT, finished=False) is None
    assert extract_answer(r"\boxed{12} and now", DEFAULT, finished=False) == "12"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"First \boxed{7}, finally \boxed{8", None),
        (r"First \boxed{7}, finally $\boxed{8$.", None),
        (r"First \boxed{7}, finally \fbox{8", None),
        (r"First \boxed{7}, finally \boxed{8\}", None),
        (r"First \boxed{7}, finally \boxed", None),  # cut off within the word, or right behind it
        (r"First \boxed{7}, finally $\bo", None),
        (r"The answer is 7. So \boxed{\frac{1}{2}", None),
        (r"The final answer is $\boxed{8$. I hope it is correct.", None),
        (r"Answer: \boxed{8", None),
        (r"<think>\boxed{7}</think> So \boxed{8", None),
        ("All in all, " * 50 + r"\boxed{7}, so finally \boxed{8. Therefore it is 7.", None),
        (r"So \boxed{8, that is, the answer is 8.", "8"),  # said again behind it
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed5", "5"),
        (r"\boxed{5} \boxed{ }", "5"),
        (r"\boxed{5} goes into \boxed{answer}", "5"),
    ],
)
def test_a_last_box_that_never_closes_leaves_no_answer(text, expected):
    """Nothing said before it is taken instead."""
    assert extract_answer(text, DEFAULT) == expected
    assert extract_answer(text, DEFAULT, finished=False) == expected


@pytest.mark.parametrize(
    ("text", "ended", "cut_off"),
    [
        (r"<think>\boxed{5}? No.</think> The answer is **7**.", ("7", True), ("7", True)),
        (r"<think>\boxed{5}? No.</think> So it is 7.", ("So it is 7.", False), None),
        (r"\boxed{5}? No.</think> Answer: 7.", ("7", True), ("7", False)),
        (r"<think>The answer is 5. Hm.</think>7", ("7", True), None),
        (r"<think></think>\boxed{7}", ("7", True), ("7", True)),
        (r"<think>So \boxed{5}.</think>", ("5", False), None),
        (r"<think>So \boxed{5}.</think><|im_end|>", ("5", False), None),
        (r"<think>So \boxed{5}. Or", ("5", False), None),
        (r"<think>a</think> \boxed{7} <think>Or \boxed{5}", ("5", False), None),
        (r"<think>\boxed{5}</think> \boxed{7} </think>", ("7", True), ("7", True)),
        (r"<think>\boxed{5}</think> <think>\boxed{6}</think> \boxed{7} and more", ("7", True), ("7", True)),
        (
            r"<|begin_of_thought|>\boxed{5}<|end_of_thought|><|begin_of_solution|>7<|end_of_solution|>",
            ("7", True),
            None,
        ),
        (r"<thinking>\boxed{5}</thinking> \boxed{7}", ("7", True), ("7", True)),
        (r"<reasoning>\boxed{5}</reasoning><answer>7</answer>", ("7", True), ("7", True)),
        (r"[THINK]\boxed{5}[/THINK]\boxed{7}", ("7", True), ("7", True)),
        (r"<|channel|>analysis<|message|>\boxed{5}<|end|><|channel|>final<|message|>7<|return|>", ("7", True), None),
        (r"<|begin_of_thought|>So \boxed{5}.", ("5", False), None),
    ],
)
def test_what_follows_the_thought_decides(text, ended, cut_off):
    """An answer in the thought is a guess where nothing follows, and none where the completion was cut off."""
    for finished, expected in ((True, ended), (False, cut_off)):
        found = find_answer(text, DEFAULT, finished=finished)
        assert (found and (found.answer, found.certain)) == expected


def test_too_long_is_no_answer():
    assert extract_answer("\\boxed{" + "1" * 3000 + "}", DEFAULT) is None


def test_gold():
    assert extract_gold("3 + 4 = 7\n#### 7", AnswerSettings(gold_extract=["after:####", "whole"])) == "7"
    assert extract_gold(" \n", DEFAULT) is None


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{}. " * 100_000,
        "\\boxed{5}, " * 100_000,
        "\\boxed{" * 150_000,
        "\\fbox{\\boxed{}" * 70_000,
        "final answer is " * 60_000 + "I hope",
        "$" * 1_000_000,
        "\\" * 1_000_000,
        "<|" * 500_000,
        "A: \x00\x07" * 200_000,
        "<think>" * 100_000 + "</think>" * 100_000,
        "the answer is " * 80_000,
        "answer to " * 100_000,
        "<answer>" * 120_000,
        "Answer: " + "(" * 1_000_000,
        "#### " * 200_000,
        "\n" * 1_000_000,
        "Option A (B) " * 80_000,
        "A: x\n" * 200_000,
        "<answer>" + ")" * 1_000_000 + "</answer>",
        "\\(" * 500_000,
        ")" * 1_000_000,
        "not " * 250_000 + "5.",
    ],
)
def test_linear_time(text):
    """A megabyte of looping output is read in well under a second; a quadratic scan would take minutes."""
    start = time.perf_counter()
    extract_answer(text, AnswerSettings(extract=[*DEFAULT.extract, "after:A:", "last_number", "whole"]))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("spec", ["box", "after:", "regex:(", "regex:a", "regex:(a)(b)", "boxed:1"])
def test_bad_extractors_are_refused(spec):
    with pytest.raises(ValueError, match="extractor"):
        AnswerSettings(extract=[spec])
