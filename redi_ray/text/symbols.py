r"""Mathematics in Unicode, such as `2·10⁻³`, `√2/2` or `x ≤ ½`, as LaTeX.

One table for everything that compares texts: answers (`redi_ray.text.normalize`) and problems
(`redi_ray.text.problem_key`, `redi_ray.text.wording`). Unicode's own compatibility forms (NFKC) are right for full-width
letters and wrong for mathematics: they turn a power into digits, so that `2⁴` becomes 24. Scripts and fractions are
therefore respelled before.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable


def _compatible(kind: str, *ranges: tuple[int, int]) -> dict[str, str]:
    """Characters of `ranges` that are, to Unicode, a `kind` of others: character -> those others."""
    found = {}
    for character in (chr(code) for first, last in ranges for code in range(first, last + 1)):
        name, *codes = unicodedata.decomposition(character).split() or [""]
        if name == kind:
            found[character] = "".join(chr(int(code, 16)) for code in codes).replace("\u2212", "-")
    return found


def _pairs(table: str) -> dict[str, str]:
    items = table.split()
    return dict(zip(items[::2], items[1::2], strict=True))


SUPERSCRIPTS = _compatible(
    "<super>", (0xB2, 0xB9), (0x2B0, 0x2B8), (0x2E0, 0x2E4), (0x1D2C, 0x1D6A), (0x1D9B, 0x1DBF), (0x2070, 0x207F)
)
SUBSCRIPTS = _compatible("<sub>", (0x1D62, 0x1D6A), (0x2080, 0x209C), (0x2C7C, 0x2C7C))
FRACTIONS = {
    character: "\\frac{" + value.replace("\u2044", "}{") + "}"
    for character, value in _compatible("<fraction>", (0xBC, 0xBE), (0x2150, 0x215E), (0x2189, 0x2189)).items()
}
GREEK = _pairs(
    "\u03b1 alpha \u03b2 beta \u03b3 gamma \u03b4 delta \u03b5 epsilon \u03b6 zeta \u03b7 eta \u03b8 theta \u03b9 iota "
    "\u03ba kappa \u03bb lambda \u03bc mu \u03bd nu \u03be xi \u03c0 pi \u03c1 rho \u03c3 sigma \u03c4 tau "
    "\u03c5 upsilon \u03c6 phi \u03c7 chi \u03c8 psi \u03c9 omega \u03d1 vartheta \u03d5 phi \u03f5 epsilon "
    "\u0393 Gamma \u0394 Delta \u0398 Theta \u039b Lambda \u039e Xi \u03a0 Pi \u03a3 Sigma \u03a6 Phi \u03a8 Psi \u03a9 Omega"
)
SIGNS = _pairs(
    "\u00d7 times \u00b7 cdot \u22c5 cdot \u2219 cdot \u00f7 div \u00b1 pm \u2213 mp \u2218 circ "
    "\u2264 le \u2265 ge \u2a7d le \u2a7e ge \u2266 le \u2267 ge \u2260 ne \u2248 approx \u2261 equiv \u221d propto "
    "\u2208 in \u2209 notin \u222a cup \u2229 cap \u2205 emptyset \u2216 setminus "
    "\u2282 subset \u2286 subseteq \u2283 supset \u2287 supseteq "
    "\u221e infty \u2192 to \u21d2 Rightarrow \u2200 forall \u2203 exists \u2227 land \u2228 lor "
    "\u2211 sum \u220f prod \u222b int \u2202 partial \u2207 nabla \u2220 angle \u25b3 triangle \u22a5 perp \u2225 parallel "
    "\u230a lfloor \u230b rfloor \u2308 lceil \u2309 rceil \u27e8 langle \u27e9 rangle \u2329 langle \u232a rangle "
    "\u2026 ldots \u22ef cdots"
)
PLAIN = {
    **dict.fromkeys("\u2212\u2013\u2010\u2011\u2012\ufe63", "-"),
    **_pairs(
        "\u00b0 ^\\circ \u2032 ' \u2033 '' \u2019 ' \u2223 | \u2236 : \u2217 * \u2215 / \u2044 / \u3001 , \u3002 ."
    ),
    **dict.fromkeys("\u2061\u2062\u200b\u200e\ufeff", ""),
}
BLACKBOARD = str.maketrans(
    {letter: f"\\mathbb{{{name}}}" for letter, name in zip("\u2115\u2124\u211a\u211d\u2102", "NZQRC", strict=True)}
)
UNICODE = str.maketrans({**{sign: f"\\{name} " for sign, name in {**GREEK, **SIGNS}.items()}, **PLAIN})
DIGIT = re.compile(r"(?![0-9])\d")
RAISED = re.compile(f"[{''.join(SUPERSCRIPTS)}]+")
LOWERED = re.compile(f"[{''.join(SUBSCRIPTS)}]+")
VULGAR = re.compile(f"[{''.join(FRACTIONS)}]")
ROOTS = {"\u221a": r"\sqrt", "\u221b": r"\sqrt[3]", "\u221c": r"\sqrt[4]"}
ROOT = re.compile(r"([\u221a-\u221c])\s*(\d+(?:\.\d+)?|[a-zA-Z]|\\[a-zA-Z]+)?")
ROOT_CALL = re.compile(r"(\\sqrt(?:\[\d\])?)\s*\(")


def scripts(text: str) -> str:
    r"""Unicode's superscripts, subscripts and fractions as LaTeX: `10⁻⁶x₁½` -> `10^{-6}x_{1}\frac{1}{2}`. The rest stays."""
    if text.isascii():
        return text
    text = RAISED.sub(lambda match: f"^{{{''.join(map(SUPERSCRIPTS.__getitem__, match.group()))}}}", text)
    text = LOWERED.sub(lambda match: f"_{{{''.join(map(SUBSCRIPTS.__getitem__, match.group()))}}}", text)
    return VULGAR.sub(lambda match: FRACTIONS[match.group()], text)


def from_unicode(text: str) -> str:
    """Unicode mathematics as LaTeX, full-width letters, digits and punctuation as ASCII."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", scripts(text).translate(BLACKBOARD)).translate(UNICODE)
    text = DIGIT.sub(lambda match: str(unicodedata.decimal(match.group())), text)
    text = ROOT.sub(lambda match: ROOTS[match.group(1)] + (f"{{{match.group(2)}}}" if match.group(2) else ""), text)
    return replace_calls(text, ROOT_CALL, lambda match, inside: f"{match.group(1)}{{{inside}}}")


def replace_calls(text: str, opening: re.Pattern[str], replacement: Callable[[re.Match[str], str], str]) -> str:
    """`text` with what `opening` matches, which ends in a parenthesis, replaced together with all up to the closing one.

    The replacement is given the match and what is inside the parentheses; inner calls come first. An opening that is never
    closed stays.
    """
    for match in reversed(list(opening.finditer(text))):
        if (end := close_parenthesis(text, match.end() - 1)) > 0:
            text = text[: match.start()] + replacement(match, text[match.end() : end]) + text[end + 1 :]
    return text


def close_parenthesis(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`, or -1."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1
