"""Named steps beside the standard line: what a config may add to the graph, and what is repeated.

A step is a section of the config under a name of its own: `own: {do: sample, model: sft, samples_per_round: 16}` samples as
`generate` says, but for what the step says itself. How steps fit together is checked by `redi_ray.pipeline.graph`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from redi_ray.config.curation import Difficulty
from redi_ray.config.data import ProblemsStep
from redi_ray.config.dialogues import HandOverStep, OpeningsStep
from redi_ray.config.grades import GradeStep
from redi_ray.config.group_steps import GroupsStep, Judged, ScoreStep, TokenWeights
from redi_ray.config.imports import ImportSettings
from redi_ray.config.locators import Form, LocateStep
from redi_ray.config.mixture import MixStep
from redi_ray.config.paraphrase import ParaphraseStep
from redi_ray.config.perturb import PerturbStep, RobustnessStep
from redi_ray.config.posed import PoseStep
from redi_ray.config.reflection import ReflectStep
from redi_ray.config.section import Strict
from redi_ray.config.selection import Balance, DiverseProblems, KeptSamples, RandomProblems, Rounds
from redi_ray.config.self_verification import ExamineStep, SelfVerifyStep
from redi_ray.config.step_judges import AskStep, CompareStep, StateStep
from redi_ray.config.token_steps import (
    CheckStep,
    ContrastStep,
    CriticalSettings,
    LogpsStep,
    RectifySettings,
    SoftTargetsStep,
)
from redi_ray.config.training_steps import MergeStep, ModelStep, TrainStep

BY_COLUMN = "scores"
"""What the kind `select` calls its column."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
"""Of a step: it names folders."""


