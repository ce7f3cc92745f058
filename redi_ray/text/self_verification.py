"""Texts of attempts and verifications in turn: taken apart, judged part by part, and put together. Pure.

Parts are called as in S2R (arXiv 2502.12853): R an attempt, V a verification; + where the attempt is right, or the verification
says the truth about the attempt before it, - otherwise. The text `R- V+ R+ V+` is one that finds its mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from redi_ray.config.self_verification import SelfVerification

CHANGED, OF_RIGHT = " changed", " of right"
"""Ends of labels: of an attempt that is right where the one before was wrong, or the other way round; of a verification of
a right attempt. S2R counts the rewards of both twice."""
LABELS = ("R+", "R-", "V+", "V-", "R+ changed", "R- changed", "V+ of right", "V- of right")
MOST_PARTS = 10
"""A longer text is none of S2R's."""


@dataclass(frozen=True)
class Part:
    """Characters `[start, end)` of a text, without white space at the ends and without what opens it."""

    kind: str
    """R or V."""
    start: int
    end: int


def parts_of(text: str, form: SelfVerification) -> list[Part]:
    """The parts of a text in order, the first an attempt. What says nothing is no part.

    Example: with the default form `7\\n\\nWait, let me recheck my solution.\\n\\nIt is correct.` has an R and a V.
    """
    recheck, again = form.recheck.strip(), form.again.strip()
    marks = re.compile("|".join(map(re.escape, sorted((recheck, again), key=len, reverse=True))))
    found, kind, start = [], "R", 0
    for match in marks.finditer(text):
        found.append((kind, start, match.start()))
        kind, start = "V" if match.group() == recheck else "R", match.end()
    found.append((kind, start, len(text)))
    trimmed = [(kind, *_trimmed(text, start, end)) for kind, start, end in found]
    return [Part(*part) for part in trimmed if part[1] < part[2]]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    said = text[start:end]
    start += len(said) - len(said.lstrip())
    return start, max(start, start + len(said.strip()))


def truths(parts: Sequence[Part], right: Sequence[bool], text: str, form: SelfVerification) -> list[bool]:
    """Whether each part has a +. right: of the attempts, in order. A verification is one of the last attempt before it."""
    found, attempts, now = [], iter(right), False
    for number, part in enumerate(parts):
        if part.kind == "R":
            now = next(attempts)
            found.append(now)
        else:
            said = form.says_right(text[part.start : part.end], last=number + 1 == len(parts))
            found.append(said is now)
    return found


def spelt(parts: Sequence[Part], true: Sequence[bool]) -> str:
    """Example: `R-V+R+V+`."""
    return "".join(f"{part.kind}{'+' if plus else '-'}" for part, plus in zip(parts, true, strict=True))


def kept(word: str) -> int | None:
    """How many parts of a text stay; None where it is left out: attempts and verifications must take turns, an attempt first, a
    verification last, and there be at most MOST_PARTS.

    First a text with a right attempt is cut behind the verification of the first that is confirmed (`R+V+`), else of the last
    right one; what is asked is asked of what is left, as in S2R's code.
    Examples: `R+V+R+V+` keeps 2, `R-V+R+V-R+V+` 6, `R-V+R-V+` all its 4, `R+V+V+` 2, `R-V+V+` none.
    """
    parts = [word[at : at + 2] for at in range(0, len(word), 2)]
    if "R+" in parts:
        confirmed = next((at for at, two in enumerate(pairwise(parts)) if two == ("R+", "V+")), None)
        last = len(parts) - 1 - parts[::-1].index("R+") if confirmed is None else confirmed
        parts = parts[: last + 2]
    in_turn = [part[0] for part in parts] == ["R", "V"] * (len(parts) // 2)
    return len(parts) if in_turn and 0 < len(parts) <= MOST_PARTS else None


def labelled(word: str) -> list[str]:
    """One of LABELS for each part of a text whose attempts and verifications take turns.

    Example: `R-V+R+V+` -> `R-`, `V+`, `R+ changed`, `V+ of right`.
    """
    parts, found = [word[at : at + 2] for at in range(0, len(word), 2)], list[str]()
    for at, part in enumerate(parts):
        if part[0] == "V":
            found.append(part + (OF_RIGHT if parts[at - 1] == "R+" else ""))
        else:
            found.append(part + (CHANGED if at > 1 and parts[at - 2] != part else ""))
    return found


def put_together(
    attempts: Sequence[str], verifications: Sequence[str], form: SelfVerification
) -> tuple[str, list[tuple[int, int]]]:
    """The text of attempts and their verifications, and where in it each attempt stands.

    attempts: as they are to stand there, so that all but the first are without what the prompt begins an answer with.
    """
    text, places = "", []
    for attempt, verification in zip(attempts, verifications, strict=True):
        text += form.again if text else ""
        places.append((len(text), len(text) + len(attempt)))
        text += attempt + form.recheck + verification
    return text, places
