"""Settings of the scorers behind rewards of traces (ReasonFlux-PRM, arXiv 2506.18896): how near steps are to others, several
columns of steps as one, how often samples lead to the answer, and one number for a trace."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from redi_ray.config.scorer_base import COLUMN, MODEL, RIGHT, Form, Grain, ScorerSettings

STEP, TRAJECTORY = "step", "trajectory"
"""Labels of the spans of `step_rewards`: a step's target, and that of the whole."""


class SimilarityScorer(ScorerSettings):
    """How near each step of the thinking is to others by a model's embeddings, as spans: the first two of ReasonFlux-PRM's step
    rewards (`redi_ray.data.score.step_rewards` has the formulas). A step's embedding is the mean of its tokens' last hidden
    states, the step being read by itself."""

    name: Literal["similarity"]
    model: str
    """A language model of this graph, or a folder (local with a `/` in it, s3://) of one."""
    to: Literal["response", "previous"]
    """`response`, their alignment: the cosine to the most similar step of the response. `previous`, their coherence: how well the
    step before is told from steps of other problems' samples, as a probability; before the first one stands the problem."""
    form: Form | None = None
    """How a text is split into steps; null looks at each text. Columns that are put together need one form."""
    temperature: float = Field(0.1, gt=0)
    """Of `previous`: cosines are divided by it."""
    negatives: int = Field(8, ge=1)
    """Of `previous`: steps of other problems' samples that a step is held against, drawn among those that are read with it."""
    seed: int = 42
    """Of that draw."""

    @property
    def grain(self) -> Grain:
        return "span"

    @property
    def folder(self) -> str | None:
        """Where the model lies, if it is none of the graph."""
        return self.model if "/" in self.model else None

    @property
    def taken(self) -> dict[str, str]:
        return {} if self.folder else {MODEL: self.model}

    def identity(self) -> dict[str, Any]:
        """What decides the numbers, beside the model: what draws negatives only where there are any."""
        drawn = set() if self.to == "previous" else {"temperature", "negatives", "seed"}
        return self.model_dump(exclude={"model"} | drawn)


class StepRewardsScorer(ScorerSettings):
    """Several columns of steps as one: ReasonFlux-PRM's targets of steps, to train a reward head on (`step_mse`). A step has a
    number where all columns have one."""

    name: Literal["step_rewards"]
    columns: dict[str, Literal["value"] | dict[str, float]] = Field(min_length=1)
    """Column of spans, one for each step -> `value` for its numbers, or a number for each of its labels, such as
    `{right: 1, wrong: 0}`; a step with another label has none."""
    weights: Literal["softmax", "equal"] = "softmax"
    """What the columns weigh in a step: by the softmax of the very numbers, or alike."""
    trajectory: str | None = None
    """Column with a number for each sample: the target of the whole, which becomes a span over the response. Steps of the
    response then have none of their own; a sample without such a number, or without a response, has no spans at all."""

    @property
    def grain(self) -> Grain:
        return "span"

    @property
    def taken(self) -> dict[str, str]:
        whole = [] if self.trajectory is None else [self.trajectory]
        return {COLUMN + name: name for name in [*self.columns, *whole]}

    @model_validator(mode="after")
    def _one_grain(self) -> StepRewardsScorer:
        if self.trajectory in self.columns:
            raise ValueError(
                f"trajectory: {self.trajectory} is a column of steps here; name one with a number a sample"
            )
        return self


class PassRateScorer(ScorerSettings):
    """The share of right ones among the samples that each sample has led to: those of the problem that a step `pose` has made of
    it, which has its id. A sample whose problem was never answered has no number."""

    name: Literal["pass_rate"]
    samples: str
    """Verified traces of such problems."""

    @property
    def taken(self) -> dict[str, str]:
        return {RIGHT: self.samples}


class SaidScorer(ScorerSettings):
    """The number that a model says of each sample: the answer to the problem that a step `pose` has made of it, which has its id;
    of several answers the mean. What is no number does not count, and a sample without any has none."""

    name: Literal["said"]
    samples: str
    """Verified traces of such problems, whose `verify` reads the answers."""

    @property
    def taken(self) -> dict[str, str]:
        return {RIGHT: self.samples}


class TraceRewardScorer(ScorerSettings):
    """A number for each sample of a column of steps, to select by: the mean over the steps of its thinking plus `alpha` times the
    number at the response's last step, which is what the head says of the whole (ReasonFlux-PRM)."""

    name: Literal["trace_reward"]
    column: str
    """Column of spans with a number for each step, such as a scorer `reward` with `at: steps` makes it."""
    alpha: float = 1.0
    """Weight of the whole; 0 leaves it out. Else a sample without a response has no number."""

    @property
    def taken(self) -> dict[str, str]:
        return {COLUMN + self.column: self.column}
