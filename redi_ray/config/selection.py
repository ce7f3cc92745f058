"""Settings of steps `select` beside the pass rate (`redi_ray.config.curation.Difficulty`)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from redi_ray.config.embedders import Embedder
from redi_ray.config.group_steps import Judged
from redi_ray.config.section import Strict


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

    LATER: ClassVar[frozenset[str]] = frozenset({"rest"})
    """See `redi_ray.config.identity`."""

    like: str | None = None
    """A step whose number of problems is taken."""
    problems: int | None = Field(None, ge=1)
    """The number itself."""
    seed: int = 0
    """Another seed takes other problems."""
    rest: bool = False
    """The problems that would not be taken, instead: what the same number and seed leave, to be held out."""

    @model_validator(mode="after")
    def _one_number(self) -> RandomProblems:
        require_one_number(self)
        return self


class DiverseProblems(Strict):
    """So many problems that stand for all, by embeddings of their texts. How spread they are, and as many by chance, is in the
    manifest and the report; a step with `random: {like: NAME}` and the same seed takes those very ones as a control. Where there
    are no more problems than are wanted, all stay."""

    like: str | None = None
    """A step whose number of problems is taken."""
    problems: int | None = Field(None, ge=1)
    """The number itself."""
    by: Literal["farthest", "clusters"] = "clusters"
    """`farthest`: each is the farthest from those before it, which takes time for each problem kept and likes outliers.
    `clusters`: in turn from k-means clusters, the nearest to the centre first."""
    embedder: Embedder | None = None
    """What makes the embeddings; null is `{name: words}`."""
    seed: int = 0
    """Of the order that decides between equals, of the clusters, and of the control."""

    @model_validator(mode="after")
    def _one_number(self) -> DiverseProblems:
        require_one_number(self)
        return self


def require_one_number(settings: RandomProblems | DiverseProblems) -> None:
    """Raise ValueError unless they say how many problems are taken in one way."""
    if (settings.like is None) == (settings.problems is None):
        raise ValueError("set either `like`, a step to take as many problems as, or `problems`, their number")


class Balance(Strict):
    """As many problems of each reference answer, for problems that have few of them, such as a judge's questions: of the more
    frequent ones some go, by chance. Which ones depends on their ids and the seed alone."""

    needs: Literal["right", "both"] = "right"
    """Problems that can be used: those with a right trace, or with a right and a wrong one."""
    seed: int = 42
    """Another seed takes other problems."""


class KeptSamples(Strict):
    """Samples by their number in a column, or by chance. Bounds apply first, then `per_problem`, then `overall` or `like`. Of
    equal numbers those of the first ids stay, by problem and then by sample index. A sample without a number never stays."""

    order: Literal["highest", "lowest", "random"] = "highest"
    """Which ones stay. Chance needs no column; with one it draws among the samples that have a number there."""
    per_problem: int | None = Field(None, ge=1)
    """Samples of each problem at the most."""
    overall: int | None = Field(None, ge=1)
    """Samples at the most."""
    like: str | None = None
    """A step: as many samples as it has, at the most."""
    at_least: float | None = None
    """Samples with a smaller number are left out."""
    at_most: float | None = None
    """Samples with a larger number are left out."""
    verdicts: list[Judged] | None = Field(None, min_length=1)
    """Samples with another verdict are left out before any are counted; null admits all."""
    seed: int = 0
    """Of chance: another seed draws other samples."""

    def identity(self) -> dict[str, Any]:
        """What decides the samples: the seed only where it draws."""
        return self.model_dump(exclude=set() if self.order == "random" else {"seed"})

    @property
    def bounded(self) -> bool:
        """Whether numbers are held against bounds."""
        return self.at_least is not None or self.at_most is not None

    @model_validator(mode="after")
    def _some(self) -> KeptSamples:
        if self.per_problem is None and self.overall is None and self.like is None and not self.bounded:
            raise ValueError("set at least one of `per_problem`, `overall`, `like`, `at_least` and `at_most`")
        if self.overall is not None and self.like is not None:
            raise ValueError("set either `overall`, a number of samples, or `like`, a step to take as many samples as")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is larger than at_most {self.at_most}, which leaves no sample")
        return self
