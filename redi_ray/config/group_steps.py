"""Named steps on samples: columns that say more about them, and groups with rewards made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from redi_ray.config.scorer_base import Grain
from redi_ray.config.scorers import Scorer
from redi_ray.config.section import Strict

SOFT_TARGETS = "soft_targets"
"""The token column that holds a teacher's distributions, as objectives call it."""
Judged = Literal["correct", "wrong", "no_answer", "timeout", "gold_unparseable", "error"]
"""A verdict."""


class ScoreStep(Strict):
    """A column: what a scorer says of each sample."""

    do: Literal["score"]
    """The kind of step."""
    of: str
    """Traces, with verdicts or without."""
    scorer: Scorer
    """Which one, and its settings: `length`, `rule`, `imported`, `retrieval`, `reward`, `self_verification`, `similarity`,
    `step_rewards`, `pass_rate`, `said` or `trace_reward`."""

    @property
    def grain(self) -> Grain:
        """Of the column."""
        return self.scorer.grain


class TokenWeights(Strict):
    """What each token of a sample weighs, by a column with a number for each of its tokens."""

    column: str
    """The column."""
    side: Literal["rejected", "chosen", "both"] = "rejected"
    """Which members it weighs; every token of the others weighs 1."""
    use: Literal["1 - value", "value"] = "1 - value"
    """The weight of a token. cDPO's is `1 - value` on the rejected side: where the value is small, the token is critical."""


class TokenColumn(Strict):
    """A number for each token of a sample, or a teacher's distribution, for objectives that read it by name."""

    LATER: ClassVar[frozenset[str]] = frozenset({"side"})
    """See `redi_ray.config.identity`."""

    column: str
    """The column."""
    side: Literal["both", "chosen"] = "both"
    """Of `soft_targets`: whose. `chosen` leaves those of side -1 without, as `soft_redi` asks, so that no teacher has to score
    them."""
    use: Literal["value", "running mean"] = "value"
    """The numbers themselves, or at each token the mean of those from the sample's first to its own: OREAL's, of a token reward
    model's logits."""


class TurnFilter(Strict):
    """Which traces of several turns may be learnt from: those in which every turn of the model's but the last one calls a tool,
    which alone answers it, and the last one ends the trace. What goes is counted by its reason."""

    least_calls: int = Field(1, ge=0)
    """Calls at the least."""
    most_turns: int | None = Field(None, ge=1)
    """The model's own turns at the most."""
    error_words: list[str] = ["error"]
    """A trace goes whose last output holds one of these, in any case of letters."""
    cut_off: bool = False
    """Whether traces may stay that reached a limit, of tokens or of turns."""


class Repeats(Strict):
    """How often a problem is learnt from."""

    below: float = Field(gt=0, le=1)
    """Of problems that are solved less often than this (and not less often than the entry before says)."""
    times: int = Field(ge=1)
    """Groups of each. Where members are picked (`per_side`, `most`, `most_wrong`), they are picked anew for each group."""


