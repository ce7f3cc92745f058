r"""Where the answer of a completion stands: last box by brace matching, markers, custom patterns. Linear in the text.

Two things Math-Verify does with a whole completion are avoided on purpose: it merges nearby boxes (`\boxed{3}. Wait,
\boxed{4}` becomes the set {3, 4}), and it backtracks for seconds over texts that loop.

Which extractor reads which source (a test runs every line; / is a line break, - no answer):

| extract                  | completion                                               | answer         |
|--------------------------|----------------------------------------------------------|----------------|
| `boxed`                  | `First \boxed{3}. No: \boxed{\frac{1}{2}}, for sure.`    | `\frac{1}{2}`  |
| `boxed`                  | `Either \boxed{1} or \boxed{-2}`                         | `1,-2`         |
| `boxed`                  | `So \boxed{\text{a set } \{1, 2\}}`                      | `\text{a set } \{1, 2\}` |
| `boxed`                  | `It is \boxed{7} or rather \boxed{8`                     | -              |
| `final_answer`           | `The final answer is $7$. I hope it is correct.`         | `7`            |
| `after:final answer is`  | `Thus the final answer is: 7.`                           | `7`            |
| `after:A:`               | `12 - 5 = 7 / A: 7`                                      | `7`            |
| `after:####`             | `12 - 5 = 7 / #### 7`                                    | `7`            |
| `regex:ANS=(\d+)`        | `ANS=6 / ANS=7 / done`                                   | `7`            |
| `last_number`            | `It costs 1,200 dollars.`                                | `1200`         |
| `whole`                  | `x = 7`                                                  | `x = 7`        |
| `conclusion`             | `Therefore it is 7.`                                     | `Therefore it is 7.` |
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.normalize import strip_delimiters
from redi_ray.text.thoughts import THOUGHTS

BOX_OPENING = re.compile(r"\\boxed\s*(\{|-?\d[\d.,]*)")
BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)")
END_OF_THOUGHT = tuple(closing for _, closing in THOUGHTS)

TAIL_CHARS = 20_000
"""Markers, patterns and numbers are looked for in this much of the text's end."""
GAP_CHARS = 70
"""Boxes further apart than this are separate answers."""
MAX_JOINED = 32
"""Boxes joined into one answer at most: a text that loops over boxes gives no list of answers."""
CONJUNCTION = re.compile(r"\b(?:and|or)\b|,|;", re.IGNORECASE)
INTERRUPTION = re.compile(
    r"[.!?:](?:\s|$)|\n\s*\n|=>|\\(?:implies|Rightarrow|to)\b"
    r"|\b(?:wait|but|not?|actually|so|hence|thus|then|therefore|instead|rather|check|hmm|again|which)\b",
    re.IGNORECASE,
)
"""Between two boxes: the second is a new statement, not the next item of a list."""
DELIMITERS = re.compile(r"\$+|\\[()\[\]]|\\q?quad\b|\\[,;: ]|\\text\b")
CONCLUSION_CHARS = 300
SENTENCE_ENDS = (".", "!", "$", ")", "]", "}", "*", "%", ">")
SENTENCE_START = re.compile(r"[.!?:]\s+|\n")
TRAILING_TAG = re.compile(r"\s*<\|?[^<>\n]{1,40}\|?>\s*\w{0,10}$")
RESULT = re.compile(
    r"\b(?:answer|therefore|thus|hence|so|conclu\w*|final\w*|result|indeed|confirm\w*)\b", re.IGNORECASE
)
HOPE = re.compile(r"\.?\s*I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)


def close_brace(text: str, start: int) -> int:
    r"""Index of the brace that closes the one at `start`, or -1. Escaped braces (`\{`) do not count."""
    depth = 0
    for match in BRACES.finditer(text, start):
        symbol = match.group()
        if symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def last_box(text: str, end: int) -> tuple[int, int, str] | None:
    """Start, end and content of the last box that begins before `end`; content is "" where its brace never closes."""
    while (start := text.rfind("\\boxed", 0, end)) >= 0:
        end = start
        opening = BOX_OPENING.match(text, start)
        if opening is None:  # the bare word in a sentence
            continue
        if opening.group(1) != "{":  # \boxed 5
            return start, opening.end(), opening.group(1).rstrip(".,")
        closing = close_brace(text, opening.end() - 1)
        if closing < 0:
            return start, len(text) + 1, ""
        return start, closing + 1, text[opening.end() : closing].strip()
    return None


def extract_boxed(text: str) -> str | None:
    r"""The content of the last box that is not empty; boxes listed in one breath (`\boxed{1} and \boxed{2}`) are joined.

    None where the last box was cut off: an earlier box is then no final answer.
    """
    text = text.replace("\\fbox", "\\boxed")
    found = last_box(text, len(text))
    while found is not None and not found[2]:
        if found[1] > len(text):
            return None
        found = last_box(text, found[0])
    if found is None:
        return None
    answers = [found[2]]
    for _ in range(MAX_JOINED):
        previous = last_box(text, found[0])
        if previous is None or not previous[2] or not 0 <= found[0] - previous[1] <= GAP_CHARS:
            return ",".join(reversed(answers))
        between = DELIMITERS.sub(" ", text[previous[1] : found[0]])
        if between.strip() and (INTERRUPTION.search(between) or not CONJUNCTION.search(between)):
            return ",".join(reversed(answers))
        if previous[2] not in answers:
            answers.append(previous[2])
        found = previous
    return answers[0]


def extract_final_answer(text: str) -> str | None:
    """X of `final answer is X. I hope it is correct`, the form that many prompts ask for."""
    end = text.rfind("I hope")
    if end < 0:
        return None
    sentence = text[max(0, end - 500) : end]
    return extract_after(sentence, "final answer is") if "inal answer is" in sentence else None


def extract_after(text: str, marker: str) -> str | None:
    """The rest of the line behind the last `marker` (any case; a whole word), or the next line where that is empty."""
    text = text[-TAIL_CHARS:]
    if marker.lower() not in text.lower():  # much faster than the pattern, and most texts end here
        return None
    match = _last(_marker(marker), text)
    if match is None:
        return None
    rest = HOPE.sub("", text[match.end() :].lstrip(" \t:*\n"), count=1)
    line = rest.split("\n", 1)[0]
    for opening, closing in (("\\[", "\\]"), ("$$", "$$")):
        if line.strip() == opening:  # a display formula on lines of its own
            line = rest[2:].partition(closing)[0].strip()
    boxed = extract_boxed(line) if "\\boxed" in line else None
    return boxed or tidy(line)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


@lru_cache(maxsize=64)
def _marker(marker: str) -> re.Pattern[str]:
    edge = r"(?<!\w)" if marker[0].isalnum() else ""
    return re.compile(edge + re.escape(marker), re.IGNORECASE)


def extract_regex(text: str, pattern: str) -> str | None:
    """The group of the last match of `pattern` in the text's end."""
    match = _last(re.compile(pattern), text[-TAIL_CHARS:])
    return tidy(match.group(1) or "") if match else None


def extract_last_number(text: str, _: str = "") -> str | None:
    """The last number of the text, thousands separators removed."""
    match = _last(NUMBER, text[-TAIL_CHARS:])
    return match.group().replace(",", "").rstrip(".") if match else None


def extract_conclusion(text: str) -> str | None:
    """The last sentences of a text that ends with a result, for Math-Verify to search; all of a text that is short.

    Only what follows the reasoning counts. A long text must end like a sentence and announce a result ("therefore",
    "the answer"): what a calculation stops at is no answer.
    """
    text = after_thought(text).strip()
    tail, hoped = HOPE.subn("", TRAILING_TAG.sub("", text[-2 * CONCLUSION_CHARS :]))
    if len(text) <= CONCLUSION_CHARS:
        return tail.strip() or None
    if not hoped and not tail.endswith(SENTENCE_ENDS):
        return None
    tail = tail[-CONCLUSION_CHARS:]
    start = SENTENCE_START.search(tail)
    tail = tail[start.end() :].strip() if start else tail
    return tail if RESULT.search(tail) else None


def tidy(text: str) -> str | None:
    """Without markdown emphasis, a full stop at its end, and one pair of math delimiters around all of it."""
    text = text.strip().strip("*").strip()
    if text.endswith(".") and not text.endswith("\\."):
        text = text[:-1].rstrip().strip("*")
    return strip_delimiters(text) or None


def after_thought(text: str) -> str:
    """What follows the reasoning, where it is closed and something follows; the text itself otherwise."""
    for tag in END_OF_THOUGHT:
        _, found, rest = text.rpartition(tag)
        if found and rest.strip():
            return rest
    return text


EXTRACTORS: dict[str, Callable[[str, str], str | None]] = {
    "boxed": lambda text, _: extract_boxed(text),
    "final_answer": lambda text, _: extract_final_answer(text),
    "after": extract_after,
    "regex": extract_regex,
    "last_number": extract_last_number,
    "conclusion": lambda text, _: extract_conclusion(text),
    "whole": lambda text, _: text.strip() or None,
}


IMPLICIT = ("conclusion", "last_number", "whole")
"""Extractors that take what the text happens to end with."""


@dataclass(frozen=True)
class Found:
    """An answer and how sure it is that the completion means it."""

    answer: str
    certain: bool
    """False for the conclusion of a long text: if the gold is not in it, the answer may be elsewhere."""


def run_extractors(text: str, specs: list[str], max_chars: int) -> Found | None:
    """The first answer that an extractor of `specs` finds; None where there is none, or it is longer than `max_chars`."""
    for spec in specs:
        kind, _, argument = spec.partition(":")
        answer = EXTRACTORS[kind](text, argument)
        if answer:
            certain = kind != "conclusion" or len(after_thought(text).strip()) <= CONCLUSION_CHARS
            return Found(answer, certain) if len(answer) <= max_chars else None
    return None


def find_answer(text: str, settings: AnswerSettings, *, finished: bool = True) -> Found | None:
    """The answer that `text`, a completion, arrives at; None where it has none.

    `finished=False`: the completion was cut off at its token limit, so that only an explicit answer counts (the others
    would read a number in the middle of a calculation).
    """
    specs = settings.extract if finished else [spec for spec in settings.extract if spec not in IMPLICIT]
    return run_extractors(text, specs, settings.max_answer_chars)


def extract_answer(text: str, settings: AnswerSettings, *, finished: bool = True) -> str | None:
    """The answer of `find_answer` alone."""
    found = find_answer(text, settings, finished=finished)
    return found.answer if found else None


def extract_gold(text: str, settings: AnswerSettings) -> str | None:
    """The reference answer inside `text`; None where it has none."""
    found = run_extractors(text, settings.gold_extract, settings.max_answer_chars)
    return found.answer if found else None
