"""Settings of scorers: what a step `score` says about samples, as a column. The functions are in `redi_ray.data.score`."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from redi_ray.config.curation import TraceFormat
from redi_ray.config.scorer_base import REWARD, Form, Grain, ScorerSettings
from redi_ray.config.self_verification import SelfVerification
from redi_ray.config.trace_rewards import (
    PassRateScorer,
    SaidScorer,
    SimilarityScorer,
    StepRewardsScorer,
    TraceRewardScorer,
)


class LengthScorer(ScorerSettings):
    """How long the model's own turns are together."""

    name: Literal["length"]
    unit: Literal["characters", "tokens"] = "characters"
    """Tokens are those of the base model, without what its template adds."""

    @property
    def needs_tokenizer(self) -> bool:
        return self.unit == "tokens"


class RuleScorer(ScorerSettings):
    """A number for samples that a pattern matches, or whose form is complete; or for the very parts that it matches."""

    name: Literal["rule"]
    pattern: str | None = None
    r"""A regular expression of Python, searched for in the answer; `.` matches line ends, too."""
    format: TraceFormat | None = None
    """Asks for a complete form of the answer instead."""
    value: float = 1.0
    """Of what fulfils it; a sample that does not has 0."""
    spans: bool = False
    """The column holds each match in the model's own turns, with this value, in place of a number for the whole."""

    @property
    def grain(self) -> Grain:
        return "span" if self.spans else "row"

    @property
    def reads_prompt(self) -> bool:
        return self.format is not None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> RuleScorer:
        if (self.pattern is None) == (self.format is None):
            raise ValueError("set either `pattern` or `format`")
        if self.spans and self.pattern is None:
            raise ValueError("only a `pattern` says which parts it means: `spans` needs one")
        return self


class ImportedScorer(ScorerSettings):
    """Numbers from your own files, by the samples' ids."""

    name: Literal["imported"]
    paths: list[str] = Field(min_length=1)
    """Parquet, Arrow, JSON or CSV, local or on S3, in any order; folders too."""
    trace_id: str = "trace_id"
    """Column of the samples' ids, as their table has them."""
    value: str = "value"
    """Column of the numbers; true and false are 1 and 0. A sample that no row names has none."""


class PassedScorer(ScorerSettings):
    """The share of its problem's tests that a sample passes. Null where it has none, or where they were not all run."""

    name: Literal["passed"]


class RetrievalScorer(ScorerSettings):
    """What the query in an answer finds in a corpus by BM25.

    The samples' `answer` names what should be found: an id, or a JSON list of ids.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"bad_format", "bonus"})
    """See `redi_ray.config.identity`."""

    name: Literal["retrieval"]
    corpus: list[str] = []
    """Files of documents: Parquet, Arrow, CSV or JSON, local or on S3; folders too. None: the catalogue of the built-in world of
    queries."""
    id: str = "id"
    """Column of the documents' ids."""
    text: str = "text"
    """Column of what is searched."""
    measure: Literal["ndcg", "recall", "reciprocal_rank"] = "ndcg"
    """Of the documents found."""
    k: int = Field(1000, ge=1)
    """How many found documents count. Rec-R1 trains with 1,000 and evaluates with 100."""
    distinct: bool = True
    """An id that is named twice counts once; false counts it twice in the best that could be found, as Rec-R1 does."""
    format: bool = True
    """The query stands in the form of Rec-R1: `<think>...</think><answer>{"query": "..."}</answer>`. An output of another form
    has `bad_format`, one that finds something `bonus` more than its measure, any other 0. False takes the whole answer for the
    query."""
    bad_format: float = -2.0
    """Rec-R1's is -2; for the bare measure in an evaluation take 0, and `bonus: 0`."""
    bonus: float = 0.1
    """Rec-R1's is 0.1."""
    k1: float = Field(1.2, ge=0)
    """How soon more occurrences of a word stop to count."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long documents are held back."""


BY_STEPS = ("steps", "worst_step")
"""Where a reward model is read that splits a text into steps."""


class RewardScorer(ScorerSettings):
    """What a reward model says of each sample, of each step of its last turn, or of each token: sigmoid(v) where its objective
    makes that a probability, else v; of tokens always v."""

    name: Literal["reward"]
    model: str
    """A training of this graph whose objective is one on values (`bradley_terry`, `outcome_bce`, `oreal_rm`, `step_bce`,
    `step_mse`), or a folder (local with a `/` in it, s3://) of a classification model with one label."""
    at: Literal["last", "worst_step", "steps", "tokens"] = "last"
    """`last`: a number for each sample, by its last token (by the mean over its tokens where it was trained so). `steps`: a
    span for each step of the last turn, with the number at its last token, labelled `right` from a half on, else `wrong`; without
    a label where a half means nothing, as of `bradley_terry` or of a folder that was not trained here.
    `worst_step`: a number for each sample, the lowest of its steps, for models that were trained on steps. `tokens`: a number for
    each token of the model's own turns."""
    form: Form | None = None
    """How a text is split into steps, for `steps` and `worst_step`; null looks at each text."""

    @property
    def grain(self) -> Grain:
        grains: dict[str, Grain] = {"last": "row", "worst_step": "row", "steps": "span", "tokens": "token"}
        return grains[self.at]

    @property
    def reads_prompt(self) -> bool:
        return True

    @property
    def folder(self) -> str | None:
        """Where the model lies, if it is none of the graph."""
        return self.model if "/" in self.model else None

    @property
    def taken(self) -> dict[str, str]:
        return {} if self.folder else {REWARD: self.model}

    def identity(self) -> dict[str, Any]:
        """What of the settings decides the numbers; what the model is, its step's key or its folder's content says."""
        return self.model_dump(exclude={"model"})

    @model_validator(mode="after")
    def _form_for_steps(self) -> RewardScorer:
        if self.form is not None and self.at not in BY_STEPS:
            raise ValueError(f"form: only {' and '.join(f'`at: {at}`' for at in BY_STEPS)} split texts")
        return self


class SelfVerificationScorer(ScorerSettings):
    """The attempts and verifications of samples that verify themselves, a span each: +1 for a right attempt and a verification
    that says the truth about the attempt before it, else -1. Labels are `R+`, `R-`, `V+`, `V-`, with ` changed` behind them
    where an attempt is right and the one before was not, or the other way round, and ` of right` behind verifications of
    right attempts.

    As S2R has it: a sample whose parts do not take turns, or that has more than ten, has none; one with a right attempt ends
    behind the verification of the first that is confirmed, else of the last right one.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"at"})
    """See `redi_ray.config.identity`."""

    name: Literal["self_verification"]
    form: SelfVerification = SelfVerification()
    """What stands between the parts."""
    at: Literal["parts", "outcome"] = "parts"
    """`parts`: these spans. `outcome`: a number for each sample, +1 where the last attempt that stays is right, else -1: its
    reward, the verdict being that of the whole text."""

    @property
    def grain(self) -> Grain:
        return "span" if self.at == "parts" else "row"

    @property
    def reads_answers(self) -> bool:
        return True


Scorer = Annotated[
    LengthScorer
    | RuleScorer
    | ImportedScorer
    | PassedScorer
    | RetrievalScorer
    | RewardScorer
    | SimilarityScorer
    | StepRewardsScorer
    | PassRateScorer
    | SaidScorer
    | TraceRewardScorer
    | SelfVerificationScorer,
    Field(discriminator="name"),
]
