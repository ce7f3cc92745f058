"""Rows of an imported set -> answers to a prompt, or why a row is none. What cannot be kept of a chat is refused, never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.calls import told_of_tools, with_calls, with_tools
from redi_ray.data.sources.chats import BadChat, is_chat, joined, read_turns
from redi_ray.data.sources.import_answers import Answered, LeftOut, Member, Message, is_finished
from redi_ray.data.sources.import_steps import Parting, part
from redi_ray.data.sources.rows import lookup
from redi_ray.data.sources.shapes import Layout
from redi_ray.data.sources.values import BadValue, read_id, read_number, read_vote, shown
from redi_ray.schemas import Verdict
from redi_ray.text.blocks import with_blocks_apart
from redi_ray.text.prompts import strip_prefix, to_messages

Row = Mapping[str, Any]
ATTEMPTS = ("unpaired", "rollouts")
"""Shapes of answers that a label or a reward comes with, wrong ones among them."""
WITHOUT_PREFIX = "without_prefix"
"""Ends the drop reason of an answer that does not begin as `model.prompt.prefix` has it."""


@dataclass(frozen=True)
class RowReader:
    """Reads rows of one set."""

    layout: Layout
    settings: ImportSettings
    prompt: PromptSettings

    def __call__(self, row: Row) -> Answered:
        """Raises LeftOut."""
        by_shape: dict[str, Callable[[Row], tuple[list[Message], list[Member]]]] = {
            "preference": self._preference, "sft": self._answer, "unpaired": self._labelled, "rollouts": self._rollouts,
            "steps": self._steps,
        }  # fmt: skip
        prompt, members = by_shape[self.layout.shape](row)
        prompt = self._with_tools(row, self._with_system(row, prompt))
        names = ("chosen", "rejected") if self.layout.shape == "preference" else ("answer",) * len(members)
        for name, member in zip(names, members, strict=True) if self.settings.judge is None else ():
            self._check_beginning(name, member.turns[0]["content"])
        return Answered(self._asked(prompt), members, read_id(self._value(row, "id")))

    # ------------------------------------------------------------------------------------------------------ the five shapes

    def _preference(self, row: Row) -> tuple[list[Message], list[Member]]:
        prompt = self._prompt(row) if "prompt" in self.layout.columns else None
        better, worse = self._side(row, "chosen"), self._side(row, "rejected")
        if _said(better) == _said(worse):
            raise LeftOut("same_sides", "chosen and rejected are equal", by_rule=True)
        if "begun" in self.layout.columns:
            return self._prompt(row), self._going_on(row, better, worse)
        if better[0]["role"] != "assistant" or worse[0]["role"] != "assistant":
            begun, better, worse = _parted(better, worse)
            prompt = _agreed(prompt, begun)
        elif prompt is None:
            raise LeftOut(
                "no_prompt", "chosen and rejected are answers alone, and no column has the prompt: set columns.prompt"
            )
        sides = (("chosen", better, +1), ("rejected", worse, -1))
        return prompt, [
            Member(turns, side, self._number(row, f"score_{name}"), is_finished(self._value(row, f"finish_{name}")))
            for name, turns, side in sides
        ]

    def _going_on(self, row: Row, better: list[Message], worse: list[Message]) -> list[Member]:
        """Sides that go on with an answer that has begun."""
        begun = self._value(row, "begun")
        if not isinstance(begun, str | None) or len(better) > 1 or len(worse) > 1:
            raise LeftOut(
                "bad_begun", f"{self._told(row, 'begun')}; both sides must be one text each, which goes on from a text"
            )
        found = Parting(begun or "", better[0]["content"], worse[0]["content"])
        return [found.member(+1), found.member(-1)]

    def _answer(self, row: Row) -> tuple[list[Message], list[Member]]:
        prompt, turns = self._chat(row)
        return prompt, [Member(turns, +1, finished=is_finished(self._value(row, "finish_reason")))]

    def _labelled(self, row: Row) -> tuple[list[Message], list[Member]]:
        prompt, turns = self._chat(row)
        try:
            vote = read_vote(value := self._value(row, "label"))
        except BadValue as error:
            raise LeftOut("bad_label", f"{self._told(row, 'label')}, {error}") from error
        if vote not in (Verdict.CORRECT, Verdict.WRONG):
            raise LeftOut("no_label", f"column `{self.layout.columns['label']}` holds {shown(value)}")
        side = +1 if vote == Verdict.CORRECT else -1
        return prompt, [Member(turns, side, finished=is_finished(self._value(row, "finish_reason")))]

    def _rollouts(self, row: Row) -> tuple[list[Message], list[Member]]:
        answers = self._value(row, "completion")
        if not isinstance(answers, list) or is_chat(answers):
            prompt, turns = self._chat(row)
            return prompt, [self._sample(row, turns, self._number(row, "reward"), self._value(row, "finish_reason"))]
        if not answers:
            raise LeftOut("no_completion", f"column `{self.layout.columns['completion']}` holds an empty list")
        told = {name: self._listed(row, name, len(answers)) for name in ("reasoning", "reward", "finish_reason")}
        members = []
        for number, answer in enumerate(answers):
            turns = self._turns(row, "completion", joined(told["reasoning"][number], answer))
            reward = self._as_number(row, "reward", told["reward"][number])
            members.append(self._sample(row, turns, reward, told["finish_reason"][number]))
        return self._prompt(row), members

    def _steps(self, row: Row) -> tuple[list[Message], list[Member]]:
        right, wrong, told = (self._value(row, name) for name in ("steps_right", "steps_wrong", "first_error"))
        written = {"header": self.settings.step_header, "separator": self.settings.step_separator}
        found = part(right, wrong, told, has_told="first_error" in self.layout.columns, **written)
        return self._prompt(row), [found.member(+1), found.member(-1)]

    def _sample(self, row: Row, turns: list[Message], reward: float | None, reason: Any) -> Member:
        if reward is None:
            raise LeftOut("no_reward", self._told(row, "reward"))
        return Member(turns, +1 if reward > self.settings.positive_above else -1, reward, is_finished(reason))

    def _listed(self, row: Row, name: str, count: int) -> list[Any]:
        """A value for each sample; nulls where the set has no such column."""
        value = self._value(row, name)
        if value is None:
            return [None] * count
        if not isinstance(value, list) or len(value) != count:
            have = len(value) if isinstance(value, list) else "one"
            raise LeftOut(f"{name}_length", f"{have} in column `{self.layout.columns[name]}` for {count} samples")
        return value

    # ----------------------------------------------------------------------------------------------------- prompt and answer

    def _chat(self, row: Row) -> tuple[list[Message], list[Message]]:
        """Prompt, and what answers it."""
        if "messages" not in self.layout.columns:
            thought, answer = self._value(row, "reasoning"), self._value(row, "completion")
            return self._prompt(row), self._turns(row, "completion", joined(thought, answer))
        turns = self._read(row, "messages", "user")
        first = next((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), None)
        if first is None or not self._may_end(turns):
            raise LeftOut(
                "unanswered", f"the chat ends with a turn of the {turns[-1]['role']}, which no answer follows"
            )
        if first == 0 or all(turn["role"] == "system" for turn in turns[:first]):
            raise LeftOut("no_prompt", "the chat begins with an answer")
        self._check_texts(turns[first:], "completion")
        return turns[:first], turns[first:]

    def _prompt(self, row: Row) -> list[Message]:
        value = self._value(row, "prompt")
        more = self._value(row, "input")  # Alpaca's
        if isinstance(value, str) and isinstance(more, str) and more.strip():
            value = f"{value}\n\n{more}"
        turns = self._read(row, "prompt", "user", value)
        if turns[-1]["role"] == "assistant":
            raise LeftOut("no_prompt", "the prompt ends with an answer; put that into the answer's own column")
        if not turns[-1]["content"].strip():
            raise LeftOut("no_prompt", self._told(row, "prompt"))
        return turns

    def _side(self, row: Row, name: str) -> list[Message]:
        turns = self._read(row, name, "assistant")
        self._check_texts(turns, name)
        if turns[-1]["role"] != "assistant":
            raise LeftOut(
                "unanswered", f"column `{self.layout.columns[name]}` ends with a turn of the {turns[-1]['role']}"
            )
        return turns

    def _turns(self, row: Row, name: str, value: Any) -> list[Message]:
        """The turns of an answer that stands alone."""
        turns = self._read(row, name, "assistant", value)
        if turns[0]["role"] != "assistant" or not self._may_end(turns):
            roles = ", ".join(turn["role"] for turn in turns)
            raise LeftOut(
                "no_completion",
                f"column `{self.layout.columns[name]}` has the turns {roles}; an answer begins and ends with the assistant's. "
                "Of a whole chat name the column as columns.messages",
            )
        self._check_texts(turns, name)
        return turns

    def _with_system(self, row: Row, prompt: list[Message]) -> list[Message]:
        """The prompt behind what the row says before all."""
        value = self._value(row, "system")
        if value is None or (isinstance(value, str) and not value.strip()):
            return prompt
        if not isinstance(value, str):
            raise LeftOut("bad_system", f"{self._told(row, 'system')}, and a system turn is text")
        if prompt[0]["role"] != "system":
            return [{"role": "system", "content": value}, *prompt]
        if prompt[0]["content"].strip() != value.strip():
            raise LeftOut("two_systems", f"{self._told(row, 'system')}, and the chat begins with another system turn")
        return prompt

    def _with_tools(self, row: Row, prompt: list[Message]) -> list[Message]:
        """The prompt with what the row says of its tools, where calls are written into texts."""
        if (how := self.settings.calls) is None:
            return prompt
        try:
            return with_tools(prompt, told_of_tools(row, how))
        except BadChat as error:
            raise LeftOut(error.reason, str(error)) from error

    def _may_end(self, turns: list[Message]) -> bool:
        """Whether a chat may end so. A tool has the last word in attempts that were broken off."""
        last = turns[-1]["role"]
        return last == "assistant" or (last == "tool" and self.layout.shape in ATTEMPTS)

    def _check_texts(self, turns: Sequence[Message], name: str) -> None:
        """Nobody should learn to say nothing, but an attempt may have a turn in which nothing was said."""
        first = next((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), 0)
        if any(turn["role"] == "system" for turn in turns[first:]):
            raise LeftOut("late_system", "a system turn stands behind an answer, where no template writes one")
        empty = [not turn["content"].strip() for turn in turns if turn["role"] == "assistant"]
        if all(empty) or (any(empty) and self.layout.shape not in ATTEMPTS):
            raise LeftOut(f"no_{name}", "the answer is empty")

    def _asked(self, prompt: list[Message]) -> list[Message]:
        """The prompt as it is trained: as it is, or a bare problem as the evaluation asks it."""
        if self.settings.prompts == "chats":
            return prompt
        if [turn["role"] for turn in prompt] != ["user"]:
            roles = ", ".join(turn["role"] for turn in prompt)
            raise LeftOut(
                "no_problem", f"the prompt has the turns {roles}, and prompts: problems takes one of the user's"
            )
        return to_messages(prompt[0]["content"], self.prompt)

    def _check_beginning(self, name: str, text: str) -> None:
        if strip_prefix(text, self.prompt) is None:
            raise LeftOut(f"{name}_{WITHOUT_PREFIX}", text, by_rule=True)

    # -------------------------------------------------------------------------------------------------------------- columns

    def _value(self, row: Row, name: str) -> Any:
        return lookup(dict(row), self.layout.columns.get(name))

    def _read(self, row: Row, name: str, role: Any, value: Any = None) -> list[Message]:
        value = self._value(row, name) if value is None else value
        try:
            turns = read_turns(value if self.settings.calls is None else with_calls(value, self.settings.calls), role)
        except BadChat as error:
            raise LeftOut(error.reason, f"column `{self.layout.columns[name]}`: {error}") from error
        if not turns:
            raise LeftOut(f"no_{name}", self._told(row, name))
        return with_blocks_apart(turns) if self.settings.tool_blocks else turns

    def _number(self, row: Row, name: str) -> float | None:
        return self._as_number(row, name, self._value(row, name))

    def _as_number(self, row: Row, name: str, value: Any) -> float | None:
        try:
            return read_number(value)
        except BadValue as error:
            field = f"; name the field that counts, as columns.{name}" if isinstance(value, dict) else ""
            raise LeftOut(f"bad_{name}", f"{self._told(row, name)}: {error}{field}") from error

    def _told(self, row: Row, name: str) -> str:
        column, found = self.layout.columns[name], self._value(row, name)
        if found is None:
            return f"column `{column}` is missing or null; the row has {', '.join(row)}"
        return f"column `{column}` holds {shown(found)}"


def _said(turns: Sequence[Message]) -> list[tuple[str, str]]:
    """Roles and texts, white space around them aside."""
    return [(turn["role"], turn["content"].strip()) for turn in turns]


def _parted(better: list[Message], worse: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Two whole chats -> the prompt that both begin with, and the turns of each from where the model's own begin to differ."""
    ours, theirs = _said(better), _said(worse)
    at = next(
        (n for n, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other),
        min(len(ours), len(theirs)),
    )
    while at > 0 and not all(at < len(side) and side[at][0] == "assistant" for side in (ours, theirs)):
        at -= 1
    if at == 0 or better[at - 1]["role"] == "assistant":
        raise LeftOut(
            "no_shared_prompt", "chosen and rejected are whole chats that do not begin with the same question"
        )
    return better[:at], better[at:], worse[at:]


def _agreed(prompt: list[Message] | None, begun: list[Message]) -> list[Message]:
    """The longer of the prompt's column and what both chats begin with, where one ends with the other."""
    if prompt is None:
        return begun
    told, found = _said(prompt), _said(begun)
    if found[-len(told) :] == told:
        return begun
    if told[-len(found) :] == found:
        return prompt
    raise LeftOut("two_prompts", "the chats do not begin with what the prompt's column says")