class Differing(BaseModel):
    """A step whose further keys replace those of a section of the config."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def changes(self) -> dict[str, Any]:
        """What differs from the section."""
        return dict(self.model_extra or {})


class ImportStep(ImportSettings):
    """What people have: preferences, answers, labelled answers, samples with rewards, from files, S3 or the hub. It takes
    nothing, and gives groups to train on."""

    do: Literal["import"]
    """The kind of step."""


class SamplingStep(Differing):
    """What samples from a model of the graph, with vLLM; further keys replace those of `generate`."""

    @model_validator(mode="after")
    def _no_kind(self) -> SamplingStep:
        if "kind" in self.changes:
            raise ValueError(
                "kind: a step samples from a model of the graph, with vLLM; an endpoint belongs to `generate`"
            )
        return self


class SampleStep(SamplingStep):
    """Traces of a model of the graph, sampled with vLLM; further keys replace those of `generate`."""

    do: Literal["sample"]
    """The kind of step."""
    problems: str = "problems"
    """Problems."""
    model: str
    """The model that is asked."""


class RectifyStep(SamplingStep):
    """Pairs of one step each: from what stands before the first wrong step of a sample a model goes on, and where it then gets
    the answer right its first step is chosen, the wrong one rejected. `samples_per_round` continuations of each, as `generate`
    says; further keys replace those of `generate`."""

    do: Literal["rectify"]
    """The kind of step."""
    of: str
    """Verified traces."""
    at: str
    """Column of spans, one for each step of a sample, whose labels say which are wrong."""
    model: str
    """The model that goes on."""
    verdicts: list[Judged] = RectifySettings().verdicts
    """Samples that are mended."""
    labels: list[str] = Field(RectifySettings().labels, min_length=1)
    """The first step that the locator has given one of these labels is the wrong one."""
    form: Form | None = None
    """How a text is split into steps; null takes that of the step `locate`, else looks at each text."""
    max_pairs: int = Field(RectifySettings().max_pairs, ge=1)
    """Pairs of a problem at the most, those of its wrong samples in turn."""

    @model_validator(mode="after")
    def _one_turn(self) -> RectifyStep:
        if self.changes.get("tools") is not None:
            raise ValueError("tools: a step that mends samples goes on in the turn that went wrong, without tools")
        return self

    @property
    def settings(self) -> RectifySettings:
        """What of it is not how the model goes on."""
        return RectifySettings(**{name: getattr(self, name) for name in RectifySettings.model_fields})


class CriticalStep(SamplingStep):
    """How small a column's numbers are where wrong samples are lost (Critical Tokens Matter, arXiv 2411.19943): from behind every
    token of some of them a model goes on, `samples_per_round` times (the paper: 64), as `generate` says; further keys replace
    those of `generate`."""

    do: Literal["critical"]
    """The kind of step."""
    of: str
    """Verified traces."""
    column: str
    """Column with a number for each token of theirs, small where it is critical, as `contrast` makes it."""
    model: str
    """The model that goes on."""
    max_samples: int = Field(CriticalSettings().max_samples, ge=1)
    """Wrong samples that are looked at, drawn by chance. Each costs its number of tokens times `samples_per_round`."""
    max_tokens_each: int = Field(CriticalSettings().max_tokens_each, ge=1)
    """Longer samples are left out."""
    later: int = Field(CriticalSettings().later, ge=0)
    """A token is critical behind which no continuation is right, and behind no later one more than so many."""
    seed_of_draw: int = CriticalSettings().seed
    """Of the draw of samples."""

    @model_validator(mode="after")
    def _one_round(self) -> CriticalStep:
        if self.changes.get("tools") is not None:
            raise ValueError("tools: what goes on is the answer that went wrong, without tools")
        if self.changes.get("max_rounds", 1) != 1:
            raise ValueError("max_rounds: every token has as many continuations, in one round; set samples_per_round")
        return self

    @property
    def settings(self) -> CriticalSettings:
        """What of it is not how the model goes on."""
        names = ("max_samples", "max_tokens_each", "later")
        return CriticalSettings(seed=self.seed_of_draw, **{name: getattr(self, name) for name in names})


class VerifyStep(Differing):
    """A verdict for every trace; further keys replace those of `verify`."""

    do: Literal["verify"]
    """The kind of step."""
    of: str
    """Traces."""


class SelectStep(Strict):
    """Some of the traces; set one of `difficulty`, `rounds`, `random`, `diverse`, `balance` and `keep`. All but `keep` take
    problems, with all their traces; `keep` takes single samples."""

    do: Literal["select"]
    """The kind of step."""
    of: str
    """Verified traces."""
    difficulty: Difficulty | None = None
    """Problems of some pass rates."""
    rounds: Rounds | None = None
    """Problems by the rounds of sampling that they took."""
    random: RandomProblems | None = None
    """Problems by chance."""
    diverse: DiverseProblems | None = None
    """Problems that differ, by embeddings of their texts."""
    balance: Balance | None = None
    """As many problems of each reference answer."""
    keep: KeptSamples | None = None
    """Samples by a column, or by chance."""
    by: str | None = None
    """With `keep`: a column with a number for each sample. Else verified traces whose pass rates and rounds count; null takes
    those of `of`."""

    @property
    def wanted(self) -> Difficulty | Rounds | RandomProblems | DiverseProblems | Balance | KeptSamples:
        """The one that is set."""
        found = self.difficulty or self.rounds or self.random or self.diverse or self.balance or self.keep
        assert found is not None
        return found

    @property
    def inputs(self) -> dict[str, str]:
        """What it takes: the kind's word for it -> a step's name."""
        counted = self.random or self.diverse or self.keep
        named = {"by" if self.keep is None else BY_COLUMN: self.by, "like": None if counted is None else counted.like}
        return {"of": self.of} | {role: name for role, name in named.items() if name is not None}

    @model_validator(mode="after")
    def _one_rule(self) -> SelectStep:
        rules = (self.difficulty, self.rounds, self.random, self.diverse, self.balance, self.keep)
        if sum(rule is not None for rule in rules) != 1:
            raise ValueError(
                "set one of `difficulty`, `rounds`, `random`, `diverse`, `balance` and `keep`; a second rule is a second step"
            )
        if self.by is not None and (self.random is not None or self.diverse is not None):
            raise ValueError("`by` is for difficulty, rounds and `keep`; chance and embeddings need no traces to count")
        if self.keep is not None and self.by is None and (self.keep.order != "random" or self.keep.bounded):
            raise ValueError(
                "`keep` goes by a column: name a step `score` in `by`, or set `order: random` without bounds"
            )
        if self.difficulty is not None and self.difficulty.buckets:
            raise ValueError("difficulty.buckets cap what is picked, so they belong to a step `pairs` or to `curate`")
        return self


class PairsStep(Differing):
    """Positives and pairs of verified traces; further keys replace those of `curate`."""

    do: Literal["pairs"]
    """The kind of step."""
    of: str
    """Verified traces."""
    chosen_of: str | None = None
    """Verified traces whose right ones are chosen where `of` has no usable right trace of a problem, such as the teacher's. Their
    wrong traces are never rejected."""
    weights: TokenWeights | None = None
    """What each token of a pair weighs; null weighs them alike. Examples, which `sft` learns from, are not weighed."""


AnyStep = Annotated[
    ImportStep
    | SampleStep
    | ProblemsStep
    | MixStep
    | VerifyStep
    | GradeStep
    | SelectStep
    | PairsStep
    | TrainStep
    | MergeStep
    | ModelStep
    | ScoreStep
    | LocateStep
    | GroupsStep
    | ExamineStep
    | SelfVerifyStep
    | RectifyStep
    | CriticalStep
    | ContrastStep
    | LogpsStep
    | SoftTargetsStep
    | CheckStep
    | AskStep
    | StateStep
    | PoseStep
    | OpeningsStep
    | HandOverStep
    | CompareStep
    | ReflectStep
    | PerturbStep
    | ParaphraseStep
    | RobustnessStep,
    Field(discriminator="do"),
]


class Repeat(Strict):
    """Steps that run several times, each round on what the one before has made."""

    steps: list[str] = Field(min_length=1)
    """Names of `steps`. Elsewhere a name means its last round; `name@1` is the first."""
    times: int = Field(ge=1)
    """Rounds."""
    carry: dict[str, str] = Field(min_length=1)
    """What the steps call it -> the repeated step that takes its place from the second round on."""
