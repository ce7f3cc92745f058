r"""Where the answer of a completion stands: what follows its thought, last box, markers, custom patterns. Linear in the text.

Two things Math-Verify does with a whole completion are avoided on purpose: it merges nearby boxes (`\boxed{3}. Wait,
\boxed{4}` becomes the set {3, 4}), and it backtracks for seconds over texts that loop.

Which extractor reads which source (a test runs every line; / is a line break, - no answer):

| extract                  | completion                                               | answer         |
|--------------------------|----------------------------------------------------------|----------------|
| `boxed`                  | `First \boxed{3}. No: \boxed{\frac{1}{2}}, for sure.`    | `\frac{1}{2}`  |
| `boxed`                  | `Either \boxed{1} or \boxed{-2}`                         | `1,-2`         |
| `boxed`                  | `So \boxed{\text{a set } \{1, 2\}}`                      | `\text{a set } \{1, 2\}` |
| `boxed`                  | `It is \boxed{7} or rather \boxed{8`                     | -              |
| `boxed`                  | `\boxed{\text{Answer: }7}`                               | `7`            |
| `tagged`                 | `So <answer> 7 </answer>`                                | `7`            |
| `stated`                 | `**Answer:** 7`                                          | `7`            |
| `stated`                 | `### Final answer / $7$`                                 | `7`            |
| `stated`                 | `The answer is 7, since 12 - 5 = 7.`                     | `7`            |
| `stated`                 | `Result: 7 cm`                                           | `7`            |
| `stated`                 | `#### 7`                                                 | `7`            |
| `stated`                 | `The correct option is (B).`                             | `B`            |
| `stated`                 | `The answer is not 7.`                                   | -              |
| `stated`                 | `The answer is 5. Wait, I forgot the 2.`                 | -              |
| `final_answer`           | `The final answer is $7$. I hope it is correct.`         | `7`            |
| `after:final answer is`  | `Thus the final answer is: 7.`                           | `7`            |
| `after:A:`               | `12 - 5 = 7 / A: 7`                                      | `7`            |
| `after:####`             | `12 - 5 = 7 / #### 7`                                    | `7`            |
| `regex:ANS=(\d+)`        | `ANS=6 / ANS=7 / done`                                   | `7`            |
| `verdict:OK?|Yes|No`     | `2+2=4, as it says. OK? Yes.`                            | `Yes`          |
| `verdict:OK?|Yes|No`     | `OK? Yes, so it is.`                                     | -              |
| `verdict:OK?|Yes|No`     | `OK? No. Once more. OK? Yes`                             | -              |
| `last_number`            | `It costs 1,200 dollars.`                                | `1200`         |
| `whole`                  | `x = 7`                                                  | `x = 7`        |
| `conclusion`             | `Therefore it is 7.`                                     | `Therefore it is 7.` |

How sure that is, with the default extractors: a guess can be right, but never wrong (a test runs these lines, too):

| completion                                         | ended    | answer | sure  |
|----------------------------------------------------|----------|--------|-------|
| `34`                                               | itself   | `34`   | yes   |
| `Answer: 34`                                       | itself   | `34`   | yes   |
| `It should be 34.`                                 | itself   | `It should be 34.` | guess |
| `Answer: no solution`                              | itself   | `no solution` | guess |
| `Answer: 34`                                       | cut off  | `34`   | guess |
| `It should be 34.`                                 | cut off  | -      | -     |
| `First \boxed{7}, finally \boxed{8`                | itself   | -      | -     |
| `<think>\boxed{5}? No.</think> The answer is **7**.` | itself | `7`   | yes   |
| `<think>So \boxed{5}.</think> The answer is \boxed{7` | itself | -    | -     |
| `<think>So \boxed{5}.</think>`                     | itself   | `5`    | guess |
| `<think>So \boxed{5}.</think>`                     | cut off  | -      | -     |
| `<think>So \boxed{5}.`                             | itself   | `5`    | guess |
| `<think>So \boxed{5}.`                             | cut off  | -      | -     |
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.announced import (
    DENIED_VALUE,
    TAIL_CHARS,
    TAKEN_BACK,
    WORDS,
    Found,
    find_statement,
    find_tagged,
    read_whole,
)
from redi_ray.text.boxes import read_boxes
from redi_ray.text.normalize import strip_delimiters
from redi_ray.text.thoughts import THOUGHTS
from redi_ray.text.values import is_expression, is_phrase, trim

NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)")
TAGS = tuple(tag for pair in THOUGHTS for tag in pair)
TAG_SIGNS = ("<", "[THINK]", "[/THINK]", "\u25c1")
"""What they begin with."""
CONCLUSION_CHARS = 300
SENTENCE_ENDS = (".", "!", "$", ")", "]", "}", "*", "%", ">")
SENTENCE_START = re.compile(r"[.!?:]\s+|\n")
TRAILING_TAG = re.compile(r"\s*<\|?[^<>\n]{1,40}\|?>\s*\w{0,10}$")
RESULT = re.compile(
    r"\b(?:answer|therefore|thus|hence|so|conclu\w*|final\w*|result|indeed|confirm\w*)\b", re.IGNORECASE
)
HOPE = re.compile(r"\.?\s*I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)


def _boxed(answer: str | None) -> Found | None:
    r"""The content of a box; of `\boxed{Answer: 5}` the value alone."""
    stated = find_statement(answer) if answer and WORDS.search(answer) else None
    return stated or (Found(answer, True) if answer else None)


def extract_final_answer(text: str, _: str = "", finished: bool = True) -> Found | None:
    """X of `final answer is X. I hope it is correct`, the form that many prompts ask for."""
    end = text.rfind("I hope")
    if end < 0:
        return None
    sentence = text[max(0, end - 500) : end]
    return extract_after(sentence, "final answer is") if "inal answer is" in sentence else None


def extract_after(text: str, marker: str, finished: bool = True) -> Found | None:
    """The rest of the line behind the last `marker` (any case; a whole word), or the next line where that is empty.

    A sentence is a guess, and so is what a cut-off text ends with: more of it may have been to come.
    """
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
    if "\\boxed" in line or "\\fbox" in line:
        return _boxed(read_boxes(line)[0])
    answer = tidy(line)
    meant = answer is not None and (is_expression(answer) or is_phrase(answer))
    return Found(answer, meant and (finished or len(line) < len(rest))) if answer else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


@lru_cache(maxsize=64)
def _marker(marker: str) -> re.Pattern[str]:
    edge = r"(?<!\w)" if marker[0].isalnum() else ""
    return re.compile(edge + re.escape(marker), re.IGNORECASE)


def extract_regex(text: str, pattern: str, finished: bool = True) -> Found | None:
    """The group of the last match of `pattern` in the text's end."""
    match = _last(re.compile(pattern), text[-TAIL_CHARS:])
    answer = tidy(match.group(1) or "") if match else None
    return Found(answer, True) if answer else None


