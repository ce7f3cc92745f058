"""Settings of steps `select` beside the pass rate (`redi_ray.config.curation.Difficulty`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from redi_ray.config.data import Strict


class Rounds(Strict):
    """Problems by the rounds of sampling that the first right trace took: 1 where a first round has one. (ThinkLite-VL,
    arXiv 2504.07934, counts iterations of its search from 0: its `> 5` is `more_than: 6` here.)"""

    more_than: int = Field(0, ge=0)
    """Problems that took at most so many are left out."""
    at_most: int | None = Field(None, ge=1)
    """Problems that took more are left out; null leaves none out."""
    never: bool = True
    """Whether problems without a right trace stay. To drop them loses the hardest."""
    samples: int = Field(1, ge=1)
    """Samples of a round, in the order of generation, such as `generate.samples_per_round`."""
    model: str | None = None
    """Count traces of this model alone."""

    @model_validator(mode="after")
    def _some(self) -> Rounds:
        if self.at_most is not None and self.at_most <= self.more_than and not self.never:
            raise ValueError(f"more_than {self.more_than} and at_most {self.at_most} leave no problem")
        return self


class RandomProblems(Strict):
    """Problems by chance: the control of any selection. Which ones depends on their ids and the seed alone."""

    like: str | None = None
    """A step whose number of problems is taken."""
    problems: int | None = Field(None, ge=1)
    """The number itself."""
    seed: int = 0
    """Another seed takes other problems."""

    @model_validator(mode="after")
    def _one_number(self) -> RandomProblems:
        if (self.like is None) == (self.problems is None):
            raise ValueError("set either `like`, a step to take as many problems as, or `problems`, their number")
        return self


class Balance(Strict):
    """As many problems of each reference answer, for problems that have few of them, such as a judge's questions: of the more
    frequent ones some go, by chance. Which ones depends on their ids and the seed alone."""

    needs: Literal["right", "both"] = "right"
    """Problems that can be used: those with a right trace, or with a right and a wrong one."""
    seed: int = 42
    """Another seed takes other problems."""
