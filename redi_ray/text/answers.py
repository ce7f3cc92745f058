"""Is a completion's answer right? The fast path, and `verify_answer` for one completion.

The stages of one verdict: find the answer (`redi_ray.text.extract`), decide it here where that is certain, and otherwise
ask Math-Verify in a process that can be killed (`redi_ray.text.isolation`). For whole tables see `redi_ray.data.verify`.

What counts as equal, beyond the spelling of one expression:
- Percent: `28\\%`, `28 percent` and `28` are equal, and so are `10\\%` and `0.1`; `10\\%` and `10.0` are not.
- Units behind a number are ignored on either side: `15\\text{ cm}^2` equals `15`. `cm` is not told from `m`.
- Decimals: equal after rounding to `float_rounding` places, so 0.333333 equals 1/3 and 0.333 does not.
- Intervals: brackets matter, `[0,1)` is not `[0,1]`; an open interval `(1,2)` equals the pair 1, 2.
- Sets and several answers: order does not matter, unless the gold is a tuple in parentheses; all must be there.
- `x = 5` equals `5`; an equation equals its rearrangements.
- Text: `\\text{Even}` equals `even`. Choices: gold `\\text{(C) Plane}` is met by `C`, `(C)` and `Plane`.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass

from redi_ray.config.answers import AnswerSettings
from redi_ray.schemas import Verdict
from redi_ray.text.extract import extract_answer, extract_gold, find_answer
from redi_ray.text.isolation import ComparingPool
from redi_ray.text.normalize import INTEGER, canonical, choice_letter, exact_number

__all__ = ["AnswerVerdict", "extract_answer", "extract_gold", "quick_verdict", "verify_answer"]


@dataclass(frozen=True)
class AnswerVerdict:
    verdict: Verdict
    extracted_answer: str | None
    """What was compared; None where the completion holds no answer."""


def quick_verdict(gold: str, extracted: str) -> Verdict | None:
    """CORRECT or WRONG where that is certain in a few microseconds, None where Math-Verify must decide.

    Certain are: the same canonical spelling; two exact rationals; two letters of a multiple choice. Unequal decimals and
    percentages are not (0.5 and 50%), and neither is unequal text.
    """
    ours, theirs = canonical(gold), canonical(extracted)
    if ours == theirs:
        return Verdict.CORRECT if ours else None
    if INTEGER.match(ours) and INTEGER.match(theirs):
        return Verdict.CORRECT if _digits(ours) == _digits(theirs) else Verdict.WRONG
    expected = exact_number(_whole(ours))
    if expected is not None and (value := exact_number(theirs)) is not None:
        return Verdict.CORRECT if value == expected else Verdict.WRONG
    return _quick_choice(gold, extracted)


def _digits(integer: str) -> str:
    """An integer's one spelling. Strings are compared, since reading 100,000 digits takes seconds."""
    digits = integer.lstrip("+-").lstrip("0") or "0"
    return "-" + digits if integer[0] == "-" and digits != "0" else digits


def _whole(gold: str) -> str:
    """`27.0` -> `27`: benchmarks that went through a float column. Only golds; a model that writes 27.0 may mean it."""
    head, point, zeros = gold.partition(".")
    return head if point and zeros and not zeros.strip("0") else gold


def _quick_choice(gold: str, extracted: str) -> Verdict | None:
    expected = choice_letter(gold)
    if expected is None:
        return None
    letter, wording = expected
    if found := choice_letter(extracted):
        return Verdict.CORRECT if found[0] == letter else Verdict.WRONG
    same = wording and canonical(wording).casefold() == canonical(extracted).casefold()
    return Verdict.CORRECT if same else None


@dataclass(frozen=True)
class Reading:
    """What a row holds: both answers where they can be compared, otherwise the verdict."""

    gold: str = ""
    answer: str | None = None
    certain: bool = True
    verdict: Verdict | None = None

    def conclude(self, verdict: Verdict) -> AnswerVerdict:
        """The row's verdict, given that of its comparison: an answer that was only guessed at is never wrong."""
        if verdict == Verdict.WRONG and not self.certain:
            return AnswerVerdict(Verdict.NO_ANSWER, None)
        return AnswerVerdict(verdict, self.answer)


def read_row(gold: object, completion: object, settings: AnswerSettings, *, finished: bool = True) -> Reading:
    """Find both answers of a row. Any input is fine: what is no text is an `error`."""
    if not isinstance(completion, str | None) or not isinstance(gold, str | None):
        return Reading(verdict=Verdict.ERROR)
    found = find_answer(completion, settings, finished=finished) if completion else None
    answer, certain = (found.answer, found.certain) if found else (None, True)
    reference = extract_gold(gold, settings) if gold else None
    if reference is None:
        return Reading(answer=answer, verdict=Verdict.GOLD_UNPARSEABLE)
    return Reading(reference, answer, certain, None if found else Verdict.NO_ANSWER)


_POOLS: dict[str, ComparingPool] = {}


def verify_answer(
    completion: str, gold: str, settings: AnswerSettings | None = None, *, timeout_seconds: float = 5.0
) -> AnswerVerdict:
    """The verdict on one completion. Hard comparisons run in one process per settings, started at the first need.

    For many completions use `redi_ray.data.verifier.AnswerVerifier`, which also caches.
    """
    settings = settings or AnswerSettings()
    row = read_row(gold, completion, settings)
    if row.verdict is not None or row.answer is None:
        return AnswerVerdict(row.verdict or Verdict.NO_ANSWER, row.answer)
    verdict = quick_verdict(row.gold, row.answer)
    if verdict is None:
        key = f"{settings} {timeout_seconds}"
        if key not in _POOLS:
            _POOLS[key] = ComparingPool(settings, timeout_seconds=timeout_seconds)
            atexit.register(_POOLS[key].close)
        (verdict,) = _POOLS[key].compare_many([(row.gold, row.answer)])
    return row.conclude(verdict)
