"""What a judge of steps is asked, where its analysis reaches the verdict, and what its words are worth."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from redi_ray.config.step_judges import GenerativeJudge, StepQuestion
from redi_ray.modeling.tokenizer import character_tokenizer, train_bpe_tokenizer
from redi_ray.text.step_verdicts import (
    labels_below,
    mean_value,
    probability_of_yes,
    step_question,
    up_to_question,
    words_misfit,
)

R, W, U = "right", "wrong", "unseen"
QUESTION = StepQuestion(prompt="P {problem} B {before} S {step} {{x}}", question="Right?", yes=" Yes", no=" No")


def judge(**changes: object) -> GenerativeJudge:
    return GenerativeJudge(kind="step_judge", question=QUESTION, **changes)


def test_the_value_is_a_softmax_over_two_words():
    assert probability_of_yes({" Yes": 2.0, " No": 0.5}, QUESTION) == pytest.approx(0.8175744762, abs=1e-10)
    assert probability_of_yes({" Yes": -3.0, " No": -3.0}, QUESTION) == 0.5
    assert probability_of_yes({" Yes": -2000.0, " No": 0.0}, QUESTION) == 0.0
    assert probability_of_yes({" Yes": 0.0, " No": -2000.0}, QUESTION) == 1.0


def test_probabilities_are_averaged_and_not_votes():
    said = [0.9, 0.4, 0.4]
    assert mean_value(said, judge()) == pytest.approx(1.7 / 3)
    assert mean_value(said, judge(average="votes")) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.9, 0.5, 0.49, 0.9], [R, R, W, U]),  # strictly below
        ([0.9, 0.5], [R, R]),
        ([0.1, None], [W, U]),
        ([None, 0.1], None),
        ([0.9, None, 0.1], None),
    ],
)
def test_the_first_step_below_is_wrong(values: list[float | None], labels: list[str] | None):
    assert labels_below(values, 0.5) == labels


@pytest.mark.parametrize(
    ("analysis", "kept"),
    [
        ("So. Right? Yes", "So. Right?"),
        ("So. Right? No. Right? Yes", "So. Right?"),
        ("<think>Right? No</think>\nHm. Right? Yes", "<think>Right? No</think>\nHm. Right?"),
        ("<think>Right? No</think>\nNo word.", None),
        ("<think>Right? Yes", None),
        ("right? Yes", None),
    ],
)
def test_an_analysis_is_cut_behind_its_question(analysis: str, kept: str | None):
    assert up_to_question(analysis, QUESTION) == kept


def test_what_is_asked():
    """Later steps are not shown, headers give way, and a solution can neither close the prompt nor fill in its braces."""
    steps = ["<think>\nStep 1: a {step}\n", "**Step 2:** b<|im_end|>\n", "Step 3: c"]
    asked = step_question(QUESTION, "x{y}", steps, 1, ["<|im_end|>"])
    assert asked == "P x{y} B Step 1: a {step} S Step 2: b< |im_end|> {x}"
    plain = QUESTION.model_copy(update={"numbered": False})
    assert step_question(plain, "x", ["<think>\n1+1=2\n", "2+1=3\n", "</think>\n4"], 2) == "P x B 1+1=2\n2+1=3 S 4 {x}"
    assert step_question(plain, "x", ["1+1=2\n"], 0) == "P x B  S 1+1=2 {x}"


def test_words_that_a_tokenizer_cannot_tell_apart_are_refused():
    bpe = train_bpe_tokenizer(["Right? Yes", "Right? No"] * 9, 300)
    assert words_misfit(QUESTION, bpe) is None
    alike = QUESTION.model_copy(update={"yes": "\u00e9", "no": "\u00e8"})  # two bytes each, the first the same
    assert "begin with the same token" in (words_misfit(alike, bpe) or "")
    world = character_tokenizer("01=")
    assert "begin with a token of its own" in (words_misfit(QUESTION, world) or ""), "it has no letters"
    assert words_misfit(QUESTION.model_copy(update={"question": "==", "yes": "1", "no": "0"}), world) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "{problem} {steps}"}, r"only \{problem\}, \{before\}, \{step\} are filled in, found \{steps\}"),
        ({"prompt": "{problem}"}, r"needs \{step\}"),
        ({"prompt": "{problem} {step"}, "doubled"),
        ({"yes": " Yes", "no": "Yes"}, "two different words"),
        ({"yes": " Yes it is"}, "two different words"),
        ({"question": "Right? "}, "blanks"),
    ],
)
def test_questions_that_cannot_be(settings: dict[str, str], told: str):
    with pytest.raises(ValidationError, match=told):
        StepQuestion(**settings)
