"""Named steps that make models: trainings, with what they rehearse, merges, and models that are there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from redi_ray.config.objectives import Objective
from redi_ray.config.reward_objectives import VALUED
from redi_ray.config.rollout_objectives import DphObjective
from redi_ray.config.section import Strict
from redi_ray.config.student import ArithmeticModel, PretrainedModel


class RehearsedStep(Strict):
    """What a training rehearses (DPH, arXiv 2509.07430), so that it forgets less of what its first model could."""

    on: str
    """Whose right answers: as `on` of the training. They should be the first model's own, of problems that it solves."""
    batch_size: int = Field(16, ge=1)
    """Of them a step, beside those that are learnt."""
    objective: DphObjective = DphObjective()
    """The divergence from the first model, added to the loss."""


class TrainStep(Strict):
    """A training of its own."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    do: Literal["train"]
    """The kind of step."""
    start: str = Field(alias="from")
    """The model that it starts from, which is its reference, too."""
    on: str
    """What it learns from: the output of `import`, `pairs` or `curated`, or verified traces, which are then curated as `curate`
    says."""
    objective: Annotated[Objective, Field(discriminator="name")]
    """The loss."""
    train: dict[str, Any] = {}
    """What differs from `sft.train` where the objective learns from right answers alone (`sft`, `dph`), else `redi.train`."""
    rehearse: RehearsedStep | None = None
    """What is rehearsed beside."""

    @model_validator(mode="after")
    def _says_text(self) -> TrainStep:
        if self.rehearse is not None and self.objective.name in VALUED:
            raise ValueError(f"rehearse: {self.objective.name} trains a reward model, which has no text to rehearse")
        return self


class ModelStep(Strict):
    """A model beside the student's, such as a teacher: one that exists, or one of the built-in world's of another size. It
    samples, scores, is trained and evaluated like any other."""

    do: Literal["model"]
    """The kind of step."""
    init: Annotated[PretrainedModel | ArithmeticModel, Field(discriminator="kind")]
    """As `model.init`: `pretrained` or `arithmetic`."""


class MergeStep(Strict):
    """The weighted mean of models of one architecture."""

    do: Literal["merge"]
    """The kind of step."""
    of: dict[str, float] = Field(min_length=1)
    """Model -> weight; they are divided by their sum."""

    @model_validator(mode="after")
    def _weights_add_up(self) -> MergeStep:
        if sum(self.of.values()) <= 0:
            raise ValueError(f"the weights of a merge must add up to more than 0, got {self.of}")
        return self
