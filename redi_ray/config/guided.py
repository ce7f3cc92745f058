"""Settings of a search that is guided by what a judge or a reward model says of single steps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from redi_ray.config.scorer_base import REWARD, Form
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.section import Strict
from redi_ray.config.step_judges import GenerativeJudge


class GuidedSettings(Strict):
    """Answers that grow step by step, beside the samples (beam search over steps, arXiv 2408.03314): of the steps that a model
    would take next the best are kept, by what another one says of them. `keep` answers of each problem come out, told against as
    many samples as cost as much."""

    model: str | None = None
    """What says it: a reward model, by its number at a step's end (a training of this graph on values, best `step_bce` or
    `step_mse`; or a folder, local with a `/` in it or s3://), or with `judge` the language model of the graph that judges."""
    judge: GenerativeJudge | None = None
    """A generative judge, as of a step `locate`; where it names a model of its own, `model` is left out. Its threshold has no
    say."""
    keep: int = Field(4, ge=1)
    """Beginnings that are kept at a time. One that is a whole answer stays, and takes the place of another."""
    candidates: int = Field(4, ge=1)
    """Next steps that are drawn behind each that is kept; `keep` times as many for the first step."""
    step_end: str = Field("\n\n", min_length=1)
    """The characters that end a step."""
    max_steps: int = Field(40, ge=1)
    """An answer that has not come to its end by then is cut off; so is one of `max_tokens` of the evaluation."""
    max_step_tokens: int = Field(512, ge=1)
    """Longest step in tokens; what reaches it goes on with the next one."""
    form: Form | None = None
    """How a text is split into steps where they are judged; null looks at each text."""
    value: Literal["last", "min", "mean", "product"] = "last"
    """What orders beginnings: the number of the last step, or one made of those of all steps."""

    @property
    def width(self) -> int:
        """Steps that are drawn at a time for each problem, at the most."""
        return self.keep * self.candidates

    @property
    def reward(self) -> RewardScorer | None:
        """How a reward model is asked, if one is."""
        if self.judge is not None or self.model is None:
            return None
        return RewardScorer(name="reward", model=self.model, at="steps", form=self.form)

    @property
    def asked_of_graph(self) -> str | None:
        """The model of the graph that is asked."""
        return self.model if self.reward is None else self.reward.taken.get(REWARD)

    @property
    def told(self) -> str:
        """What says how good steps are, for a report."""
        return self.model or (self.judge.model if self.judge is not None else None) or ""

    def identity(self) -> dict[str, Any]:
        """What of the settings decides what comes out; what the model is, its step's key or its folder's content says."""
        judge = None if self.judge is None else self.judge.identity()
        return {**self.model_dump(exclude={"model", "judge"}), "judge": judge}

    @model_validator(mode="after")
    def _something_judges(self) -> GuidedSettings:
        own = self.judge is not None and self.judge.model is not None
        if own and self.model is not None:
            raise ValueError(
                f"`model: {self.model}` is of no use: the judge has a model of its own; name one of the two"
            )
        if not own and self.model is None:
            raise ValueError(
                "name what judges steps: `model`, a reward model or with `judge` a language model of the graph"
            )
        return self
