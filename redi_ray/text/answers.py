r"""Is a completion's answer right? The fast path, and `verify_answer` for one completion.

The stages of one verdict: find the answer (`redi_ray.text.extract`), decide it here where that is certain, and otherwise
ask Math-Verify in a process that can be killed (`redi_ray.text.isolation`). For whole tables see `redi_ray.data.verify.traces`.

What counts as equal, beyond the spelling of one expression (a test runs every line):

| rule                                                 | gold                  | answer                | verdict |
|------------------------------------------------------|-----------------------|-----------------------|---------|
| percent: with and without the sign                   | `28\%`                | `28`                  | correct |
|                                                      | `28\%`                | `28 percent`          | correct |
| percent: as a fraction of one                        | `10\%`                | `0.1`                 | correct |
|                                                      | `50\%`                | `\frac{1}{2}`         | correct |
| percent: but not with other decimals                 | `10\%`                | `10.0`                | wrong   |
| units: ignored behind a number, on either side       | `15\text{ cm}^2`      | `15`                  | correct |
|                                                      | `15`                  | `15 \mathrm{~km/h}`   | correct |
|                                                      | `90^\circ`            | `90`                  | correct |
|                                                      | `5`                   | `\$5`                 | correct |
| units: so one is not told from another               | `15\text{ cm}`        | `15\text{ m}`         | correct |
| units: nothing is converted                          | `1000\text{ m}`       | `1\text{ km}`         | wrong   |
| units: several side by side are one quantity         | `1\text{ h }30\text{ min}` | `90\text{ min}` | correct |
|                                                      | `1\text{ h }30\text{ min}` | `1\text{ h }45\text{ min}` | wrong |
| units: words with an opposite are none               | `3\text{ p.m.}`       | `3\text{ a.m.}`       | wrong   |
|                                                      | `5\text{ km north}`   | `5\text{ km south}`   | wrong   |
| units: but may be missing                            | `3\text{ p.m.}`       | `3`                   | correct |
| units: a letter may be a factor as well              | `\frac{37}{4}m`       | `\frac{37m}{4}`       | correct |
| units: millions are none                             | `5\text{ million}`    | `5000000`             | correct |
|                                                      | `5\text{ million}`    | `5`                   | wrong   |
| thousands: separators go                             | `15,000`              | `15000`               | correct |
| decimals: equal at `float_rounding` places           | `1/3`                 | `0.333333`            | correct |
|                                                      | `1/3`                 | `0.333`               | wrong   |
| decimals: small ones at as many significant digits   | `2\times10^{-7}`      | `4\times10^{-7}`      | wrong   |
|                                                      | `\frac{1}{300000}`    | `0.00000333333`       | correct |
| decimals: scientific notation of any kind            | `3e8`                 | `3\times10^8`         | correct |
| decimals: a gold from a float column                 | `27.0`                | `27`                  | correct |
| decimals: a comma may be the point                   | `2.5`                 | `2,5`                 | correct |
| intervals: brackets matter                           | `[0,1)`               | `[0,1]`               | wrong   |
| intervals: the order of a union does not             | `(1,2)\cup(3,4)`      | `(3,4)\cup(1,2)`      | correct |
| intervals: an open one is also a pair                | `(1,2)`               | `1,2`                 | correct |
| intervals: no inequality, unless `set_relations`     | `[-2,7]`              | `-2 \le x \le 7`      | wrong   |
| sets: order does not matter                          | `\{1,2\}`             | `\{2,1\}`             | correct |
| sets: braces may be missing                          | `\{1,2\}`             | `2,1`                 | correct |
| several answers: in any order                        | `1,-2`                | `-2,1`                | correct |
| several answers: joined by and, or                   | `1,-2`                | `-2 \text{ and } 1`   | correct |
| several answers: with their names                    | `1,-2`                | `x=1, x=-2`           | correct |
| several answers: a plus-minus is two                 | `\pm 2`               | `2,-2`                | correct |
| several answers: joined in another language          | `1,-2`                | `1\text{ oder }-2`    | correct |
| several answers: all must be there                   | `3,5,7`               | `3,5`                 | wrong   |
| several answers: and no more                         | `3,5`                 | `3,5,7`               | wrong   |
| tuples: in parentheses the order matters             | `(1,2)`               | `(2,1)`               | wrong   |
| tuples: a column vector is none                      | `(1,2)`               | `\begin{pmatrix}1\\2\end{pmatrix}` | wrong |
| tuples: by the names of their parts                  | `(2,3)`               | `b=3, a=2`            | correct |
| tuples: named in another order than the alphabet's   | `(2,3)`               | `m=2, b=3`            | no_answer |
| equations: the value alone                           | `x=5`                 | `5`                   | correct |
|                                                      | `y=2x+1`              | `2x+1`                | correct |
| equations: rearranged                                | `5x-7y+4=0`           | `10x-14y+8=0`         | correct |
| expressions: expanded, reordered                     | `(x+1)^2`             | `x^2+2x+1`            | correct |
|                                                      | `(x+1)^2`             | `x^2+2x+2`            | wrong   |
| expressions: in plain text or Unicode                | `sqrt(2)/2`           | `\frac{\sqrt2}{2}`    | correct |
|                                                      | `2·10⁻³`              | `0.002`               | correct |
|                                                      | `2⁴`                  | `24`                  | wrong   |
| bases: the value, or the digits where none is given  | `1011_2`              | `1011_{\text{three}}` | wrong   |
|                                                      | `1011_2`              | `1011`                | correct |
| conditions: behind an answer they may be missing     | `2x+1`                | `2x+1, x>0`           | correct |
| conditions: but not differ                           | `2x+1, x>0`           | `2x+1, x<0`           | wrong   |
| conditions: several cases are one answer             | `0`                   | `0\text{ if odd, }1\text{ if even}` | wrong |
| text: without case or \text                          | `\text{Even}`         | `even`                | correct |
| text: no synonyms                                    | `\text{no solution}`  | `\emptyset`           | wrong   |
| choices: the letter, in any dress                    | `\text{(C) Plane}`    | `C`                   | correct |
|                                                      | `\text{(C)}`          | `\text{(C) Plane}`    | correct |
| choices: the wording                                 | `\text{(C) Plane}`    | `\text{Plane}`        | correct |
| choices: another letter                              | `\text{(C)}`          | `B`                   | wrong   |
| unreadable answers: say nothing about the trace      | `5`                   | `\frac{1}}{`          | no_answer |
| unreadable golds: the same                           | `\frac{1}{`           | `5`                   | gold_unparseable |
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass

from redi_ray.config.answers import AnswerSettings
from redi_ray.schemas import Verdict
from redi_ray.text.announced import Found
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
    reference = extract_gold(gold, settings) if gold else None
    if reference is None:
        return Reading(answer=found.answer if found else None, verdict=Verdict.GOLD_UNPARSEABLE)
    if found is None:
        return Reading(reference, verdict=Verdict.NO_ANSWER)
    found = _for_gold(found, reference)
    return Reading(reference, found.answer, found.certain)


def _for_gold(found: Found, gold: str) -> Found:
    """Of an option with its wording, the wording where the gold is no option; a letter alone says nothing about it then."""
    choice = choice_letter(found.answer)
    if choice is None or choice_letter(gold) or canonical(gold) == canonical(found.answer):
        return found
    letter, wording = choice
    if wording.startswith(("+", "-", "*", "/", "^", "=", "(", "\\")):  # (A)+(B) is a sum
        return found
    return Found(wording, found.certain) if wording else Found(letter, False)


_POOLS: dict[str, ComparingPool] = {}


def verify_answer(
    completion: str,
    gold: str,
    settings: AnswerSettings | None = None,
    *,
    timeout_seconds: float = 5.0,
    finished: bool = True,
) -> AnswerVerdict:
    r"""The verdict on one completion, and the answer that was found in it.

    completion: the model's text. gold: the reference answer. settings: how answers are found and compared.
    timeout_seconds: processor time that one comparison may take. finished: False where the completion was cut off at its
    token limit, so that only an explicit answer counts. Never raises for what the texts hold: it is then the verdict that
    says so.

    >>> verify_answer(r"Half of it, so the answer is $\boxed{\frac{1}{2}}$.", "0.5")
    AnswerVerdict(verdict=<Verdict.CORRECT: 'correct'>, extracted_answer='\\frac{1}{2}')
    >>> verify_answer("I give up.", "0.5").verdict
    <Verdict.NO_ANSWER: 'no_answer'>

    Hard comparisons run in one process per settings, started at the first need (1-2 s) and ended with this one. For many
    completions use `redi_ray.data.verify.verifier.AnswerVerifier`, which also caches.
    """
    settings = settings or AnswerSettings()
    row = read_row(gold, completion, settings, finished=finished)
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
