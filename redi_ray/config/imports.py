"""Settings of the step `import`: where a set lies, of which shape it is, which column is what."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from redi_ray.config.data import DataSet
from redi_ray.config.import_parts import JudgeQuestions, TopicSplit, WrittenCalls
from redi_ray.config.section import Strict

Shape = Literal["preference", "sft", "unpaired", "rollouts", "steps"]
COLUMNS: dict[Shape, tuple[str, ...]] = {
    "preference": (
        "prompt",
        "system",
        "begun",
        "chosen",
        "rejected",
        "score_chosen",
        "score_rejected",
        "finish_chosen",
        "finish_rejected",
        "id",
    ),
    "sft": ("prompt", "system", "messages", "completion", "reasoning", "finish_reason", "id"),
    "unpaired": ("prompt", "system", "messages", "completion", "reasoning", "label", "finish_reason", "id"),
    "rollouts": ("prompt", "system", "messages", "completion", "reasoning", "reward", "finish_reason", "id"),
    "steps": ("prompt", "steps_right", "steps_wrong", "first_error", "id"),
}
"""What each shape reads."""


class ImportColumns(Strict):
    """Where a row of an imported set keeps what; dots reach into nested columns and lists (`responses.0`). Null: found by the
    usual names."""

    prompt: str | None = None
    """What is answered: text, which becomes the user's turn as it is, or a chat. A preference set of whole chats needs none:
    what both begin with is the prompt."""
    system: str | None = None
    """What is said before all, as text; it becomes the system turn of a chat that has none."""
    messages: str | None = None
    """A whole chat, the answer at its end."""
    completion: str | None = None
    """The answer; of rollouts it may be a list of all samples."""
    reasoning: str | None = None
    """The answer's thought where it stands apart, shaped like `completion`: both become one text, the thought in `<think>`
    first."""
    chosen: str | None = None
    """The better answer."""
    rejected: str | None = None
    """The worse one."""
    begun: str | None = None
    """What both answers have begun with and is not learnt: text before `chosen` and `rejected`, such as the steps up to the one
    in which they part, its header included. No end of turn follows those, which need not be whole answers."""
    score_chosen: str | None = None
    """Kept as the chosen answer's reward."""
    score_rejected: str | None = None
    """Kept as the rejected answer's reward."""
    label: str | None = None
    """Whether the answer is wanted: true or false, 1 or 0, yes or no, correct or wrong."""
    reward: str | None = None
    """A number for each sample, shaped like `completion`."""
    finish_reason: str | None = None
    """Why the answer ended, in any service's words, or whether it ended by itself, shaped like `completion`; no end of turn is
    learnt for one that was cut off."""
    finish_chosen: str | None = None
    """The same of the chosen answer."""
    finish_rejected: str | None = None
    """The same of the rejected one."""
    steps_right: str | None = None
    """The steps of a right solution, a list of texts."""
    steps_wrong: str | None = None
    """The steps of a wrong one, which begins with the same."""
    first_error: str | None = None
    """Which of them is the first wrong one, from 0; null where none is. Without such a column it is the first that differs."""
    id: str | None = None
    """The problem's id. Samples of one prompt and id belong together; an id that starts again in another file, under another
    prompt, is another problem."""

    @property
    def given(self) -> dict[str, str]:
        """Columns that the user has named."""
        return {name: column for name, column in self.model_dump().items() if column is not None}


class ImportSettings(Strict):
    """A set of preferences, answers, labelled answers or samples with rewards, made by whom ever: the start of a graph."""

    LATER: ClassVar[frozenset[str]] = frozenset({"split", "judge", "calls"})
    """See `redi_ray.config.identity`."""

    source: DataSet
    """`files`, `hub`, `orders`, a built-in world of dialogues, or `exercises` (`rows: rated`), built-in answers with labels."""
    shape: Literal["auto", "preference", "sft", "unpaired", "rollouts", "steps"] = "auto"
    """What a row is. `auto` tells it by the columns: a chosen and a rejected answer, an answer, an answer with a label, samples
    with rewards, a right and a wrong solution in steps."""
    columns: ImportColumns = ImportColumns()
    """Which column is what, where the names do not tell."""
    prompts: Literal["chats", "problems"] = "chats"
    """What a prompt is. `chats`: all that is asked, rendered by the model's chat template as it stands, nothing added but
    `model.prompt.prefix`. `problems`: a bare problem, put into `model.prompt.template` behind `model.prompt.system`, as the
    evaluation asks it."""
    positive_above: float = 0.0
    """A sample of `rollouts` with a higher reward is on the side +1, any other on -1."""
    step_header: str = ""
    """Of `steps`: what every step is written behind, `{k}` its number from 1, such as `Step {k}:`. The header of the step that is
    learnt is context, as all before it."""
    step_separator: str = "\n"
    """Of `steps`: what stands between two of them."""
    tool_blocks: bool = False
    """Whether a block that begins with a line of three backticks and `output`, behind a block of code, is what a tool gave back.
    It becomes a turn of the tool's, which is never scored; so does a user's turn that is nothing but such a block."""
    calls: WrittenCalls | None = None
    """How calls of tools that stand beside a turn's text are written into it, as `{}` in the form `<tool_call>` that many models
    know. Null: such rows are rejected, since the calls would be lost."""
    keep_duplicates: bool = False
    """Keep rows that say what an earlier one has said; else they are dropped, and counted. Samples of `rollouts` in rows of
    their own always stay."""
    max_rows: int | None = Field(None, ge=1)
    """Read the first so many rows."""
    split: TopicSplit | None = None
    """Takes one side of the set, split by topic; the rows of the others are dropped, and counted."""
    judge: JudgeQuestions | None = None
    """Of `rollouts`: makes of each sample what a judge is asked about it, with its reward as the answer that is learnt."""
    seed: int = 42
    """Decides the order of training."""

    @model_validator(mode="after")
    def _columns_fit_the_shape(self) -> ImportSettings:
        if self.judge is not None and (self.shape not in ("auto", "rollouts") or self.prompts != "chats"):
            raise ValueError(
                "judge is for samples with rewards (shape: rollouts), whose prompts are taken as they are (chats)"
            )
        if self.shape == "auto":
            return self
        kept = COLUMNS[self.shape]
        if odd := [name for name in self.columns.given if name not in kept]:
            raise ValueError(
                f"columns.{odd[0]} is none of a {self.shape} set's; it has {', '.join(kept)} (or set another `shape`)"
            )
        return self


def with_imported_start(raw: dict[str, Any]) -> dict[str, Any]:
    """A config as it is written, made explicit where `steps` imports what is learnt from: without `generate` there are no
    traces and no arms, and without `problems` besides, no problems."""
    steps, generate = raw.get("steps"), raw.get("generate")
    imports = isinstance(steps, dict) and any(isinstance(s, dict) and s.get("do") == "import" for s in steps.values())
    if imports and generate is None:
        raw = {**raw, "generate": {"kind": "none"}}
        if raw.get("problems") is None:
            raw["problems"] = {"source": {"kind": "none"}}
    generate, redi = raw.get("generate"), raw.get("redi") or {}
    none = isinstance(generate, dict) and generate.get("kind") == "none"
    return {**raw, "redi": {"arms": {}, **redi}} if none and isinstance(redi, dict) else raw
