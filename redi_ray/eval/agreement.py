"""How far judges agree: with people, with themselves when the order of what they compare is swapped, and beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def pair_agreement(
    gold: Sequence[int], winners: Sequence[int | None], winners_swapped: Sequence[int | None]
) -> dict[str, float]:
    """A judge of pairs against people, in both orders of presenting a pair -> percent.

    Args:
        gold: which output of each pair people prefer.
        winners: which one the judge does; None where its verdict could not be read, which is never right.
        winners_swapped: the same with the outputs presented the other way round, named as in `gold`.

    Returns: `accuracy`, `accuracy_swapped`, and `agreement`: how often both orders end alike, unreadable ones too. Raises
    ValueError for sequences that are empty or of different lengths.
    """
    if not len(gold) == len(winners) == len(winners_swapped) > 0:
        raise ValueError(
            f"{len(gold)} pairs, {len(winners)} and {len(winners_swapped)} verdicts: need as many, and at least one"
        )
    share = 100 / len(gold)
    return {
        "accuracy": share * sum(a == b for a, b in zip(gold, winners, strict=True)),
        "accuracy_swapped": share * sum(a == b for a, b in zip(gold, winners_swapped, strict=True)),
        "agreement": share * sum(a == b for a, b in zip(winners, winners_swapped, strict=True)),
    }


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two judges' labels: agreement beyond that of their own frequencies, 1 at the most.

    None where both give one label throughout: chance then agrees always. Raises ValueError as `pair_agreement` does.
    """
    if not len(first) == len(second) > 0:
        raise ValueError(f"{len(first)} and {len(second)} labels: need as many, and at least one")
    counts, total = (Counter(first), Counter(second)), len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / total
    by_chance = sum(counts[0][label] * counts[1][label] for label in counts[0]) / total**2
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)
