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
from redi_ray.text.normalize import UNICODE, choice_letter, strip_delimiters

TAIL_CHARS = 20_000
"""Markers, patterns and numbers are looked for in this much of the text's end."""
VALUE_CHARS = 2500
FAR_CHARS = 1000
"""`The answer is X` further from the end is only a guess: much was said after it."""
MAX_BEHIND_RESULT = 100
RESULT_CHARS = 500
TRIES = 8
"""Markers tried, from the last on."""
STEMS_TRIED = 40

LABEL = (
    r"(?:(?<![^\W_])(?:answers?|ans\b\.?|(?:correct|right|best|final)\s+(?:option|choice|result|value|solution)|antwort"
    r"|r[e\u00e9]ponse|respuesta|risposta|resposta|\u043e\u0442\u0432\u0435\u0442)(?![^\W_])"
    r"|\u7b54\u6848|\u7b54\u3048|\uc815\ub2f5)"
)
CLOSERS = r"(?:[ \t*_`\"'\u201d})\]]|</\w{1,8}>){0,8}"
TO_WHAT = r"(?:\s+(?:to|for|of|in|as)\s[^.:=?!\n]{1,80}?)?"
STEMS = (
    *("answer", "ans", "correct ", "right ", "best ", "final ", "antwort", "r\u00e9ponse", "reponse", "respuesta"),
    *("risposta", "resposta", "\u043e\u0442\u0432\u0435\u0442", "\u7b54\u6848", "\u7b54\u3048", "\uc815\ub2f5"),
)
"""What a `LABEL` begins with."""
IS = (
    r"(?:[:\uff1a=\u2192\u21d2]|->|\\(?:to|Rightarrow|implies)\b|[\u2013\u2014-](?=\s)|\u662f|\u4e3a|\u70ba|\u306f"
    r"|(?:is|are|was|equals?|(?:would|will|must|should|can only) be|(?:comes out|turns out) (?:to be|to)"
    r"|ist|lautet|est|es|\u00e8|\u00e9)(?![^\W_]))"
)
FILLER = (
    r"(?:\s*(?:[:\uff1a=]|(?:therefore|thus|hence|then|simply|just|clearly|indeed|equal to|exactly|still|option|choice)"
    r"(?![^\W_])))*"
)
WORDS = re.compile(LABEL, re.IGNORECASE)
STATED = re.compile(rf"{LABEL}{TO_WHAT}{CLOSERS}(?P<is>{IS}{FILLER})?", re.IGNORECASE)
BARE_HEADING = re.compile(
    r"[#>*_\s\d.({\[$\\-]*(?:\\?text\w*\{)?(?:(?:the|final|correct|my|our|short)\s+)*", re.IGNORECASE
)
"""What may stand before `Answer` in its line where no colon follows it."""
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
    r"(?:(?:answer\s+)?(?:option|choice)\s*(?:is|:)?\s*[*_]*\(?((?-i:[A-J]))\)?|\(((?-i:[A-J]))\))[*_]*"
    r"(?:\s+is\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice|one))?)?",
    re.IGNORECASE,
)

TAG = r"(?:final[_ ]?answer|answer|ans)"
TAGGED = re.compile(rf"(?:<\|?|\[)({TAG})(?:\|?>|\])", re.IGNORECASE)
END_TAG = re.compile(rf"(?:</|<\|/|\[/){TAG}(?:\|?>|\])", re.IGNORECASE)
SPECIAL = re.compile(r"</?s>|</\w{1,20}>|<[|\uff5c][^<>\n]{1,40}[|\uff5c]>|<br ?/?>")
"""Tags behind a value: what follows is no part of it."""

