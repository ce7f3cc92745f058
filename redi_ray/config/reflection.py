"""Settings of steps `reflect`: which words say that a model looks back at what it has written."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from redi_ray.config.section import Strict

KEYWORDS = (
    "recheck", "rethink", "reevaluate", "re-evaluate", "reevaluation", "re-examine", "reexamine", "try again", "check again",
    "think again", "go over the steps",
)  # fmt: skip
"""Of oat-zero (sail-sg/oat-zero, MIT), which counts them as parts of the lower-cased text."""
VERIFICATION = (
    r"\b(?:let me|let's|let us|i'll|i will|i should|i need to|to|we can|we) (?:just |quickly |also )?"
    r"(?:double[- ]?check|check|verify|confirm|validate)\b",
    r"\bdouble[- ]check(?:ing|ed)\b",
    r"\b(?:substitut|plugg)ing (?:this |it |these |them |that )?back\b",
    r"\bsanity check\b",
)
"""A result is held against something else."""
BACKTRACKING = (
    r"\bwait\b",
    r"\bhold on\b",
    r"\b(?:i|we) (?:have )?(?:made|make) a (?:\w+ )?(?:mistake|error)\b",
    r"\bthat(?:'s| is) (?:not right|not correct|wrong|incorrect)\b",
    r"\bstart(?:ing)? over\b",
    r"\bscratch that\b",
    r"\b(?:go|going) back\b",
    r"\b(?:another|a different) (?:approach|way|method)\b",
    r"\blet me (?:try|start|think|rethink|reconsider|redo)\b.{0,20}\b(?:again|differently)\b",
)
"""A way is given up, or doubted."""


class ReflectSettings(Strict):
    """What is counted."""

    behaviours: dict[str, list[str]] = Field(
        {"keywords": list(KEYWORDS), "verification": list(VERIFICATION), "backtracking": list(BACKTRACKING)},
        min_length=1,
    )
    """Name -> regular expressions of which each match in the text, in lower case, is a hit; words stand for themselves wherever
    they occur, inside others too. The default has the keywords of oat-zero, and phrases of verification and of backtracking."""

    @field_validator("behaviours")
    @classmethod
    def _readable(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, patterns in value.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r}: a behaviour's name is made of letters, digits and _, a letter first")
            if not patterns:
                raise ValueError(f"{name}: no expression, so nothing would be counted; leave the behaviour out")
            for pattern in patterns:
                try:
                    empty = re.compile(pattern).search("")
                except re.error as error:
                    raise ValueError(f"{name}: {pattern!r} is no regular expression: {error}") from error
                if re.search(r"(?<!\\)[A-Z]", pattern):
                    raise ValueError(f"{name}: {pattern!r} is held against texts in lower case; write it in lower case")
                if empty:
                    raise ValueError(f"{name}: {pattern!r} matches the empty text, so that every place would be a hit")
        return value


class ReflectStep(ReflectSettings):
    """How often samples look back: of each behaviour the samples with any and all hits, accuracy with and without, by
    verdict, and with problems held fixed: right against wrong samples, and samples with it against those without, of the same
    problem, so that difficulty does not stand in for it. Beside it the same of lengths."""

    do: Literal["reflect"]
    """The kind of step."""
    of: str
    """Verified traces."""

    @property
    def settings(self) -> ReflectSettings:
        """What of it decides the counts, beside the samples."""
        return ReflectSettings(behaviours=self.behaviours)