class GroupSettings(Strict):
    """How samples become groups. A group is all of a problem's samples that stay; its members have rewards and sides."""

    LATER: ClassVar[frozenset[str]] = frozenset(
        {"repeats", "token_columns", "span_baseline", "span_factors", "labels", "margin", "advantages", "cut"}
    )
    """See `redi_ray.config.identity`."""

    rewards: dict[Judged, float] = {"correct": 1.0, "wrong": 0.0}
    """Verdict -> reward; samples with another one are left out. `{}` admits all, and rewards are then what `scores` say."""
    scores: dict[str, float] = {}
    """Column with a number for each sample -> its weight: what is added to the reward. A sample without a number is left out."""
    advantages: Literal["leave_one_out", "group_mean", "group_scaled"] | None = None
    """What is kept as a member's reward instead: its advantage over all samples of the problem that have a reward, before any are
    picked (the formulas are those of the objective `advantage`); for objectives with `baseline: none`, which take it as it is.
    Where members are picked (`per_side`, `most`), a group's own mean says nothing of the problem. Sides are those of rewards."""
    spans: str | None = None
    """Column with parts of each sample, which become the members' weighted spans."""
    cut: bool = False
    """Each sample ends behind the last span of its column, as if the model had ended it there: what comes behind is left out, and
    the token that closes the turn belongs to that span. S2R's samples end so, behind what is confirmed."""
    labels: dict[str, float | Literal["value"]] | None = None
    """Label of a span -> its value, or `value` for the one that the column has: `{right: 1, wrong: 0}` makes rewards of labelled
    steps. Spans with another label, or without a value, are left out, and so are samples without any. Null takes all by their own
    values."""
    span_baseline: int | None = Field(None, ge=1)
    """From each span's value the mean is taken of the spans at the same place in samples of problems that are solved as often, if
    there are so many of them at the least (S2R's process rewards: 10); null takes nothing."""
    span_factors: dict[str, float] = {}
    """Label of a span -> what its value is multiplied by, behind the baseline; samples without spans are then left out. S2R
    doubles the rewards of attempts that change what is right, and of verifications of right ones (the labels of the scorer
    `self_verification`)."""
    weights: TokenWeights | None = None
    """What each token of a member weighs; null weighs them alike."""
    token_columns: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], TokenColumn] = {}
    """What an objective reads of each token, by the name that it reads it by (`sampler_logps`, `reward_mean`) -> the column, as a
    name or with what becomes of its numbers. `soft_targets` is that of a step `soft_targets`. A sample without numbers is left
    out."""
    frequent_answers: float | None = Field(None, gt=0, le=1)
    """Of the samples that have a reward one stays of each of the most frequent answers, until these are the answers of so large a
    share of them; after the first, an answer counts that several samples give. Null keeps all samples."""
    threshold: float = 0.0
    """The side of a member is +1 where its reward is above, else -1."""
    min_rate: float = Field(0.0, ge=0, le=1)
    """Problems solved less often are left out; shares of right samples are those of `difficulty`."""
    max_rate: float = Field(1.0, ge=0, le=1)
    """Problems solved more often are left out."""
    both_sides: bool = False
    """Leave out groups whose members are all on one side."""
    least: int = Field(2, ge=1)
    """Smaller groups are left out."""
    most: int | None = Field(None, ge=1)
    """Members of a group at the most, picked by the seed; never so that wrong ones are more than `most_wrong` lets be."""
    per_side: int | None = Field(None, ge=1)
    """Members of each side at the most, picked by the seed before all else is; 1 with `both_sides` makes pairs."""
    repeats: list[Repeats] = []
    """How many groups a problem gives by how often it is solved; one solved as often as the last entry says, or more often, is
    left out. OREAL's: `[{below: 0.2, times: 6}, {below: 0.6, times: 4}, {below: 0.8, times: 2}]`. Empty: one of every problem."""
    most_wrong: float | None = Field(None, gt=0)
    """Members with side -1 for each with side +1, at the most, picked by the seed before `most` is."""
    margin: float | None = Field(None, gt=0)
    """Makes pairs of rewards: a problem's sample with the highest reward, on side +1 whatever `threshold` says, and the one with
    the lowest, where the two differ by at least this; of equal ones the seed picks. It is done behind all other picking."""
    turns: TurnFilter | None = None
    """Leaves out traces whose turns are not as they should be."""
    seed: int = 42
    """Order of the output, and what is picked."""

    @field_validator("token_columns", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A column may stand for itself."""
        if not isinstance(value, Mapping):
            return value
        if "ref_logps" in value:
            raise ValueError("ref_logps are made by the training itself, of the model that it starts from")
        return {name: {"column": of} if isinstance(of, str) else of for name, of in value.items()}

    @field_validator("token_columns")
    @classmethod
    def _numbers_of_all(cls, value: dict[str, TokenColumn]) -> dict[str, TokenColumn]:
        for name, column in value.items():
            if name != SOFT_TARGETS and column.side != "both":
                raise ValueError(f"{name}: objectives read it on both sides, so `side` is for {SOFT_TARGETS} alone")
            if name == SOFT_TARGETS and column.use != "value":
                raise ValueError(f"{name} holds distributions, of which there is no {column.use}: leave `use` out")
        return value

    @model_validator(mode="after")
    def _fits(self) -> GroupSettings:
        if not self.rewards and not self.scores:
            raise ValueError("there is no reward: name verdicts in `rewards`, or columns in `scores`")
        if self.labels is not None and (self.spans is None or not self.labels):
            raise ValueError("labels: give some of those of the column that `spans` names their values")
        if (self.span_baseline is not None or self.span_factors) and self.spans is None:
            raise ValueError("span_baseline and span_factors change the values of spans: name their column in `spans`")
        if self.cut and (self.spans is None or self.weights is not None or self.token_columns):
            raise ValueError(
                "cut: samples end behind the last of the spans that `spans` names, and `weights` and `token_columns` are of "
                "whole ones: name the one, and leave the others out"
            )
        if self.min_rate > self.max_rate:
            raise ValueError(f"min_rate {self.min_rate} is larger than max_rate {self.max_rate}")
        if self.margin is not None and (self.least != 2 or self.repeats):
            raise ValueError(
                f"margin makes one pair of a problem: least must be 2, and repeats empty, got {self.least}"
            )
        if self.per_side is not None and 2 * self.per_side < self.least:
            raise ValueError(
                f"per_side {self.per_side} leaves at most {2 * self.per_side} members, and least is {self.least}"
            )
        spread = max(self.rewards.values(), default=0.0) - min(self.rewards.values(), default=0.0)
        if self.margin is not None and not self.scores and spread < self.margin:
            raise ValueError(f"margin {self.margin:g} is more than the rewards differ by, {spread:g}")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most {self.most} is less than least {self.least}, so that no group would be left")
        borders = [entry.below for entry in self.repeats]
        if borders != sorted(set(borders)):
            raise ValueError(f"repeats: the values of `below` must rise, got {borders}")
        return self


class GroupsStep(GroupSettings):
    """Groups of a problem's samples, with rewards."""

    do: Literal["groups"]
    """The kind of step."""
    of: str
    """Verified traces."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """Problems with a longer prompt are left out; null takes `curate.max_prompt_tokens`."""
    max_response_tokens: int | None = Field(None, ge=1)
    """Longer samples are left out; null takes `curate.max_response_tokens`."""

    @property
    def columns(self) -> dict[str, Grain]:
        """Column -> the grain that it must have."""
        found: dict[str, Grain] = dict.fromkeys(self.scores, "row")
        return found if self.spans is None else {**found, self.spans: "span"}

    def word_of(self, column: str) -> str:
        """What names a column."""
        return "spans" if column == self.spans else "scores"

    @property
    def settings(self) -> GroupSettings:
        """What of it decides which groups there are, beside the limits."""
        return GroupSettings(**{name: getattr(self, name) for name in GroupSettings.model_fields})
