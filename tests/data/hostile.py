"""Completions that hang, exhaust or crash a verifier that is not careful, with the verdicts that are right for each."""

from __future__ import annotations

import os
from pathlib import Path

from redi_ray.schemas import Verdict

GOLD = "5"
STOPPED = frozenset({Verdict.TIMEOUT, Verdict.ERROR})
NOTHING = frozenset({Verdict.NO_ANSWER})
WRONG = frozenset({Verdict.WRONG})
RIGHT = frozenset({Verdict.CORRECT})
BROKEN = frozenset({Verdict.ERROR})
LISTED = " ".join(rf"\boxed{{{number}}}," for number in range(50_000))

HOSTILE: list[tuple[str, object, frozenset[Verdict]]] = [
    ("power tower", r"\boxed{9^{9^{9^{9^{9}}}}}", STOPPED),
    ("power tower, plain", r"\boxed{2**3**4**5**6**7}", STOPPED),
    ("big power", r"\boxed{10^{10^{10}}}", STOPPED),
    ("factorial tower", r"\boxed{((((9!)!)!)!)!}", STOPPED),
    ("big factorial", r"\boxed{(10^{9})!}", STOPPED),
    ("800 parentheses", r"\boxed{" + "(" * 800 + "5" + ")" * 800 + "}", STOPPED | RIGHT),  # a fast machine reads it
    ("100 roots", r"\boxed{" + r"\sqrt{" * 100 + "5" + "}" * 100 + "}", STOPPED | WRONG),
    ("100k digits", r"\boxed{" + "7" * 100_000 + "}", NOTHING),
    ("100k digits, decimal", r"\boxed{0." + "7" * 100_000 + "}", NOTHING),
    ("1900 digits, decimal", r"\boxed{0." + "7" * 1900 + "}", WRONG),
    ("megabyte without an answer", "lorem ipsum " * 100_000, NOTHING),
    ("megabyte box", r"\boxed{" + "x+" * 500_000 + "1}", NOTHING),
    ("megabyte before the answer", "lorem ipsum " * 100_000 + r"\boxed{5}", RIGHT),
    ("control characters", "\\boxed{\x01\x02\x1b[31m\x07\x08}", NOTHING),
    ("control characters before the answer", "\x01\x1b[31m\x08 \\boxed{5}", RIGHT),
    ("null bytes", "\\boxed{\x00}\x00", NOTHING),
    ("null bytes before the answer", "\x00\x00\\boxed{5}", RIGHT),
    ("unclosed braces", r"so \boxed{{{{{{{{5", NOTHING),
    ("megabyte of unclosed boxes", r"\boxed{" * 150_000, NOTHING),
    ("looping boxes", r"\boxed{}. " * 50_000, NOTHING),
    ("looping full boxes", r"\boxed{5}, " * 50_000, RIGHT),
    ("50k boxes", LISTED, WRONG),
    ("integral", r"\boxed{\int_0^1 \int_0^1 \int_0^1 e^{\sin(x^y^z)} dx dy dz}", STOPPED | NOTHING | WRONG),
    ("sum", r"\boxed{\sum_{n=1}^{10^{9}} \frac{1}{n^{n^n}}}", STOPPED | WRONG),
    ("huge binomial", r"\boxed{\binom{10^{12}}{10^{11}}}", STOPPED | WRONG),
]
"""Name, completion, verdicts that are right where the gold is GOLD. No completion here holds a number that is not GOLD
and small enough to read, unless WRONG is among them."""

WRONG_TYPES: list[tuple[str, object, frozenset[Verdict]]] = [
    ("lone surrogate", "\\boxed{\ud800}", NOTHING),
    ("null", None, NOTHING),
    ("number", 5, BROKEN),
    ("bytes", b"\\boxed{5}", BROKEN),
    ("list", ["\\boxed{5}"], BROKEN),
    ("dict", {"completion": "5"}, BROKEN),
    ("nan", float("nan"), BROKEN),
]
"""What no Parquet column of text can hold."""


def comparing_processes(parent: int | None = None) -> dict[int, int]:
    """Process id -> peak resident memory in MiB, of the comparing processes (of this one, or of any)."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        mine = parent is None or int(fields["PPid"]) == parent
        if mine and b"redi_ray.text.worker" in command and "VmHWM" in fields:
            found[int(fields["Pid"])] = int(fields["VmHWM"].split()[0]) >> 10
    return found


def own_comparing_processes() -> dict[int, int]:
    return comparing_processes(os.getpid())
