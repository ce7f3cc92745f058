r"""Answers that a text announces (`Answer: 34`, `The answer is 34`, `<answer>34</answer>`, `#### 34`, `Option B`), and
whether what stands there is an expression or prose.

Where two statements stand, the last one counts. What a statement denies (`the answer is not 5`), asks (`is the answer 5?`),
supposes (`if the answer is 5`) or takes back (`The answer is 5. Wait, ...`) is none, and neither is the beginning of a
sentence (`Answer: we need to find ...`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from redi_ray.text.boxes import PLACEHOLDER, extract_boxed
from redi_ray.text.normalize import TEXT
from redi_ray.text.values import (
    DRESS,
    SAYS,
    SPECIAL,
    VALUE_CHARS,
    first_line,
    is_expression,
    is_phrase,
    trim,
    undress,
    without_unit,
)

TAIL_CHARS = 20_000
"""Markers, patterns and numbers are looked for in this much of the text's end."""
FAR_CHARS = 1000
"""`The answer is X` further from the end is only a guess: much was said after it."""
RESULT_BEFORE, RESULT_CHARS = 100, 500
"""`Result: X` counts where it ends in the last so many characters, and is looked for in the last so many."""
TRIES = 8
"""Markers tried, from the last on."""
STEMS_TRIED = 40

LABEL = (
    r"(?:(?<![^\W_])(?:answers?|ans\b\.?|(?:correct|right|best|final)\s+(?:option|choice|result|value|solution)|antwort"
    r"|r[e\u00e9]ponse|respuesta|risposta|resposta|\u043e\u0442\u0432\u0435\u0442)(?![^\W_])"
    r"|\u7b54\u6848|\u7b54\u3048|\uc815\ub2f5)"
)
CLOSERS = r"(?:[ \t*_`\"'\u201d})\]]|</\w{1,8}>){0,8}"
TO_WHAT = r"(?:\s+(?:to|for|of)\s(?:the|this|your|our)\s(?:\w+\s){0,2}?(?:problem|question|exercise|puzzle|task))?"
"""Of any other part (`the answer in this case = 0`) it may be no answer to the whole."""
STEMS = (
    *("answer", "ans", "correct ", "right ", "best ", "final ", "antwort", "r\u00e9ponse", "reponse", "respuesta"),
    *("risposta", "resposta", "\u043e\u0442\u0432\u0435\u0442", "\u7b54\u6848", "\u7b54\u3048", "\uc815\ub2f5"),
)
"""What a `LABEL` begins with."""
IS = (
    r"(?:[:\uff1a=\u2192\u21d2]|->|\\(?:to|Rightarrow|implies)\b|[\u2013\u2014-](?=\s)|\u662f|\u4e3a|\u70ba|\u306f"
    r"|(?:is|are|equals?|(?:would|will|must|should|can only) be|(?:comes out|turns out) (?:to be|to)"
    r"|ist|lautet|est|es|\u00e8|\u00e9)(?![^\W_]))"
)
FILLER = (
    r"(?:\s*(?:[:\uff1a=]|(?:therefore|thus|hence|then|simply|just|clearly|indeed|equal to|exactly|still|option|choice)"
    r"(?![^\W_])))*"
)
WORDS = re.compile(rf"{LABEL}|option|choice", re.IGNORECASE)
STATED = re.compile(rf"{LABEL}(?:{TO_WHAT}{CLOSERS}(?P<is>{IS}{FILLER})|{CLOSERS})", re.IGNORECASE)
BARE_HEADING = re.compile(
    r"[#>*_\s\d.({\[$\\-]*(?:\\?text\w*\{)?(?:(?:the|final|correct|my|our|short)\s+)*", re.IGNORECASE
)
"""What may stand before `Answer` in its line where no colon follows it."""
VALUE_BELOW = re.compile(r"\s*(?:\n|\$|\\[(\[])")
RESULT = re.compile(
    rf"^[#>*_\s]*(?:\\text\w*\{{)?(?:(?:the|final)\s+)?(?:result|solution|output|conclusion|ergebnis|r[e\u00e9]sultat"
    rf"|resultado|\u7ed3\u679c){CLOSERS}[:\uff1a=]",
    re.IGNORECASE | re.MULTILINE,
)
"""Also the heading of a derivation, so that only a line at the text's end counts."""
QUESTION_AND_ANSWER = re.compile(r"(?:^|(?<=[.?!])[ \t])[ \t#>*_]*A[*_]*[:\uff1a]", re.MULTILINE)
LISTED_OPTION = re.compile(r"^[ \t#>*_(]*B[*_]*[.:)\uff1a]", re.MULTILINE)
HASHES = re.compile(r"####[ \t]*(?=\S)")
LAST_CHOICE = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:(?:correct|right|final|best)\s+)?"
    r"(?:(?:answer\s+)?(?:option|choice|answer)\s*(?:is|:)?\s*[*_]*\(?((?-i:[A-J]))\)?|\(((?-i:[A-J]))\))[*_]*"
    r"(?:\s+is\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice|one))?)?",
    re.IGNORECASE,
)

