"""The benchmarks that need no path: where the hub has each, how many problems it holds, and what is special about its answers.

A new one is a line here; everything that knows benchmarks by name reads this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Several = Literal["refuse", "join", "first"]
"""What a list of different answers holds: `join`, parts of one; `first`, spellings of one; `refuse`, nobody knows."""


@dataclass(frozen=True)
class HubBenchmark:
    """One benchmark of the hub."""

    repo: str
    subset: str | None
    split: str
    problems: int
    """Rows of the split."""
    integers: bool = False
    """All answers are integers: padding zeros, thousands commas and a trailing `.0` carry no meaning."""
    several: Several = "refuse"
    """What a list of different answers holds."""


HUB = {
    "math500": HubBenchmark("HuggingFaceH4/MATH-500", None, "test", 500),
    "aime24": HubBenchmark("HuggingFaceH4/aime_2024", None, "train", 30, integers=True),
    "amc23": HubBenchmark("math-ai/amc23", None, "test", 40, integers=True),
    "amc23_83": HubBenchmark("AI-MO/aimo-validation-amc", None, "train", 83, integers=True),
    "minerva": HubBenchmark("math-ai/minervamath", None, "test", 272, several="first"),
    "olympiadbench": HubBenchmark("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", 674, several="join"),
    "gsm8k": HubBenchmark("openai/gsm8k", "main", "test", 1319, integers=True),
}
"""By name. `amc23` is the usual 40 problems of 2023; `amc23_83` the 83 of 2022 and 2023 that the REDI paper calls AMC23. A name
that is not here is a file of the user's own, with nothing special about it."""

WORLD = "arithmetic"
"""The held-out problems of the built-in world, which a run writes itself."""

BENCHMARKS = (*HUB, WORLD)
"""Names that need no `path`."""
