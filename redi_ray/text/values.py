r"""What stands behind a marker such as `Answer:`, read as a value: where it ends, what belongs to it, and whether it is an
expression, which can be wrong, or words, which may mean anything."""

from __future__ import annotations

import re

from redi_ray.text.normalize import choice_letter, strip_delimiters
from redi_ray.text.symbols import FRACTIONS, ROOTS, SUBSCRIPTS, SUPERSCRIPTS, UNICODE

SPECIAL = re.compile(r"</?s>|</\w{1,20}>|<[|\uff5c][^<>\n]{1,40}[|\uff5c]>|<br ?/?>")
"""Tags behind a value: what follows is no part of it."""

DRESS = re.compile(
    r"(?:[\s*_`>:\uff1a\"\u201c})~]|</?[a-z]{1,8}>|\\(?:text|math)\w*\{\s*\}|\\[,;: !]|\\q?quad\b|#+\s)*"
)
SENTENCE_END = re.compile(r"[.!?](?=[*_\"')]*\s+\S)|[\u3002\uff01\uff1f]")
REASON = re.compile(
    r",?\s+(?:not|rather than|instead of|because|since|as|hence|thus|therefore|so)\b(?! (?:well|many|much)).*"
    r"|,\s+(?:i\.e\.|that is|which|where|with|or equivalently)\b.*"
)
"""Behind a value: why, and what not."""
VALUE_CHARS = 2500
"""Of the text behind a marker, so much is looked at."""
OPENINGS = {"\\[": "\\]", "$$": "$$", "\\(": "\\)", "$": "$"}
LONGEST = 1000
"""Characters of an expression at most."""
WORD = re.compile(r"[^\W\d_]{2,}")
MATH_SPAN = re.compile(r"\$\$.+?\$\$|\$[^$]+\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
LIST_BETWEEN = re.compile(r"(?:\s|,|;|\band\b|\bor\b|\.$)*")
COMMAND = re.compile(r"\\(?:text\w*|mbox|math\w+|operatorname)\s*\{[^{}]*\}|\\(?:begin|end)\{\w+\*?\}|\\[a-zA-Z]+")
WORDS_ARE_ANSWERS = frozenset(("yes", "no", "true", "false"))
JOINS = frozenset(("and", "or", "sqrt"))
UNCLEAR = re.compile(r"\d[eE][-+]?\d|^[A-Za-z]\s*:|^n/a$|\$\d.*\$\d", re.IGNORECASE)
"""Read as algebra by what compares answers, though it hardly is: `1e5`, `x: 5`."""
LED_BY_NUMBER = re.compile(r"^[-+]?[$\u20ac\u00a3]?\s*(?:\d[\d.,]*|0)(?:/\d+)?\s*%?")
NO_UNIT = re.compile(
    r"\b(?:is|are|was|we|to|the|that|this|it|be|of|by|from|if|then|when|for|with|not|mod|modulo|thousand|million|billion|hundred"
    r"|dozen|half|times|more|less|than|most|least|about|each|per)\b",
    re.IGNORECASE,
)
"""Behind a number: the number is not the value."""
IN_SENTENCES = re.compile(
    r"\b(?:we|is|are|was|be|been|i|you|it|he|she|they|let|needs?|find|found|to|the|this|that|can|could|would|should|must|will"
    r"|by|using|obtained|given|follows?|first|then|so|because|if|when|how|what|which|here|there|below|above|have|has)\b",
    re.IGNORECASE,
)
SAYS = re.compile(r"[^\W_]|\u221e")
"""What every value holds some of."""
PLAIN_UNIT = re.compile(
    r"^([-+]?\d[\d.,]*)\s+((?:[kcm]?m|[km]?g|m?[lL]|s|h|ft|in|mph)(?:\^?[23\u00b2\u00b3])?"
    r"(?:/(?:s|h|hr|m|min|kg|day)(?:\^?[23])?)?)$"
)
KNOWN_SIGNS = frozenset({*map(chr, UNICODE), *SUPERSCRIPTS, *SUBSCRIPTS, *FRACTIONS, *ROOTS, "\u20ac", "\u00a3"})


def first_line(rest: str) -> tuple[str | None, bool]:
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
    """`text` without emphasis, quotes, a full stop, and closing brackets that nothing opened; a long one as it is."""
    if len(text) > VALUE_CHARS:
        return text
    text = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", text)
    if len(spans := MATH_SPAN.findall(text)) > 1 and LIST_BETWEEN.fullmatch(MATH_SPAN.sub(" ", text)):
        return ", ".join(strip_delimiters(span) for span in spans)
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
    if len(text) > LONGEST:
        return False
    lines = "\n" in text and "\\begin" not in text
    if (choice := choice_letter(text)) and not lines:
        return not choice[1] or is_expression(choice[1]) or is_phrase(choice[1])
    bare = COMMAND.sub(" ", MATH_SPAN.sub(" 0 ", text)).strip()
    foreign = any(not sign.isascii() and sign not in KNOWN_SIGNS for sign in bare)
    if foreign or "\\answer" in text or "?" in bare or bare.endswith("!") or (lines and "\n" in bare):
        return False
    words = [word.lower() for word in WORD.findall(bare)]
    if len(words) == 1 and bare.lower() == words[0]:
        return words[0] in WORDS_ARE_ANSWERS
    words = [word for word in words if word not in JOINS]
    if not words:
        return bool(SAYS.search(bare)) and not UNCLEAR.search(bare)
    number = LED_BY_NUMBER.match(bare)
    unit = number is not None and re.fullmatch(r"[\sA-Za-z./-]+", bare[number.end() :]) is not None
    return unit and len(words) <= 3 and not NO_UNIT.search(bare)


def is_phrase(text: str) -> bool:
    """Whether `text` is a few words that are no sentence: `no solution`, `red and blue`."""
    text = COMMAND.sub(" ", text)
    return len(WORD.findall(text)) <= 5 and not IN_SENTENCES.search(text)


def without_unit(text: str) -> tuple[str, bool] | None:
    """The number of `34 km/h`, and whether that is certainly a unit (the m of `34 m` may be a variable); None for all else."""
    found = PLAIN_UNIT.match(text)
    return (found.group(1), re.search(r"[a-zA-Z]{2}|/", found.group(2)) is not None) if found else None
