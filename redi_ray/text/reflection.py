"""Signs in a text that its writer looks back at it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def compiled(behaviours: Mapping[str, Sequence[str]]) -> dict[str, list[re.Pattern[str]]]:
    """The expressions of `redi_ray.config.reflection`, ready for `hits`."""
    return {name: [re.compile(one) for one in patterns] for name, patterns in behaviours.items()}


def hits(text: str, behaviours: Mapping[str, Sequence[re.Pattern[str]]]) -> dict[str, int]:
    """Behaviour -> matches of its expressions, each expression's counted without overlaps.

    Example: of "Recheck it. Then check again, and again." the keywords `recheck` and `check again` are two hits.
    """
    lowered = text.lower()  # a search without case is ten times slower
    return {
        name: sum(sum(1 for _ in pattern.finditer(lowered)) for pattern in patterns)
        for name, patterns in behaviours.items()
    }
