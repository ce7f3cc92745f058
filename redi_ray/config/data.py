"""Settings of sources and sets, and of the data stage generate. (Verification: `answers.py`, curation: `curation.py`.)"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.frontier import Frontier
from redi_ray.config.loops import LoopSettings
from redi_ray.config.mixture import MixSource, SourceSettings
from redi_ray.config.names import BASE
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.config.section import Strict
from redi_ray.config.stored_logps import logprobs_fault
from redi_ray.config.tools import ToolSettings
from redi_ray.config.worlds import ArithmeticSource, ExerciseSet, OrderSet, QuerySource, ToolArithmeticSource


class Columns(Strict):
    """Where a row keeps what; dots reach into nested columns and lists (`model_a.solution`, `generations.0`)."""

    LATER: ClassVar[frozenset[str]] = frozenset({"tests", "entry_point", "test_setup"})
    """See `redi_ray.config.identity`."""

    problem_id: str | None = "problem_id"
    """Null, or not in the row: the id is a hash of the problem's text. An id that names another problem in another file is
    told apart by a hash behind it; inside one file it is a reject."""
    problem: str = "problem"
    """The problem's text, or a chat: its last user turn, with the questions and answers before it as the model then sees them."""
    answer: str = "answer"
    """The reference answer (text, a number, true or false, a list of one), or a text that `verify.answers.gold_extract` can
    read it from. NaN and texts such as `N/A`, `None` or `proof` are none."""
    source: str | None = "source"
    """Where the problem comes from, if the rows say so."""
    tests: str | None = None
    """Tests of a programming problem, by which its traces are judged (`verify.tests`): a list of {stdin, stdout} or {input,
    output}, of {args, expected}, or of assertions; APPS' and TACO's `input_output`, HumanEval's `test`; as they stand or as
    JSON. A problem with tests needs no answer."""
    entry_point: str | None = None
    """The function that tests call, where they do not say it themselves."""
    test_setup: str | None = None
    """Code that assertions need, such as imports: text, or its lines."""
    completion: str | list[str] | None = None
    """Traces in the rows: a column of text, a column of lists of texts, or several such columns; a chat stands for its one
    assistant turn, and where it is the problem's own column for what follows the problem. Null: there are none."""
    reasoning: str | list[str] | None = None
    """The thought of each trace where it stands apart from the answer, shaped like `completion`: both become one text, the
    thought in `<think>` first. A null leaves the completion as it is."""
    label: str | list[str] | None = None
    """Whether each trace is correct according to the data, shaped like `completion`: true or false, 1 or 0, yes or no, correct
    or wrong; null and NaN are no label, and a trace with any other value is rejected."""
    votes: dict[str, str | list[str]] = {}
    """Other verifier -> what it said of each trace, in the same form and shape as `label`."""
    finish_reason: str | list[str] | None = None
    """Why each trace ended, in any service's words (`redi_ray.text.finish`; an unknown one is not finished), shaped like
    `completion`. Where the data do not say, a trace that shows signs of being cut off, or of a loop, is marked so
    (`redi_ray.text.loops`)."""
    tool_blocks: bool = False
    """Whether a block in a trace that begins with a line of three backticks and `output`, behind a block of code, is what a tool
    gave back: the trace then has several turns, the tool's among them, which are never scored."""
    model: str | None = None
    """Who wrote the trace; with several completion columns each column's name stands for it."""

    @model_validator(mode="after")
    def _same_shape(self) -> Columns:
        completions = self.completion if isinstance(self.completion, list) else [self.completion]
        for name, told in {**self.voted, "reasoning": self.reasoning, "finish_reason": self.finish_reason}.items():
            columns = told if isinstance(told, list) else [told]
            if told is not None and len(completions) != len(columns):
                raise ValueError(
                    f"{len(columns)} {name} columns for {len(completions)} completion columns; give one for each"
                )
        return self

    @property
    def of_tests(self) -> tuple[str | None, str | None, str | None]:
        """The columns of tests, of the function that they call, and of what they need."""
        return self.tests, self.entry_point, self.test_setup

    @property
    def voted(self) -> dict[str, str | list[str]]:
        """Verifier -> column, or columns, of its votes, `label` among them."""
        return ({} if self.label is None else {"label": self.label}) | self.votes


class FileSet(Strict):
    """Parquet, Arrow, JSON or CSV (gzip, zstd, bz2, xz and lz4 too), local or on S3."""

    kind: Literal["files"] = "files"
    paths: list[str] = []
    """Files or folders. In a folder, hidden files and files about the data are left out; data that cannot be read is an
    error."""


class FilesSource(FileSet):
    """Parquet, Arrow, JSON or CSV (gzip, zstd, bz2, xz and lz4 too), local or on S3; with traces in the rows, or without."""

    columns: Columns = Columns()
    """Which column is what."""


class ExerciseSource(ExerciseSet):
    """The built-in exercises, as problems with traces, read by their columns as files are. No download."""

    rows: Literal["word_problems", "programs", "advice"]  # type: ignore[assignment]
    """Which ones; `ExerciseSet` says what their rows hold."""
    columns: Columns = Columns()
    """Which column is what."""


class HubSet(Strict):
    """A data set of the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    dataset: str
    """Its name, such as `openai/gsm8k`."""
    subset: str | None = None
    """Its configuration, if it has several."""
    split: str = "train"
    """Which split."""
    revision: str | None = None
    """A commit or tag, to pin it."""


class HubSource(HubSet):
    """A data set of the Hugging Face hub, of problems with or without traces."""

    columns: Columns = Columns()
    """Which column is what."""


class OpenR1Source(Strict):
    """OpenR1-Math-Raw, with its generations and both verdict columns, by the paper's rule (METHOD, Data)."""

    kind: Literal["openr1"] = "openr1"
    dataset: str = "open-r1/OpenR1-Math-Raw"
    """Name on the hub, used when `paths` is empty."""
    paths: list[str] = []
    """Local or S3 copies of its Parquet files (or JSON lines)."""
    revision: str | None = None
    """A commit or tag, to pin it."""
    drop_sources: list[str] = ["cn_k12"]
    """Sources left out."""
    require_valid: bool = True
    """Keep only rows whose `problem_is_valid` is yes, in any case of letters."""