DRESS = re.compile(
    r"(?:[\s*_`>:\uff1a\"\u201c})~]|</?[a-z]{1,8}>|\\(?:text|math)\w*\{\s*\}|\\[,;: !]|\\q?quad\b|#+\s)*"
)
SENTENCE_END = re.compile(r"[.!?](?=[*_\"')]*\s+\S)|[\u3002\uff01\uff1f]")
REASON = re.compile(
    r",?\s+(?:because|since|as|hence|thus|therefore|so)\b(?! (?:well|many|much)).*|,\s+(?:i\.e\.|that is|which|where|with|or equivalently)\b.*"
)
OPENINGS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)", "$": "$"}
DENIED = re.compile(
    r"(?:\w+\s+){0,2}?(?:not|n't|never|neither|no longer|unlikely|wrong|incorrect|unknown)\b", re.IGNORECASE
)
SUPPOSED = re.compile(
    r"(?:\b(?:if|whether|suppose|supposing|assum\w+|unless|maybe|perhaps|not|is|are|was|doubt|think)|n't)\s+(?:that\s+)?"
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

WORD = re.compile(r"[^\W\d_]{2,}")
MATH_SPAN = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
COMMAND = re.compile(r"\\(?:text\w*|mbox|math\w+|operatorname)\s*\{[^{}]*\}|\\(?:begin|end)\{\w+\*?\}|\\[a-zA-Z]+")
WORDS_ARE_ANSWERS = frozenset(("yes", "no", "true", "false"))
JOINS = frozenset(("and", "or", "sqrt"))
LED_BY_NUMBER = re.compile(r"^[-+]?[$\u20ac\u00a3]?\s*(?:\d[\d.,]*|0)(?:/\d+)?\s*%?")
NO_UNITS = frozenset(
    "is are was we to the that this it be of by from if then when for with not mod modulo thousand million billion hundred"
    " dozen half times more less than most least about each per".split()
)
SENTENCE_WORDS = frozenset(
    "we is are was be been i you it he she they let need needs find found to the this that can could would should must will by"
    " using obtained given follows follow first then so because if when how what which here there below above have has".split()
)
PLAIN_UNIT = re.compile(
    r"^([-+]?\d[\d.,]*)\s+(?:[kcm]?m|[km]?g|m?[lL]|s|h|ft|in|mph|km/h|m/s)(?:\^?[23\u00b2\u00b3])?(?:/(?:s|h|hr|m|min|kg|day)(?:\^?[23])?)?$"
)
KNOWN_SIGNS = frozenset(chr(code) for code in UNICODE) | {"\u20ac", "\u00a3"}


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
    match = LAST_CHOICE.fullmatch(trim(SPECIAL.sub("", text[-200:].rstrip().rpartition("\n")[2])))
    return (match.group(1) or match.group(2)) if match else None


def _markers(text: str) -> Iterator[tuple[int, str]]:
    """Where a value may begin, in order, and the kind of marker before it: is, colon, heading, result or hashes."""
    found = [(match.end(), "hashes") for match in HASHES.finditer(text)] if "####" in text else []
    found += [(match.end(), "result") for match in RESULT.finditer(text, max(0, len(text) - RESULT_CHARS))]
    if any(sign in text for sign in ("A:", "A\uff1a", "A*", "A_")):
        for match in QUESTION_AND_ANSWER.finditer(text):
            if not LISTED_OPTION.search(text, match.end()):
                found.append((match.end(), "colon"))
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
    if SUPPOSED.search(text, max(0, match.start() - 80), match.start()):
        return None
    if match.group()[:7].lower() == "answers" and not text[: match.start()].endswith(
        ("the ", "final ", "The ", "\n", "*")
    ):
        return None  # "the sum of right and wrong answers: ..."
    word = match["is"]
    if word is not None and word[0] not in "-\u2013\u2014":
        return "is" if word[0].isalpha() and not word.endswith((":", "\uff1a")) else "colon"
    start = text.rfind("\n", 0, match.start()) + 1
    if BARE_HEADING.fullmatch(text, start, match.start()) is None:
        return None
    return "heading" if word is not None or re.compile(r"\s*(?:\n|\$|\\[(\[])").match(text, match.end()) else None


def _read(text: str, start: int, kind: str, finished: bool) -> Found | None:
    """The value behind a marker; None where none stands there, or it is denied, asked or taken back."""
    dressed = DRESS.match(text, start)
    start = dressed.end() if dressed else start
    rest = text[start : start + VALUE_CHARS]
    line, display = _line(rest)
    if line is None:
        return None
    end = start + len(line)
    if TAKEN_BACK.search(text, end):
        return None
    last = not SPECIAL.sub("", text[end:]).strip(" \n\t.*$)}]\\")
    if kind == "result" and len(text) - end > MAX_BEHIND_RESULT:
        return None
    if "\\boxed" in line or "\\fbox" in line:
        boxed = extract_boxed(rest.partition("\n\n")[0])
        return Found(boxed, True) if boxed else None
    value = line.strip() if display else trim(line)
    if not re.search(r"[^\W_]", value) or DENIED.match(value):
        return None
    if unit := PLAIN_UNIT.match(value):
        return Found(unit.group(1), False)
    if is_expression(value):
        whole = finished or display or end < len(text)
        return Found(value, whole and not (kind == "is" and len(text) - end > FAR_CHARS))
    if last and kind != "hashes" and (is_phrase(value) or (kind != "is" and re.search(r"[\d$\\]", value))):
        return Found(value, False)
    return None


def _line(rest: str) -> tuple[str | None, bool]:
    r"""The first line or sentence of `rest`, reasons left out, and whether it is a formula of its own (`\[...\]`).

    None for the line where it is a question, or the formula never closes.
    """
    opening = next((opening for opening in OPENINGS if rest.startswith(opening)), "")
    closing = rest.find(OPENINGS[opening], len(opening)) if opening else -1
    inner = rest[len(opening) : closing] if closing >= 0 else ""
    if opening in ("\\[", "$$"):
        return (inner if inner.strip() else None), True
    if opening == "$" and (SENTENCE_END.search(inner) or "\n\n" in inner or rest[closing + 1 : closing + 2].isdigit()):
        closing = -1  # dollars
    if opening == "\\(" and closing < 0:
        return None, False
    line = rest[: rest.find("\n", max(closing, 0)) if "\n" in rest[max(closing, 0) :] else len(rest)]
    if tag := SPECIAL.search(line):
        line = line[: tag.start()]
    spans = [match.span() for match in MATH_SPAN.finditer(line)]
    for stop in SENTENCE_END.finditer(line):
        if not any(first < stop.start() < last for first, last in spans):
            line = line[: stop.end() if stop.group() == "?" else stop.start()]
            break
    if line.rstrip(" *_\"')").endswith("?"):
        return None, False
    reason = REASON.search(line)
    return (line[: reason.start()] if reason and reason.start() else line), False


def trim(text: str) -> str:
    """An answer without what does not belong to it, and without one pair of math delimiters around all of it."""
    return strip_delimiters(undress(text))


def undress(text: str) -> str:
    """`text` without emphasis, quotes, a full stop, and closing brackets that nothing opened."""
    text = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", text)
    before = None
    while text != before:
        before = text
        text = text.strip().strip("*`\"'\u201c\u201d").rstrip("_,;: ")
        if text.endswith((".", "\u3002")) and not text.endswith("\\."):
            text = text[:-1]
        for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("\\\\", "\\\\")):
            if text.endswith(closing) and (opening == closing or opening not in text):
                text = text[:-2]
        if text.endswith("$") and text.count("$") % 2:
            text = text[:-1]
        if text.endswith("}") and text.count("}") > text.count("{"):
            text = text[:-1]
        brackets = sum(text.count(sign) for sign in ")]") - sum(text.count(sign) for sign in "([")
        if text.endswith((")", "]")) and brackets > 0:
            text = text[:-1]
    return text