def extract_verdict(text: str, argument: str, finished: bool = True) -> Found | None:
    """The word behind a judge's verdict question: one sentence, at the very end of a text that has ended; a judge that says two
    things, or goes on, has said nothing. argument: the question and the words, `Right?|Yes|No`."""
    question, *words = argument.split("|")
    _, asked, said = text.partition(question)
    word = said.strip().removesuffix(".")
    return Found(word, True) if asked and finished and word in words else None


def extract_last_number(text: str, _: str = "", finished: bool = True) -> Found | None:
    """The last number of the text, thousands separators removed: a guess."""
    match = _last(NUMBER, text[-TAIL_CHARS:])
    return Found(match.group().replace(",", "").rstrip("."), False) if match else None


def extract_conclusion(text: str, _: str = "", finished: bool = True) -> Found | None:
    """The last sentences of a text that ends with a result, for Math-Verify to search; all of a text that is short.

    A short text that is nothing but an answer (`34`, `$x=5$.`) is certain, all else a guess. A long text must end like a
    sentence and announce a result ("therefore", "the answer"): what a calculation stops at is no answer. What is denied
    or taken back is left out.
    """
    text = text.strip()
    tail, hoped = HOPE.subn("", TRAILING_TAG.sub("", text[-2 * CONCLUSION_CHARS :]))
    if len(text) <= CONCLUSION_CHARS:
        found = read_whole(tail) if tail.strip() else None
        return found if found is None or found.certain else _guess(found.answer)
    if not hoped and not tail.endswith(SENTENCE_ENDS):
        return None
    tail = tail[-CONCLUSION_CHARS:]
    start = SENTENCE_START.search(tail)
    tail = tail[start.end() :].strip() if start else tail
    return _guess(tail) if RESULT.search(tail) else None


def _guess(text: str) -> Found | None:
    """`text` without what it denies and what it takes back."""
    back = _last(TAKEN_BACK, text)
    text = DENIED_VALUE.sub("", text[back.end() :] if back else text).strip()
    return Found(text, False) if text else None


