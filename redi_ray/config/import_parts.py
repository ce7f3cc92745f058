"""Settings of the step `import` that few sets need: which side of a split is taken, samples as questions to a judge, calls of
tools that stand beside the text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from redi_ray.config.section import Strict

DIALOGUE, ANSWER, SCORE = "{dialogue}", "{answer}", "{score}"
"""Stand in a question to a judge for what was said before and for the answer that is judged, and in a verdict for its reward."""


CALL, TOOLS = "{call}", "{tools}"
"""Stand for a call of a tool, and for what describes the tools."""


class TopicSplit(Strict):
    """Which rows of a set are taken, so that no topic is both learnt from and held out: `train`, the rows to learn from; `seen`,
    held-out rows of the same topics; `unseen`, all rows of the topics that are held out. Steps that import one set must agree
    in all but `take`; a row that says the same under topics of two sides ends the import. Topics are told apart by
    more than case and white space."""

    by: str
    """Column of the topic; dots reach into nested columns."""
    held_out: list[str] = Field(min_length=1)
    """Topics of which nothing is learnt."""
    seen_share: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts of all other topics that is held out, too; rows whose first turn is the same are on one side."""
    seed: int = 0
    """Which prompts these are."""
    take: Literal["train", "seen", "unseen"] = "train"
    """Which rows this step takes."""


class WrittenCalls(Strict):
    """Calls of tools that a chat keeps beside its text (OpenAI's `tool_calls` and `function_call`), written into it: each behind
    what its turn says, and what tools there are into the system turn. What the model learns to write is what is read from its
    text later, so both are to be what the model knows."""

    form: str = f"<tool_call>\n{CALL}\n</tool_call>"
    """A call; `{call}` is the JSON of its name and arguments."""
    told: str | None = f"Tools, each called by its name and arguments as JSON in <tool_call></tool_call>:\n{TOOLS}"
    """What is said of the tools that a row's column `tools` describes, behind its system turn; `{tools}` is a line of JSON for
    each. Null says nothing of them."""
    column: str = "tools"
    """That column."""

    @field_validator("form")
    @classmethod
    def _holds_a_call(cls, value: str) -> str:
        if value.count(CALL) != 1:
            raise ValueError(f"the form must hold {CALL} once")
        return value

    @field_validator("told")
    @classmethod
    def _tells_of_tools(cls, value: str | None) -> str | None:
        if value is not None and value.count(TOOLS) != 1:
            raise ValueError(f"what is told of tools must hold {TOOLS} once")
        return value


class JudgeQuestions(Strict):
    """Samples with rewards as questions to a judge: what is asked is how good an answer is, what is learnt is its reward."""

    question: str = f"How good is the last answer?\n\n{DIALOGUE}\n\nThe last answer: {ANSWER}"
    """What is asked, put into `model.prompt.template`: `{dialogue}` is all that was said before, a line for each turn, `{answer}`
    what is judged."""
    verdict: str = f"\\boxed{{{SCORE}}}"
    """What is learnt to be said; `{score}` is the reward, a whole number without a point."""

    @field_validator("question")
    @classmethod
    def _asks(cls, value: str) -> str:
        if ANSWER not in value:
            raise ValueError(f"the question must hold {ANSWER}, where the answer that is judged stands")
        return value

    @field_validator("verdict")
    @classmethod
    def _says(cls, value: str) -> str:
        if value.count(SCORE) != 1:
            raise ValueError(f"the verdict must hold {SCORE} once")
        return value
