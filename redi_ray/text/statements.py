r"""Answers that say more than a value: a condition behind it (`2x+1, x>0`), or names before its parts (`a=-2, b=-2`)."""

from __future__ import annotations

import operator
import re

from redi_ray.text.normalize import RELATION, TEXT
from redi_ray.text.numeric import TUPLE, evaluate
from redi_ray.text.symbols import close_parenthesis

MEMBER = re.compile(r"\\(?:not)?in(?![a-zA-Z])")
CONDITION_WORD = re.compile(
    r"(?<!\s)\s*[,;]?\s*(?:\\(?:text|textrm|mathrm|mbox)\s*\{\s*[,;(]?\s*|(?<=[\s)}\],;])\(?)"
    r"(?:(?:and\s+)?(?:for|if|when(?:ever)?|where|with|provided|given|assuming|such that|as long as|unless)\b"
    r"|\u5176\u4e2d|\u5f53|\u82e5|\u5982\u679c)",
    re.IGNORECASE,
)
SPLIT_CASES = re.compile(r"\b(?:otherwise|else|respectively)\b|\\begin", re.IGNORECASE)
QUAD = re.compile(r"(?:\s*[,;]?\s*\\q?quad(?![a-zA-Z])\s*)+,?")
TEXT_BRACKET = re.compile(r"\\text\s*\{\s*([()])\s*\}")
SPACING = re.compile(r"\\q?quad(?![a-zA-Z])|\\[,;:! ]|~|\s+")
NAMELESS = re.compile(r"\\(?:text[a-z]*|math[a-z]+|mbox|operatorname)\s*(?:\{[^{}]*\}|[A-Z])")
COMMAND = re.compile(r"\\[a-zA-Z]+")
GREEK_LETTER = re.compile(r"\\(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|sigma|omega|phi|psi|rho|tau)(?![a-z])")
FILLER = re.compile(
    r"\b(?:for|if|when|whenever|where|with|provided|given|assuming|such|that|as|long|all|any|every|each|some|is|are|an?|the|be|"
    r"and|arbitrary|numbers?|values?|of|an)\b|\\(?:in|text|mathrm|mathbb|forall|qquad|quad)(?![a-zA-Z])|[{}()\\,;~$.]"
)
KINDS = (
    (re.compile(r"\\mathbb\s*\{?\s*Z\s*\}?|(?<=\\in)\s*Z\b|\bintegers?\b"), " integer "),
    (re.compile(r"\\mathbb\s*\{?\s*N\s*\}?|(?<=\\in)\s*N\b|\bnaturals?\b"), " natural "),
    (re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|(?<=\\in)\s*R\b|\breals?\b"), " real "),
)
ASSIGNED = re.compile(r"\s*([a-zA-Z](?:_\{?\w+\}?|'+)?|\\[a-zA-Z]+(?:_\{?\w+\}?)?)\s*=(?!=)\s*([^=]+)$")
BOUND = re.compile(r"\s*([a-zA-Z])\s*(<|>|\\leq?(?![a-z])|\\geq?(?![a-z])|\\neq?(?![a-z]))\s*([^<>\\]+|\\pi)$")
COMPARISONS = {"<": operator.lt, ">": operator.gt, "\\l": operator.le, "\\g": operator.ge, "\\n": operator.ne}


def top_level(text: str) -> list[str]:
    """The parts of `text` between commas and semicolons that are in no bracket."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(0, depth - 1)
        elif character in ",;" and depth == 0 and text[index - 1 : index] != "\\":
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def split_condition(text: str) -> tuple[str, str]:
    r"""A respelled answer and the condition behind it, empty if there is none: `2x+1, x>0` -> (`2x+1`, `x>0`).

    An answer that is an inequality itself, or that has several cases, is left whole.
    """
    if not RELATION.search(text) and not CONDITION_WORD.search(text):
        return text, ""
    if SPLIT_CASES.search(text):
        return text, ""
    text = TEXT_BRACKET.sub(r"\1", text)
    core, condition = _by_word(text) or _by_bracket(text) or _by_comma(text) or (text, "")
    core = core.strip().rstrip(",;").rstrip()
    if not core or RELATION.search(core) or CONDITION_WORD.search(core):
        return text, ""
    return SPACING.sub(" ", core).strip(), condition.strip()


def split_cases(text: str) -> list[tuple[str, str]]:
    r"""(value, condition) of an answer with several cases, in its order; empty where it has none.

    Example: `0\text{ if }n\text{ is odd}, 1\text{ if }n\text{ is even}`.
    """
    starts = [match.start() for match in CONDITION_WORD.finditer(text)]
    if not starts or (len(starts) < 2 and not SPLIT_CASES.search(text)):
        return []
    return [split_condition(part.strip()) for part in re.split(r"[,;]|\\text\s*\{\s*and\s*\}", text) if part.strip()]


def _by_word(text: str) -> tuple[str, str] | None:
    match = CONDITION_WORD.search(text)
    if match is None or match.start() == 0 or CONDITION_WORD.search(text, match.end()):
        return None
    return text[: match.start()], text[match.start() :].lstrip(" ,;")


def _by_bracket(text: str) -> tuple[str, str] | None:
    """`n^2 (n \\ge 1)`"""
    if not text.endswith(")"):
        return None
    start = text.rfind("(")
    if start <= 0 or close_parenthesis(text, start) != len(text) - 1 or not RELATION.search(text[start:]):
        return None
    return text[:start], text[start + 1 : -1]


def _by_comma(text: str) -> tuple[str, str] | None:
    parts = top_level(text)
    first = len(parts)
    while first > 1 and RELATION.search(parts[first - 1]):
        first -= 1
    if first == len(parts):
        return None
    core, condition = ",".join(parts[:first]), ",".join(parts[first:])
    ours = letters(core)
    if any(ours and not ours & letters(part) for part in parts[first:]) or not _holds(core, condition):
        return None
    return core, condition


def letters(text: str) -> set[str]:
    """The variables of a formula."""
    text = NAMELESS.sub(" ", text)
    return {*GREEK_LETTER.findall(text), *re.findall("[a-zA-Z]", COMMAND.sub(" ", text))}


def _holds(core: str, condition: str) -> bool:
    """False where the answer is one value of a variable and the condition on the same variable excludes it, as another case."""
    named = ASSIGNED.match(core)
    if named is None or letters(named[2]):
        return True
    bound, value = BOUND.match(condition), evaluate(named[2])
    limit = evaluate(bound[3]) if bound else None
    if bound is None or bound[1] != named[1] or value is None or limit is None:
        return MEMBER.search(condition) is not None or (bound is not None and bound[1] != named[1])
    compare = COMPARISONS[bound[2][:2]]
    return all(compare(part.real, limit.parts[0].real) for part in value.parts)


def condition_key(condition: str) -> str:
    r"""Equal for conditions that say the same in other words: `k \in \mathbb{Z}` and `for any integer k`."""
    text = TEXT.sub(r" \1 ", condition)
    for kind, word in KINDS:
        text = kind.sub(word, text)
    return " ".join(sorted(FILLER.sub(" ", text).split()))


def relation_of(condition: str) -> str:
    """The inequality in a condition, without the words before it."""
    return SPACING.sub(" ", CONDITION_WORD.sub("", " " + condition)).strip(" {}")


def assignments(text: str) -> list[tuple[str, str]]:
    """(name, value) of `a = -2, b = -2` as they are written; empty where it is anything else or a name comes twice."""
    found = [ASSIGNED.match(part) for part in top_level(QUAD.sub(",", text))]
    pairs = [(match[1], match[2].strip()) for match in found if match]
    names = {name for name, _ in pairs}
    return pairs if 2 <= len(pairs) == len(found) == len(names) else []


def as_tuples(named: str, other: str) -> list[str]:
    r"""`named`, a list of assignments, as the tuples that `other`, a tuple, may mean: by name, then as they are written.

    One where both are the same; empty where they are not of these kinds.
    """
    pairs = assignments(named)
    inside = TUPLE.match(other)
    if not pairs or inside is None or inside[1] != "(" or inside[3] != ")":
        return []
    orders = [sorted(pairs, key=lambda pair: (pair[0].startswith("\\"), pair[0])), pairs]
    tuples = [f"({','.join(value for _, value in order)})" for order in orders]
    return list(dict.fromkeys(tuples))