class NoSource(Strict):
    """No problems: the config trains on imported sets only."""

    kind: Literal["none"] = "none"


RowSource = FilesSource | HubSource | OpenR1Source | ExerciseSource
"""Rows that become problems, or rejects."""
OneSource = Annotated[
    ArithmeticSource | ToolArithmeticSource | QuerySource | FilesSource | HubSource | OpenR1Source | ExerciseSource,
    Field(discriminator="kind"),
]
"""Rows of one kind."""
Source = Annotated[
    ArithmeticSource
    | ToolArithmeticSource
    | QuerySource
    | FilesSource
    | HubSource
    | OpenR1Source
    | ExerciseSource
    | MixSource
    | NoSource,
    Field(discriminator="kind"),
]


class ProblemsStep(SourceSettings):
    """Problems of one source, with columns of its own, to be mixed with others or asked as they are."""

    do: Literal["problems"]
    """The kind of step."""
    source: OneSource
    """Where they come from."""

    @model_validator(mode="after")
    def _has_what_verifies(self) -> ProblemsStep:
        columns: Columns | None = getattr(self.source, "columns", None)
        if self.verified_by == "tests" and (columns is None or columns.tests is None):
            raise ValueError("verified_by: tests, but no column of tests is named: set source.columns.tests")
        return self


DataSet = Annotated[FileSet | HubSet | OrderSet | ExerciseSet, Field(discriminator="kind")]
"""Where an imported set lies."""


class ImportTraces(Strict):
    """Use the traces that the problems' rows hold (`problems.source.columns.completion`, or openr1's generations)."""

    kind: Literal["import"] = "import"


class SampledTraces(Strict):
    """Sampling in rounds: every problem without a correct trace is sampled again, up to a cap."""

    HOW: ClassVar[frozenset[str]] = frozenset({"shard_rows", "engine"})
    LATER: ClassVar[frozenset[str]] = frozenset({"logprobs", "frontier"})
    """See `redi_ray.config.identity`; the engine in force, which may be the run's own, is asked beside."""

    samples_per_round: int = Field(4, ge=1)
    """Traces per unsolved problem and round."""
    max_rounds: int = Field(1, ge=1)
    """Cap on the rounds."""
    temperature: float = Field(0.6, ge=0)
    """Sampling temperature."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus."""
    max_tokens: int = Field(16384, ge=1)
    """Longest completion in tokens."""
    seed: int = 42
    """Every sample has its own seed, derived from this one, the problem and the sample's index."""
    loops: LoopSettings = LoopSettings()
    """Traces that repeat themselves to no end: how they are told, and whether the engine stops them."""
    prompt: PromptSettings | None = None
    """The teacher's prompt, if it differs from `model.prompt`. The prefix must be the same."""
    tools: ToolSettings | None = None
    """Tools that the model may call between turns of its own, and the sandbox in which they run. Null: a trace is one turn."""
    logprobs: bool = False
    """Keep of each sampled token the log-prob that the engine has of it: the model's own, before temperature and top-p. A step
    `logps` without a model makes a column of them."""
    frontier: Frontier | None = None
    """Later rounds go where pairs are to be had; null samples what has no right trace yet."""
    shard_rows: int = Field(256, ge=1)
    """Traces per output file, which is also what a crash can cost."""

    @model_validator(mode="after")
    def _are_of_what_is_trained(self) -> SampledTraces:
        told = {"tools": self.tools is not None, "prompt": self.prompt is not None}
        if self.logprobs and (fault := logprobs_fault(**told, endpoint=isinstance(self, EndpointTraces))) is not None:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _later_rounds(self) -> SampledTraces:
        if self.frontier is not None and self.max_rounds == 1:
            raise ValueError(
                "frontier: it is about the rounds after the first, and max_rounds is 1; raise that, or leave it out"
            )
        return self


class VllmTraces(SampledTraces):
    """Sample traces with vLLM, loaded here."""

    kind: Literal["vllm"] = "vllm"
    model: str = BASE
    """A Hugging Face folder (local, s3://) or hub name; `base` is this run's own base model."""
    engine: EngineSettings | None = None
    """The teacher's engines, in place of `resources.engine` as a whole: what is left out here has its default."""

    @model_validator(mode="after")
    def _calls_in_text(self) -> VllmTraces:
        if self.tools is not None and self.tools.native:
            raise ValueError("tools.native is for endpoints; a model that is loaded here calls in its text")
        return self


class EndpointTraces(SampledTraces):
    """Sample traces from an OpenAI-compatible server: a vLLM or SGLang server, or a hosted API."""

    kind: Literal["endpoint"] = "endpoint"
    endpoint: EndpointSettings
    """The server, its model, and how fast it may be asked."""
    force_prefix: bool = False
    """Have the answer begin with `prompt.prefix` (`continue_final_message`, which vLLM and SGLang servers know). Else its
    thoughts are those that the server's own chat template or a reasoning parser brings about."""


class NoTraces(Strict):
    """No traces, and so nothing that comes from them: no verdicts, no curation, no stage 1, no arms. What is trained are the
    steps of `steps`."""

    kind: Literal["none"] = "none"


Generate = Annotated[ImportTraces | VllmTraces | EndpointTraces | NoTraces, Field(discriminator="kind")]
