"""Numbers of tokens -> the one that colours them, its scale, and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.report.row_parts import Scale
from redi_ray.report.token_series import COLUMN, LOGP, WEIGHT

CHANGE, SECOND = "change", "logp2"
"""Colours of two models: how far training moved a token's log-prob from the first to the second, and the second's own."""
FAINT = 0.02
"""Share of the scale below which a log-prob or a change has no colour."""
MOST_CHANGE, MOST_SURPRISE = 2.0, 5.0
"""Nats from which on a change, and a log-prob, are as strong as can be: one token that is far off should not pale the others."""
FORMATS = {LOGP: "log-prob {:.3f}", WEIGHT: "weight {:+.3g}", COLUMN: "{:+.3g}"}


@dataclass(frozen=True)
class Legend:
    """What a colour means."""

    low: str
    high: str
    two_sided: bool
    words: str


def failed(found: Any) -> bool:
    return isinstance(found, dict) and "error" in found


def values_of(colour: str, scored: Sequence[str], series: Mapping[str, Any]) -> list[list[float | None]] | None:
    """Member -> the number that colours each token; None where it is not there."""
    if colour == CHANGE:
        first, second = (series.get(f"{LOGP}:{model}") for model in scored)
        if first is None or second is None:
            return None
        return [
            [None if a is None or b is None else b - a for a, b in zip(one, other, strict=True)]
            for one, other in zip(first, second, strict=True)
        ]
    if colour in (LOGP, SECOND):
        return series.get(f"{LOGP}:{scored[colour == SECOND]}")
    return series.get(colour)


def scale_of(colour: str, scored: Sequence[str], values: Sequence[float]) -> tuple[Scale, Legend]:
    """The scale that suits a row's numbers, and what it means in words."""
    if colour == CHANGE:
        scale = Scale.of(values, at_least=0.1, at_most=MOST_CHANGE, faint=FAINT)
        words = f"how far each token's log-prob is higher (blue) or lower (red) with {scored[1]} than with {scored[0]}, in nats"
        return scale, Legend(f"-{scale.end:g}", f"+{scale.end:g}", True, words)
    if colour in (LOGP, SECOND):
        scale = Scale.of(values, at_least=1, at_most=MOST_SURPRISE, faint=FAINT)
        model = scored[colour == SECOND]
        words = f"the log-prob of each token with {model}, in nats: the stronger, the less likely it found it"
        return scale, Legend(f"-{scale.end:g}", "0", False, words)
    if colour.startswith(WEIGHT):
        scale = Scale.of(values, at_least=1)
        words = "what each token weighs in the loss, by its side: blue is pushed up, red is pushed down, plain is not scored"
    else:
        scale, words = (
            Scale.of(values, at_least=0.1),
            f"what {colour.partition(':')[2].replace('_', ' ')} says of each token",
        )
    return scale, Legend(f"-{scale.end:g}", f"+{scale.end:g}", True, words)


def words_of(series: Mapping[str, Sequence[float | None]], scored: Sequence[str], count: int) -> list[str]:
    """What is said of each token."""
    found = []
    for at in range(count):
        said = [f"token {at + 1:,} of {count:,}"]
        for name, values in series.items():
            kind, _, step = name.partition(":")
            if (value := values[at]) is not None:
                said.append(f"{step.replace('_', ' ')} {FORMATS[kind].format(value)}")
        logps = [series[f"{LOGP}:{model}"][at] for model in scored if f"{LOGP}:{model}" in series]
        if len(logps) > 1 and logps[0] is not None and logps[1] is not None:
            said.append(f"change {logps[1] - logps[0]:+.3f}")
        found.append(", ".join(said))
    return found


def sums_of(series: Mapping[str, Sequence[float | None]], scored: Sequence[str]) -> dict[str, str]:
    """What is said of all tokens of a part."""
    sums = {
        model: sum(value for value in series[f"{LOGP}:{model}"] if value is not None)
        for model in scored
        if f"{LOGP}:{model}" in series
    }
    found = {f"log-prob, {model}": f"{total:.3f}" for model, total in sums.items()}
    if len(sums) > 1:
        first, second = sums.values()
        found["change"] = f"{second - first:+.3f}"
    return found
