"""Settings of sampling that goes where pairs are to be had."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from redi_ray.config.section import Strict


class Frontier(Strict):
    """Rounds after the first one go to the problems whose next samples are expected to bring most new pairs of a right and a
    wrong trace for their tokens, by their verdicts so far: a problem that is always right or always wrong teaches nothing by more
    of the same. Without it a round samples each problem that has no right trace yet, as often as all others."""

    rule: Literal["expected", "thompson"] = "expected"
    """`expected`: by the mean over what the pass rate may be, given the verdicts. `thompson`: by one draw of it for each problem
    and round, so that problems that look hopeless are tried now and then."""
    pairs: int = Field(1, ge=1)
    """Pairs wanted of a problem; one that has as many is sampled no more."""
    samples: float = Field(1.0, gt=0)
    """Samples of a later round, for each problem on the average."""
    each: int = Field(2, ge=1)
    """Samples that a problem gets at a time; a round may give it several times as many."""
    most: int = Field(16, ge=1)
    """Samples of a problem in a round at the most."""
    least: float = Field(0.0, ge=0, le=1)
    """Expected new pairs a sample below which none is drawn; where no problem promises more, sampling ends. 0 goes on as long as
    pairs are wanted."""
