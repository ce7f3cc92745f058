r"""Formulas in plain text, the way programs print them, as LaTeX: `sqrt(2)/2`, `2*x**3`, `3e8`, `(-oo, 3)`, `theta/2`."""

from __future__ import annotations

import re

from redi_ray.text.symbols import GREEK, replace_calls

POWER_OF_TEN = re.compile(
    r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)\s*(?:[eE]|\\(?:mathrm|text)\s*\{[eE]\})\s*([-+]?)\s*(\d+)(?![\w.(^])"
)
TIMES_TEN = re.compile(r"(?<=\d)\s*(?:[xX*]|\\ast(?![a-z]))\s*(?=10\s*(?:\^|\*\*))")
TEN_TO = re.compile(r"(?<!\d)10\s*\^\s*([-+]?\d+)")
NEGATIVE_POWER = re.compile(r"(?:\^|\*\*)\s*(-\s*\d+|-\s*[a-zA-Z](?![a-zA-Z])|(?<=\*\*)(?:\d+\.?\d*|\.\d+))")
TOWER = re.compile(r"(?:\*\*|\^)\s*\w+\s*(?:\*\*|\^)")
"""To programs a power of a power, to LaTeX nothing: left as it is."""
HINT = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2}|\*\*|\^\s*\(|[<>!]=|[\])]\s*[uU]\s*[\[(]")
"""Whether there is something here to respell at all."""
TEXT = re.compile(r"(\\(?:text[a-z]*|math[a-z]+|operatorname|mbox|begin|end)\s*\{[^{}]*\})")
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
RAISED_CALL = re.compile(r"(?:\^|\*\*)\s*\(")
UNION = re.compile(r"(?<=[\])])\s*[uU]\s*(?=[\[(][^()\[\]]*,)")
ROOT = re.compile(r"(?<![\\a-zA-Z])sqrt\s*(\d+(?:\.\d+)?|[a-z](?![a-z])|\\pi(?![a-z]))")
TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
FUNCTIONS = {
    **{name: f"\\{name}" for name in (*TRIGONOMETRIC, "sinh", "cosh", "tanh", "log", "ln", "gcd", "lcm")},
    **{prefix + name: f"\\arc{name}" for name in TRIGONOMETRIC for prefix in ("a", "arc")},
    **{prefix + name: f"\\ar{name}" for name in ("sinh", "cosh", "tanh") for prefix in ("a", "ar", "arc")},
    **{name: f"\\operatorname{{{name}}}" for name in ("sech", "csch", "coth")},
    "log2": r"\log_{2}",
    "log10": r"\log_{10}",
}
AROUND = {
    **dict.fromkeys(("sqrt", "Sqrt"), (r"\sqrt{", "}")),
    "cbrt": (r"\sqrt[3]{", "}"),
    **dict.fromkeys(("abs", "Abs"), ("|", "|")),
    "exp": ("e^{", "}"),
    "floor": (r"\lfloor ", r"\rfloor "),
    **dict.fromkeys(("ceil", "ceiling"), (r"\lceil ", r"\rceil ")),
    "factorial": ("(", ")!"),
}
CALL = re.compile(
    rf"(?<![\\a-zA-Z])({'|'.join(sorted((*FUNCTIONS, *AROUND, 'binomial'), key=len, reverse=True))})\s*\("
)
AMBIGUOUS = ("xi", "nu", "mu", "eta", "chi", "iota")
"""Greek letters that are products as well."""
NAMES = {
    **{name: f"\\{name}" for name in GREEK.values() if name not in AMBIGUOUS and name.islower()},
    **dict.fromkeys(("infinity", "Infinity", "inf", "infty", "oo"), r"\infty"),
    **{
        name: f"\\{name}"
        for name in FUNCTIONS
        if name in TRIGONOMETRIC or name in ("ln", "log", "sinh", "cosh", "tanh")
    },
    "emptyset": r"\emptyset",
}
KNOWN = frozenset((*NAMES, *FUNCTIONS, *AROUND, "binomial", "or", "and"))
RELATIONS = (("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "))


def powers_of_ten(text: str) -> str:
    r"""Scientific notation as LaTeX: `3e8`, `3 x 10^8`, `3*10^-8` -> `3\times 10^{8}`."""
    if "10" not in text and "e" not in text and "E" not in text:
        return text
    text = POWER_OF_TEN.sub(lambda match: f"{match[1]}\\times 10^{{{match[2].strip('+')}{match[3]}}}", text)
    return TEN_TO.sub(lambda match: f"10^{{{match[1].lstrip('+')}}}", TIMES_TEN.sub(r"\\times ", text))


def from_plain(text: str) -> str:
    """Plain formulas as LaTeX. A text with other words than names of functions and letters is prose and stays."""
    text = powers_of_ten(text)
    if TOWER.search(text):
        return text
    if "**" in text or "^-" in text or "^ -" in text:
        text = NEGATIVE_POWER.sub(lambda match: f"^{{{match[1].replace(' ', '')}}}", text)
    if not HINT.search(text):
        return text
    parts = TEXT.split(text)
    if any(len(word) > 2 and word not in KNOWN for part in parts[::2] for word in WORD.findall(part)):
        return text
    if len(parts) == 1:
        return _formula(text)
    return "".join(part if index % 2 else _formula(part) for index, part in enumerate(parts))


def _formula(text: str) -> str:
    text = replace_calls(text, CALL, _call)
    text = replace_calls(text, RAISED_CALL, lambda _, inside: f"^{{{inside}}}").replace("**", "^")
    text = UNION.sub(r"\\cup ", ROOT.sub(r"\\sqrt{\1}", text))
    for sign, command in RELATIONS:
        text = text.replace(sign, command)
    return WORD.sub(lambda match: f"{NAMES[match[0]]} " if match[0] in NAMES else match[0], text)


def _call(match: re.Match[str], inside: str) -> str:
    name = match[1]
    if name == "binomial":
        upper, comma, lower = inside.partition(",")
        return f"\\binom{{{upper}}}{{{lower}}}" if comma and "," not in lower else f"{match[0]}{inside})"
    if name in AROUND:
        before, after = AROUND[name]
        return before + inside + after
    if name == "log" and inside.count(",") == 1:
        inside, base = inside.split(",")
        return f"(\\log_{{{base.strip()}}}({inside}))"
    return f"({FUNCTIONS[name]}({inside}))"  # in parentheses, since `\\sin(x)^2` may be the sine of a square
