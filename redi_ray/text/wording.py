r"""What of a problem's text tells it from other problems: its words, its n-grams, and its formulas.

Case, punctuation, white space and LaTeX's typesetting are left out, so that two copies of a problem compare equal however
they were typed. In mathematics a short text with one other number is another problem; `formulas` holds that apart from
the words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from redi_ray.text.normalize import brace_fractions
from redi_ray.text.problem_key import problem_key
from redi_ray.text.symbols import from_unicode

TYPESETTING = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|q?quad|[bB]igg?[lr]?)(?![a-zA-Z])|\\[,;:! ()\[\]]|\\\\|[$~]"
)
UPRIGHT = re.compile(r"\\(?:text|mathrm|textrm|mathbf|textbf|mathit|textit|mbox|operatorname)(?![a-zA-Z])")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\}|,\\!|\\,)\d{3})+(?![\d,])")
APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
SPELLINGS = (
    (re.compile(r"\\[dtc](frac|binom)(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"\\leq?(?:slant)?(?![a-zA-Z])|<="), " <= "),
    (re.compile(r"\\geq?(?:slant)?(?![a-zA-Z])|>="), " >= "),
    (re.compile(r"\\neq?(?![a-zA-Z])|!="), " != "),
    (re.compile(r"\\lt(?![a-zA-Z])"), " < "),
    (re.compile(r"\\gt(?![a-zA-Z])"), " > "),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])"), " / "),
    (re.compile(r"\\l?dots(?![a-zA-Z])"), "..."),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset"),
)
DASH = re.compile(r"--+|\s[\u2013-\u2015]\s|\u2014")
"""Between clauses."""
FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL | re.IGNORECASE)
IDEOGRAPH = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
TOKEN = re.compile(
    r"(?P<command>\\[a-z]+)"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    rf"|(?P<word>[{IDEOGRAPH}]|(?:(?![{IDEOGRAPH}])[^\W\d_])+)"
    r"|(?P<sign>[<>!]=|(?<=[\d)\]}])!|[-+*/^=<>|%])"
    r"|(?P<stop>[,;.:?])"
)
Token = tuple[str, str]
"""(kind, text); kinds are the groups of `TOKEN`."""


@lru_cache(maxsize=4)
def tokenize(text: str) -> tuple[Token, ...]:
    """The tokens of a problem, respelled. Brackets are left out, `stop` is punctuation between clauses.

    Cached, because the functions below are called one after another on the same text.
    """
    text = APOSTROPHE.sub("", respell(from_unicode(DASH.sub(" , ", text)).casefold()))
    found = [(match.lastgroup or "", match.group()) for match in TOKEN.finditer(text)]
    around = zip([("", ""), *found], found, [*found[1:], ("", "")], strict=False)
    return tuple(
        token for before, token, after in around if token[1] != "-" or not (_is_prose(before) or _is_prose(after))
    )


def _is_prose(token: Token) -> bool:
    """Whether this is a word of its own, beside which `-` is a hyphen or a dash, not a minus."""
    return token[0] == "word" and len(token[1]) > 1


def respell(text: str) -> str:
    """One spelling for what LaTeX and Unicode can write in several ways, in lower case."""
    text = THOUSANDS.sub(lambda match: re.sub(r"\D", "", match.group()), UPRIGHT.sub(" ", brace_fractions(text)))
    for pattern, spelling in SPELLINGS:
        text = pattern.sub(spelling, text)
    return TYPESETTING.sub(" ", text)


def words(text: str) -> list[str]:
    r"""Words, numbers and names of LaTeX commands, in order, without figures drawn in code.

    Example: `Find $\frac{1}{2}x$, please!` -> find, frac, 1, 2, x, please.
    """
    kept = ("word", "number", "command")
    return [token.lstrip("\\") for kind, token in tokenize(FIGURE.sub(" ", text)) if kind in kept]


def symbols(text: str) -> list[str]:
    r"""All that `words` gives, figures and operators too: what near-duplicates are compared by."""
    return [token for kind, token in tokenize(text) if kind != "stop"]


def ngrams(items: Sequence[str], size: int) -> list[str]:
    """Every run of `size` items, joined by blanks, in order; with fewer items, all of them as the only one."""
    if len(items) <= size:
        return [" ".join(items)] if items else []
    return [" ".join(items[start : start + size]) for start in range(len(items) - size + 1)]


def formulas(text: str) -> list[str]:
    r"""Numbers and operators of each formula or number, letters left out; sorted, since clauses may change places.

    Two problems whose formulas differ are different problems however alike their words are. A formula ends at a word,
    at punctuation, and where a number follows another without an operator.

    Example: `Solve $x^2+5x = 6$ for x in (1, 2)` -> 1, 2, ^2+5=6.
    """
    found: list[list[Token]] = [[]]
    for kind, token in tokenize(text):
        last = found[-1]
        if kind == "stop" or _is_prose((kind, token)):
            found.append([])
        elif kind == "number" and last and last[-1][0] == "number":
            found.append([(kind, token)])
        elif kind != "word":
            last.append((kind, token))
    return sorted("".join(token for _, token in part) for part in found if part)


def whole_key(text: str) -> str:
    """Equal for the same problem however it was typed; numbers keep their borders, so that `1.5` is not `15`."""
    return f"{problem_key(text)}\n{formulas(text)}"
