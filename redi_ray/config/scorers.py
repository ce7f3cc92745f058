"""Settings of scorers: what a step `score` says about samples, as a column. The functions are in `redi_ray.data.score`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from redi_ray.config.curation import TraceFormat
from redi_ray.config.data import Strict

REWARD, MODEL, COLUMN, RIGHT = "reward", "model", "column ", "right"
"""What a step `score` calls what it takes beside samples: a reward model, a language model, a column (before its name), and
verified traces that say how often samples lead to the right answer."""
Grain = Literal["row", "span", "token"]
Form = Literal["headers", "equations", "numbered", "paragraphs", "sentences"]
"""Of a text with steps; what each means is said in `redi_ray.text.steps`."""


class ScorerSettings(Strict):
    """What all have."""

    @property
    def grain(self) -> Grain:
        """Of the column (`redi_ray.schemas.column`)."""
        return "row"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the base model's tokenizer is asked."""
        return False

    @property
    def reads_prompt(self) -> bool:
        """Whether `model.prompt` decides what it says."""
        return False

    @property
    def taken(self) -> dict[str, str]:
        """What it takes of the graph beside the samples: the kind's word for it -> a step's name."""
        return {}


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
    value: float = Field(1.0, allow_inf_nan=False)
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
    bad_format: float = Field(-2.0, allow_inf_nan=False)
    """Rec-R1's is -2; for the bare measure in an evaluation take 0, and `bonus: 0`."""
    bonus: float = Field(0.1, allow_inf_nan=False)
    """Rec-R1's is 0.1."""
    k1: float = Field(1.2, ge=0)
    """How soon more occurrences of a word stop to count."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long documents are held back."""


class RewardScorer(ScorerSettings):
    """What a reward model says of each sample, of each step of its last turn, or of each token: sigmoid(v) where its objective
    makes that a probability, else v; of tokens always v."""

    name: Literal["reward"]
    model: str
    """A training of this graph whose objective is one on values (`bradley_terry`, `outcome_bce`, `oreal_rm`, `step_bce`,
    `step_mse`), or a folder (local with a `/` in it, s3://) of a classification model with one label."""
    at: Literal["last", "steps", "tokens"] = "last"
    """`last`: a number for each sample, by its last token (by the mean over its tokens where it was trained so). `steps`: a
    span for each step of the last turn, with the number at its last token, labelled `right` from a half on, else `wrong`.
    `tokens`: a number for each token of the model's own turns."""
    form: Form | None = None
    """How a text is split into steps, for `steps`; null looks at each text."""

    @property
    def grain(self) -> Grain:
        grains: dict[str, Grain] = {"last": "row", "steps": "span", "tokens": "token"}
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

    @model_validator(mode="after")
    def _form_for_steps(self) -> RewardScorer:
        if self.form is not None and self.at != "steps":
            raise ValueError("form: only `at: steps` splits texts")
        return self


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
    def _finite(self) -> StepRewardsScorer:
        if self.trajectory in self.columns:
            raise ValueError(
                f"trajectory: {self.trajectory} is a column of steps here; name one with a number a sample"
            )
        numbers = [number for labels in self.columns.values() if labels != "value" for number in labels.values()]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"columns: labels stand for finite numbers, got {numbers}")
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


class TraceRewardScorer(ScorerSettings):
    """A number for each sample of a column of steps, to select by: the mean over the steps of its thinking plus `alpha` times the
    number at the response's last step, which is what the head says of the whole (ReasonFlux-PRM)."""

    name: Literal["trace_reward"]
    column: str
    """Column of spans with a number for each step, such as a scorer `reward` with `at: steps` makes it."""
    alpha: float = Field(1.0, allow_inf_nan=False)
    """Weight of the whole; 0 leaves it out. Else a sample without a response has no number."""

    @property
    def taken(self) -> dict[str, str]:
        return {COLUMN + self.column: self.column}


Scorer = Annotated[
    LengthScorer
    | RuleScorer
    | ImportedScorer
    | RetrievalScorer
    | RewardScorer
    | SimilarityScorer
    | StepRewardsScorer
    | PassRateScorer
    | TraceRewardScorer,
    Field(discriminator="name"),
]