def extract_whole(text: str, _: str = "", finished: bool = True) -> Found | None:
    """All of the text."""
    return Found(text.strip(), is_expression(trim(text))) if text.strip() else None


def tidy(text: str) -> str | None:
    """Without markdown emphasis, a full stop at its end, and one pair of math delimiters around all of it."""
    text = text.strip().strip("*").strip()
    if text.endswith(".") and not text.endswith("\\."):
        text = text[:-1].rstrip().strip("*")
    return strip_delimiters(text) or None


EXTRACTORS: dict[str, Callable[[str, str, bool], Found | None]] = {
    "tagged": lambda text, _, finished: find_tagged(text),
    "stated": lambda text, _, finished: find_statement(text, finished=finished),
    "final_answer": extract_final_answer,
    "after": extract_after,
    "regex": extract_regex,
    "verdict": extract_verdict,
    "last_number": extract_last_number,
    "conclusion": extract_conclusion,
    "whole": extract_whole,
}


IMPLICIT = ("conclusion", "last_number", "whole")
"""Extractors that take what the text happens to end with."""


def run_extractors(text: str, specs: list[str], max_chars: int, *, finished: bool = True) -> Found | None:
    """The first answer that an extractor of `specs` finds; None where there is none, or it is longer than `max_chars`.

    Where the last box never closes, only what is said behind it counts: nothing before it was final.
    """
    explicit = not finished
    for spec in specs:
        kind, _, argument = spec.partition(":")
        if kind in IMPLICIT and explicit:
            continue
        if kind == "boxed":
            answer, cut_off = read_boxes(text)
            found = _boxed(answer)
            text, explicit = (text, explicit) if cut_off is None else (cut_off, True)
        else:
            found = EXTRACTORS[kind](text, argument, finished)
        if found:
            return found if len(found.answer) <= max_chars else None
    return None


def split_thought(text: str) -> tuple[str, str, bool]:
    """What follows the last thought, the text up to there, and whether the thought is still open (nothing follows then).

    A text may begin inside its thought: the closing tag alone is enough. Without a tag all of the text follows. A closing
    tag at the very end is one too many if the thought was closed before.
    """
    at, closing = _last_tag(text)
    if at < 0:
        return text, "", False
    if closing and not text[at + len(closing) :].strip():
        before, closed_before = _last_tag(text[:at])
        if before >= 0 and closed_before:
            at, closing, text = before, closed_before, text[:at]
    return (text[at + len(closing) :], text[:at], False) if closing else ("", text, True)


def _last_tag(text: str) -> tuple[int, str]:
    """Where the last tag of a thought stands, -1 without one, and the tag if it closes."""
    last = -1
    for sign in TAG_SIGNS:
        at = len(text)
        while (at := text.rfind(sign, last + 1, at)) >= 0:
            if text.startswith(TAGS, at):
                last = at
                break
    return last, next((closing for _, closing in THOUGHTS if last >= 0 and text.startswith(closing, last)), "")


def find_answer(text: str, settings: AnswerSettings, *, finished: bool = True) -> Found | None:
    """The answer that `text`, a completion, arrives at; None where it has none.

    `finished=False`: the completion was cut off at its token limit, so that only an explicit answer counts (the others
    would read a number in the middle of a calculation), and nothing in its thought does.

    What follows the thought decides. Where it says nothing, or the completion ended by itself without closing its
    thought, the thought's own answer is a guess.
    """
    spoken, thought, is_open = split_thought(text)
    specs, longest = settings.extract, settings.max_answer_chars
    if spoken.strip():
        found = run_extractors(spoken, specs, longest, finished=finished)
        if found or (thought and read_boxes(spoken)[1] is not None):
            return found
    if not finished or not thought:
        return None
    specs = [spec for spec in specs if not spec.startswith("verdict:") and (is_open or spec not in IMPLICIT)]
    weak = run_extractors(thought, specs, longest)
    return Found(weak.answer, False) if weak else None


def extract_answer(text: str, settings: AnswerSettings, *, finished: bool = True) -> str | None:
    """The answer of `find_answer` alone."""
    found = find_answer(text, settings, finished=finished)
    return found.answer if found else None


def extract_gold(text: str, settings: AnswerSettings) -> str | None:
    """The reference answer inside `text`; None where it has none."""
    found = run_extractors(text, settings.gold_extract, settings.max_answer_chars)
    return found.answer if found else None