OPTION = re.compile(r"^(?:option|choice|answer)\s+(?=\(?(?-i:[A-J])[).:])", re.IGNORECASE)

TAG = r"(?:final[_ ]?answer|answer|ans|solution|result)"
TAGGED = re.compile(rf"(?:<\|?|\[){TAG}\s*(?:\|?>|\])", re.IGNORECASE)
END_TAG = re.compile(rf"(?:</|<\|/|\[/){TAG}\s*(?:\|?>|\])", re.IGNORECASE)
TAGGED_CHARS = 300
"""What is longer is a solution, whose answer is elsewhere."""
NOTHING = re.compile(r"n/?a|\?+", re.IGNORECASE)
DENIED = re.compile(
    r"(?:\w+\s+){0,2}?(?:not|n't|never|neither|no longer|unlikely|wrong|incorrect|unknown)\b", re.IGNORECASE
)
VALUE = r"(?:\$[^$\n]*\$|\\\([^\n]*?\\\)|[-+]?\d[\d.,/]*%?)"
DENIED_VALUE = re.compile(
    r"(?:(?:\bnot|n't|\bcannot|\bnever)\s+(?:(?:be|equal|equals|to|think|that|the|answer|is|an?|it|just|simply)\s+)*"
    r"|\b(?:less|more|greater|fewer|smaller|larger|higher|lower)\s+than\s+|\bmultiples?\s+of\s+|\btwice\s+|\b(?:rather\s+than"
    rf"|instead\s+of)\s+){VALUE}",
    re.IGNORECASE,
)
"""A value that the text names to say that it is another one."""
SUPPOSED = re.compile(
    r"(?:\b(?:if|whether|suppose|supposing|assum\w+|unless|maybe|perhaps|not|doubt)|n't)\s+(?:(?:think|believe)\s+)?(?:that\s+)?"
    r"(?:(?:the|my|our|your|an?)\s+)?(?:\w+\s+)?$",
    re.IGNORECASE,
)
"""Before a marker: what follows is no statement."""
TAKEN_BACK = re.compile(
    r"\b(?:wait|hmm+|scratch that|on second thought|actually|let me re\W?(?:check|consider|think|do|calculate|examine|read)\w*"
    r"|that(?:'s| is) (?:wrong|incorrect|not right)|i made an? (?:mistake|error))\b",
    re.IGNORECASE,
)
"""The writer changes its mind: what was said before is no final answer."""


@dataclass(frozen=True)
class Found:
    """An answer and how sure it is that the text means it."""

    answer: str
    certain: bool
    """False for a guess: if the gold is not in it, the answer may be elsewhere, so that it is never wrong."""


def find_statement(text: str, *, finished: bool = True) -> Found | None:
    """The last answer that `text` announces. finished: False where the text was cut off, which may be within a number."""
    text = text[-TAIL_CHARS:]
    if letter := last_choice(text):
        return Found(letter, True)
    for start, kind in reversed(deque(_markers(text), maxlen=TRIES)):
        found = _read(text, start, kind, finished)
        if found is not None:
            return found
    return None


def last_choice(text: str) -> str | None:
    """The letter of a last line that is nothing but an option: `Option B`, `(B)`, `The correct choice is B.`"""
    line = SPECIAL.sub("", text[-200:].rstrip().rpartition("\n")[2])
    match = LAST_CHOICE.fullmatch(trim(TEXT.sub(r"\1", line)))
    return (match.group(1) or match.group(2)) if match else None


def _markers(text: str) -> Iterator[tuple[int, str]]:
    """Where a value may begin, in order, and the kind of marker before it: is, colon, heading (a line begins with it), result or
    hashes."""
    found = [(match.end(), "hashes") for match in HASHES.finditer(text)] if "####" in text else []
    found += [(match.end(), "result") for match in RESULT.finditer(text, max(0, len(text) - RESULT_CHARS))]
    if any(sign in text for sign in ("A:", "A\uff1a", "A*", "A_")):
        listed = max((match.start() for match in LISTED_OPTION.finditer(text)), default=-1)
        ends = [match.end() for match in QUESTION_AND_ANSWER.finditer(text)]
        found += [(end, "colon") for end in ends if end > listed]
    for start in _stems(text):
        if (label := STATED.match(text, start)) and (kind := _kind(text, label)):
            found.append((label.end(), kind))
    return iter(sorted(found))


