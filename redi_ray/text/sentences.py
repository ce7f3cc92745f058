"""Sentences of a problem in words, and perturbations of them: one more that is about other things, two in another order."""

from __future__ import annotations

import random
import re
from collections import Counter

from redi_ray.config.perturb import Distractor, Order
from redi_ray.text.number_words import FORMULA, numbers_in
from redi_ray.text.variants import NotPerturbed, Perturbation, Problem
from redi_ray.text.wording import words

END = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bvs\.)[\"'\u2019)]?\s+(?=[A-Z\"'(\u201c$\d\\])"
)
"""Between two sentences."""
COMMON = 4
"""Letters of a word that is held to say what a sentence is about."""
REFERRING = re.compile(
    r"\b(?:he|she|it|its|they|them|their|theirs|him|his|her|hers|this|that|these|those|then|next|after|afterwards|before|later|also|"
    r"another|others?|remaining|remainder|rest|left|same|each|both|total|former|latter|finally|first|second|third|last|again|more|"
    r"less|fewer|twice|half|thrice|times|than|but|however|so|therefore|thus|instead|if|when|while|meanwhile|now|still|such)\b",
    re.IGNORECASE,
)
"""What leans on another sentence, or says in which order things happen."""
ASKING = re.compile(
    r"(?:what|how|who|which|where|find|compute|determine|express|give|evaluate|solve|simplify|note|let|suppose|assume|write|round|"
    r"enter|show|prove|calculate)\b",
    re.IGNORECASE,
)
"""Begins a sentence that is no fact."""
NUMBERS = (11, 97)
"""A distractor's, at the least and the most."""


def sentences(text: str) -> list[str]:
    """The sentences, without the blanks between them.

    Example: "Tom has 3 cats. Mary has 2.5 kg. Who has more?" has three.
    """
    formulas = [formula.span() for formula in FORMULA.finditer(text)]
    found, start = [], 0
    for end in END.finditer(text):
        if not any(first < end.end() and end.start() < last for first, last in formulas):
            found.append(text[start : end.start()].strip() + end.group().rstrip())
            start = end.end()
    return [part for part in (*found, text[start:].strip()) if part]


def stems(text: str) -> set[str]:
    """What it is about: its words of COMMON letters or more, without an s at the end."""
    return {word.rstrip("s") for word in words(text) if len(word) >= COMMON and word.isalpha()}


def _distract(problem: Problem, chance: random.Random, settings: Distractor) -> str:
    parts = sentences(problem.text)
    about, taken = stems(problem.text), set(numbers_in(problem.text))
    foreign = [sentence for sentence in settings.sentences if not stems(sentence.replace("{n}", "")) & about]
    if not foreign:
        raise NotPerturbed("no_foreign_sentence")
    number = chance.choice([one for one in range(*NUMBERS) if str(one) not in taken and str(one) != problem.answer])
    added = chance.choice(foreign).replace("{n}", str(number))
    place = problem.text.rindex(parts[-1]) if parts else 0
    return f"{problem.text[:place]}{added} {problem.text[place:]}"


def _distracted(problem: Problem, variant: str) -> str | None:
    """One sentence is new, the last one is the same, all others stand as they did, and the new one is about other things."""
    before, after = sentences(problem.text), sentences(variant)
    added = list((Counter(after) - Counter(before)).elements())
    if len(added) != 1 or [one for one in after if one != added[0]] != before or after[-1:] != before[-1:]:
        return "other_sentences_changed"
    return "not_foreign" if stems(added[0]) & stems(problem.text) else None


def _reorder(problem: Problem, chance: random.Random, settings: Order) -> str:
    parts = sentences(problem.text)
    if not parts or not parts[-1].endswith("?"):
        raise NotPerturbed("question_not_last")
    pairs = [at for at in range(len(parts) - 2) if _independent(parts[at], parts[at + 1])]
    if not pairs:
        raise NotPerturbed("no_independent_facts")
    at = chance.choice(pairs)
    start, middle = problem.text.index(parts[at]), problem.text.index(parts[at + 1])
    end = middle + len(parts[at + 1])
    between = problem.text[start + len(parts[at]) : middle]
    return f"{problem.text[:start]}{parts[at + 1]}{between}{parts[at]}{problem.text[end:]}"


def _independent(one: str, other: str) -> bool:
    """Whether two facts may change places: both are statements with a number, neither leans on another sentence, and the second
    calls nothing by `the` that may have come before."""
    if not (one.endswith(".") and other.endswith(".") and numbers_in(one) and numbers_in(other)):
        return False
    if any(REFERRING.search(fact) or ASKING.match(fact) for fact in (one, other)) or one == other:
        return False
    return re.search(r"\bthe\b", other, re.IGNORECASE) is None


def _reordered(problem: Problem, variant: str) -> str | None:
    """The sentences are the same ones in another order, the question being last."""
    before, after = sentences(problem.text), sentences(variant)
    same = Counter(before) == Counter(after) and before[-1:] == after[-1:]
    return None if same and before != after else "other_sentences_changed"


DISTRACTOR, ORDER = Perturbation(_distract, _distracted), Perturbation(_reorder, _reordered)
