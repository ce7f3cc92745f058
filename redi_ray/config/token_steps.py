"""Named steps on parts of samples: the first wrong step anew, and what models say of each token."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from redi_ray.config.group_steps import Judged
from redi_ray.config.locators import Form
from redi_ray.config.scorer_base import Grain
from redi_ray.config.section import Strict


class RectifySettings(Strict):
    """Which steps are sampled anew, and which of the new ones become pairs."""

    verdicts: list[Judged] = ["wrong"]
    """Samples that are mended."""
    labels: list[str] = Field(["wrong", "neutral"], min_length=1)
    """The first step that the locator has given one of these labels is the wrong one."""
    form: Form | None = None
    """How a text is split into steps; null takes that of the step `locate`, else looks at each text."""
    max_pairs: int = Field(2, ge=1)
    """Pairs of a problem at the most, those of its wrong samples in turn."""


class ContrastSettings(Strict):
    """How two models score the tokens of samples."""

    beta: float = Field(1.0, gt=0)
    """A token's value is softmax((1 + beta) z_right - beta z_wrong) at that token, z being the two models' logits."""
    verdicts: list[Judged] = ["wrong"]
    """Samples that are scored; the others have no values."""

    @field_validator("verdicts")
    @classmethod
    def _some(cls, value: list[Judged]) -> list[Judged]:
        if not value:
            raise ValueError("name at least one verdict, or nothing is scored")
        return value


class CriticalSettings(Strict):
    """Which samples are gone on from, token by token, and what makes a token critical."""

    max_samples: int = Field(50, ge=1)
    """Wrong samples that are looked at, drawn by chance. Each costs its number of tokens times `samples_per_round`."""
    max_tokens_each: int = Field(512, ge=1)
    """Longer samples are left out."""
    later: int = Field(3, ge=0)
    """A token is critical behind which no continuation is right, and behind no later one more than so many; of several the
    first. The paper's 3 belongs to 64 continuations."""
    seed: int = 0
    """Of the draw."""


class LogpsSettings(Strict):
    """Which samples a model's log-probs are taken of."""

    verdicts: list[Judged] | None = Field(None, min_length=1)
    """Those with one of these verdicts; null: all."""


class LogpsStep(LogpsSettings):
    """A column with the log-prob of each token by a model, at temperature 1: of the one that sampled them, `sampler_logps`."""

    do: Literal["logps"]
    """The kind of step."""
    of: str
    """Traces, with verdicts or without."""
    model: str | None = None
    """The model. Null takes those that the engine had when it sampled, which `generate.logprobs` keeps: no pass is needed."""

    @property
    def grain(self) -> Grain:
        """Of the column."""
        return "token"

    @property
    def settings(self) -> LogpsSettings:
        """What of it decides the values, beside the model."""
        return LogpsSettings(verdicts=self.verdicts)


class SoftTargetSettings(Strict):
    """What is kept of a teacher's distributions over the next token, and of which samples."""

    top_k: int = Field(64, ge=1)
    """The teacher's likeliest tokens, each with its log-prob; all others together are one number more. A token takes 4 top_k + 2
    bytes, 1 more for each further 65,536 tokens of the vocabulary."""
    verdicts: list[Judged] | None = Field(None, min_length=1)
    """Samples with one of these verdicts; null: all."""


class SoftTargetsStep(SoftTargetSettings):
    """A column of a teacher's distributions over the next token, at each token of samples, at temperature 1: what `forward_kl`,
    `reverse_kl`, `js` and `soft_redi` learn from, as `token_columns: {soft_targets: STEP}` of a step `groups`."""

    do: Literal["soft_targets"]
    """The kind of step."""
    of: str
    """Traces, with verdicts or without."""
    model: str
    """The teacher: a model of the graph, such as that of a step `model`."""

    @property
    def grain(self) -> Grain:
        """Of the column."""
        return "distribution"

    @property
    def settings(self) -> SoftTargetSettings:
        """What of it decides the values, beside the model."""
        return SoftTargetSettings(top_k=self.top_k, verdicts=self.verdicts)


class CheckSettings(Strict):
    """How far the numbers of two columns may be apart (nats a token)."""

    max_difference: float = Field(1e-3, gt=0)
    """At any token. Between vLLM and the pass that trains 3e-6 was seen on a CPU in float32; bfloat16 needs more."""
    mean_difference: float | None = Field(None, gt=0)
    """Of all tokens in the mean; null asks for nothing."""


class CheckStep(CheckSettings):
    """Whether two columns say the same of each token, such as the engine's log-probs of its samples and those of the pass that
    trains. Where they do not, one of them is of another model, tokenizer, prompt or precision, and the run ends."""

    do: Literal["check"]
    """The kind of step."""
    of: str
    """The samples that both columns are of, verified."""
    column: str
    """Column with a number for each token."""
    to: str
    """The column that it is held against."""

    @property
    def settings(self) -> CheckSettings:
        """What of it decides the outcome, beside the columns."""
        return CheckSettings(max_difference=self.max_difference, mean_difference=self.mean_difference)


class ContrastStep(ContrastSettings):
    """A column with a number for each token: small where a model of right samples and one of wrong samples differ most."""

    do: Literal["contrast"]
    """The kind of step."""
    of: str
    """Verified traces."""
    right: str
    """The model trained on right samples."""
    wrong: str
    """The model trained on wrong ones."""

    @property
    def grain(self) -> Grain:
        """Of the column."""
        return "token"

    @property
    def settings(self) -> ContrastSettings:
        """What of it decides the values, beside the models."""
        return ContrastSettings(**{name: getattr(self, name) for name in ContrastSettings.model_fields})