def is_expression(text: str) -> bool:
    """Whether `text` is mathematics, a number with its unit, an option or yes or no: what can be called wrong.

    Other words are not: `twelve` may mean the 12 that is asked for, and `Let us see` means nothing yet.
    """
    text = text.strip()
    lines = "\n" in text and "\\begin" not in text
    if (choice := choice_letter(text)) and not lines:
        return not choice[1] or is_expression(choice[1]) or is_phrase(choice[1])
    bare = COMMAND.sub(" ", MATH_SPAN.sub(" 0 ", text)).strip()
    foreign = any(not sign.isascii() and sign not in KNOWN_SIGNS for sign in bare)
    if foreign or "?" in bare or bare.endswith("!") or (lines and "\n" in bare):
        return False
    words = [word.lower() for word in WORD.findall(bare)]
    if len(words) == 1 and bare.lower() == words[0]:
        return words[0] in WORDS_ARE_ANSWERS
    words = [word for word in words if word not in JOINS]
    if not words:
        return bool(re.search(r"[^\W_]", bare)) and not re.search(r"\d[eE][-+]?\d", bare)
    number = LED_BY_NUMBER.match(bare)
    unit = number is not None and re.fullmatch(r"[\sA-Za-z./-]+", bare[number.end() :]) is not None
    return unit and len(words) <= 3 and not NO_UNITS.intersection(words)


def is_phrase(text: str) -> bool:
    """Whether `text` is a few words that are no sentence: `no solution`, `red and blue`."""
    words = WORD.findall(COMMAND.sub(" ", text))
    return len(words) <= 5 and not SENTENCE_WORDS.intersection(word.lower() for word in words)


def find_tagged(text: str) -> Found | None:
    """What stands in the last `<answer>...</answer>` that is not empty. Where the tag never closes, it is a guess."""
    text = text[-TAIL_CHARS:]
    if not any(end in text for end in ("nswer>", "NSWER>", "ns>", "NS>", "nswer]", "NSWER]", "nswer|>")):
        return None
    for opening in reversed(deque(TAGGED.finditer(text), maxlen=TRIES)):
        closing = END_TAG.search(text, opening.end())
        content = text[opening.end() : closing.start() if closing else len(text)]
        if "\\boxed" in content or "\\fbox" in content:
            boxed = extract_boxed(content)
            return Found(boxed, closing is not None) if boxed else None
        if re.search(r"[^\W_]", content) and not PLACEHOLDER.fullmatch(content):
            found = read_whole(content)
            return Found(found.answer, found.certain and closing is not None)
    return None


def read_whole(text: str) -> Found:
    """The answer of a text that is nothing but an answer: an expression is certain, prose is a guess."""
    if found := find_statement(text):
        return found
    value = undress(SPECIAL.sub("", text))
    if unit := PLAIN_UNIT.match(value):
        return Found(unit.group(1), False)
    return Found(value, True) if is_expression(value) else Found(text.strip(), False)