def _stems(text: str) -> list[int]:
    """Where a label may begin, the last of each word. Much faster than looking for `STATED`."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters of other alphabets get longer
        return [match.start() for match in STATED.finditer(text)]
    found = []
    for stem in STEMS:
        at = len(text)
        for _ in range(STEMS_TRIED):
            if (at := lowered.rfind(stem, 0, at)) < 0:
                break
            found.append(at)
    return found


def _kind(text: str, match: re.Match[str]) -> str | None:
    """What a match of `STATED` is: `heading` where it begins its line, else by its connective; None for no marker."""
    if SUPPOSED.search(text, max(0, match.start() - 80), match.start()):
        return None
    word = match["is"]
    start = text.rfind("\n", 0, match.start()) + 1
    begins = BARE_HEADING.fullmatch(text, start, match.start()) is not None
    if word is None or word[0] in "-\u2013\u2014":
        return "heading" if begins and (word or VALUE_BELOW.match(text, match.end())) else None
    if match.group()[:7].lower() == "answers" and not begins:  # "the sum of right and wrong answers: ..."
        return None
    if word[0].isalpha() and not word.endswith((":", "\uff1a")):
        return "is"
    return "heading" if begins else "colon"


def _read(text: str, start: int, kind: str, finished: bool) -> Found | None:
    """The value behind a marker; None where none stands there, or it is denied, asked or taken back."""
    dressed = DRESS.match(text, start)
    start = dressed.end() if dressed else start
    rest = text[start : start + VALUE_CHARS]
    line, display = first_line(rest)
    end = start + len(line or "")
    if line is None or TAKEN_BACK.search(text, end) or (kind == "result" and len(text) - end > RESULT_BEFORE):
        return None
    if "\\boxed" in line or "\\fbox" in line:
        boxed = extract_boxed(rest.partition("\n\n")[0])
        return Found(boxed, True) if boxed else None
    at_end = not SPECIAL.sub("", text[end:]).strip(" \n\t.*$)}]\\")
    value = line.strip() if display else trim(line)
    found = _value(value, kind, at_end)
    complete = finished or display or text[start + rest.find(value) + len(value) :].strip(".") != ""
    far = kind in ("is", "colon") and len(text) - end > FAR_CHARS
    return Found(found.answer, False) if found and not (complete and not far) else found


def _value(value: str, kind: str, at_end: bool) -> Found | None:
    """`value` behind a marker of this kind, if it is one. Words only count at the text's end."""
    if not SAYS.search(value) or DENIED.match(value) or NOTHING.fullmatch(value):
        return None
    if number := without_unit(value):
        return Found(*number)
    if is_expression(value):
        return Found(value, True)
    if not at_end or kind == "hashes" or DENIED_VALUE.search(value):
        return None
    return Found(value, False) if is_phrase(value) or (kind != "is" and re.search(r"[\d$\\]", value)) else None


def find_tagged(text: str) -> Found | None:
    """What stands in the last `<answer>...</answer>` that is not empty. Where the tag never closes, it is a guess."""
    text = text[-TAIL_CHARS:]
    if not any(text.rfind(sign) >= 0 for sign in ("<a", "<A", "<f", "<F", "<s", "<S", "<r", "<R", "<|", "[")):
        return None
    for opening in reversed(deque(TAGGED.finditer(text), maxlen=TRIES)):
        closing = END_TAG.search(text, opening.end())
        content = text[opening.end() : closing.start() if closing else len(text)]
        if "\\boxed" in content or "\\fbox" in content:
            boxed = extract_boxed(content)
            return Found(boxed, closing is not None) if boxed else None
        if SAYS.search(content) and not PLACEHOLDER.fullmatch(content):
            found = read_whole(content)
            said = found.certain or (len(content) < TAGGED_CHARS and not DENIED_VALUE.search(content))
            return Found(found.answer, found.certain and closing is not None) if said else None
    return None


def read_whole(text: str) -> Found:
    """The answer of a text that is nothing but an answer: an expression is certain, prose is a guess."""
    if found := find_statement(text):
        return found
    value = OPTION.sub("", undress(SPECIAL.sub("", text)))
    if number := without_unit(value):
        return Found(*number)
    return Found(value, True) if is_expression(value) else Found(text.strip(), False)
