"""A judge of single steps: what it is asked, where its analysis reaches the verdict, and what its words are worth. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from redi_ray.config.step_judges import GenerativeJudge, StepQuestion
from redi_ray.text.extract import split_thought
from redi_ray.text.judgement import break_up
from redi_ray.text.step_judgement import up_to_first_wrong
from redi_ray.text.steps import RIGHT, WRONG, without_header
from redi_ray.text.thoughts import without_tags
from redi_ray.text.tokens import plain_ids


def step_question(
    question: StepQuestion, problem: str, steps: Sequence[str], at: int, special_tokens: Collection[str] = ()
) -> str:
    """What a judge is asked about step number `at` (0, 1, ...).

    steps: texts, in order, of which those behind `at` are not shown; tags of thoughts are left out. special_tokens: the judge's,
    which are broken up.
    """
    shown = [
        f"Step {number}: {without_header(text).strip()}" if question.numbered else text.strip()
        for number, text in enumerate(map(without_tags, steps[: at + 1]), 1)
    ]
    filled = {"problem": problem, "before": "\n".join(shown[:-1]), "step": shown[-1]}
    return question.prompt.format(**{name: break_up(text, special_tokens) for name, text in filled.items()})


def up_to_question(analysis: str, question: StepQuestion) -> str | None:
    """The analysis up to and with its verdict question, the first behind its last thought; None where there is none.

    Example: with the question "Right?", `up_to_question("2+2=4. Right? Yes, right.", ...) == "2+2=4. Right?"`.
    """
    spoken, _, is_open = split_thought(analysis)
    at = spoken.find(question.question)
    if is_open or at < 0:
        return None
    start = len(analysis) - len(spoken) if analysis.endswith(spoken) else analysis.rfind(spoken)
    return analysis[: start + at + len(question.question)]


def probability_of_yes(logps: Mapping[str, float], question: StepQuestion) -> float:
    """Softmax over the two words alone. logps: word -> its log-probability or logit there.

    Example: logits 2.0 and 0.5 give 0.8175744762.
    """
    difference = logps[question.no] - logps[question.yes]
    return 1.0 / (1.0 + math.exp(difference)) if difference < 700 else 0.0


def mean_value(probabilities: Sequence[float], judge: GenerativeJudge) -> float:
    """Of the analyses of a step, of which there must be one, in [0, 1]."""
    votes = judge.average == "votes"
    return sum(float(p >= 0.5) if votes else p for p in probabilities) / len(probabilities)


def labels_below(values: Sequence[float | None], threshold: float) -> list[str] | None:
    """The labels of steps with these values: right up to the first that is below, strictly; None where a step up to there has no
    value.

    Example: `labels_below([0.9, 0.4, 0.8], 0.5) == ["right", "wrong", "unseen"]`.
    """
    labels: list[str] = []
    for value in values:
        if value is None:
            return None
        labels.append(WRONG if value < threshold else RIGHT)
        if value < threshold:
            break
    return up_to_first_wrong(labels, len(values))


def words_misfit(question: StepQuestion, tokenizer: Any) -> str | None:
    """Why a tokenizer cannot tell the two words apart by one token behind the question, or None."""
    before = plain_ids(question.question, tokenizer)
    firsts = {}
    for word in (question.yes, question.no):
        alone, together = plain_ids(word, tokenizer), plain_ids(question.question + word, tokenizer)
        if not alone or together[: len(before) + 1] != [*before, alone[0]]:
            return f"behind {question.question!r} the word {word!r} does not begin with a token of its own"
        firsts[word] = alone[0]
    if len(set(firsts.values())) < len(firsts):
        return f"{question.yes!r} and {question.no!r} begin with the same token"
    return None
