"""Settings of the step `grade`: verdicts by a number, for traces that have nothing else to be verified by."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from redi_ray.config.section import Strict


class GradeSettings(Strict):
    """Which numbers make a trace right or wrong; what lies between stays undecided."""

    right: float | None = None
    """From here on a trace is `correct`."""
    wrong: float | None = None
    """Up to here a trace is `wrong`; one that the server broke off is `no_answer`."""

    @model_validator(mode="after")
    def _ordered(self) -> GradeSettings:
        if self.right is None and self.wrong is None:
            raise ValueError("set `right`, `wrong` or both: without a threshold nothing is decided")
        if self.right is not None and self.wrong is not None and self.wrong >= self.right:
            raise ValueError(f"wrong ({self.wrong:g}) must lie below right ({self.right:g})")
        return self


class GradeStep(GradeSettings):
    """Verdicts by thresholds on a column, such as a reward model's, for traces of problems that have neither a reference answer
    nor tests; every other verdict stays what it is."""

    do: Literal["grade"]
    """The kind of step."""
    of: str
    """Verified traces."""
    by: str
    """Column with a number for each of them."""

    @property
    def settings(self) -> GradeSettings:
        """The thresholds."""
        return GradeSettings(right=self.right, wrong=self.wrong)
